"""The page in a real headless Chromium that Playwright drives: as people use it, without a mouse, on a phone."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from upload_files import grey, hostile

from mriqa.page.judge import DISTORTIONS

pytest.importorskip("gradio", reason="the page needs pip install 'mriqa[page]'")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("there is no Chromium on this machine", allow_module_level=True)

TOKEN = "0123456789abcdef"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]

# Everything that can be operated; files are chosen by the button before their field.
INTERACTIVE = """() => [...document.querySelectorAll('a[href], button, input, select, textarea, [tabindex="0"]')]
  .filter(e => e.type !== 'file' && !e.disabled && e.checkVisibility())
  .map((e, number) => { e.dataset.number = number; return e.getAttribute('aria-label') || e.innerText || e.type; })"""
FOCUSED = """() => { const e = document.activeElement, box = e.closest('label') || e;
  const rings = e => { const style = getComputedStyle(e); return [style.outlineStyle, style.boxShadow]; };
  return [e.dataset.number ?? null, [...rings(e), ...rings(box)].some(ring => ring !== 'none')]; }"""


@pytest.fixture(scope="module")
def serve(scorer, tmp_path_factory) -> Iterator[Callable[..., str]]:
    """A function that serves the page from this process and returns its address."""
    import uvicorn

    from mriqa.page.server import make_app
    from mriqa.serving.limits import Limits

    servers = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))

        def start(token: str | None = None) -> str:
            app = make_app(scorer, Limits(images=8, file_bytes=2**20), token)
            server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
            thread = threading.Thread(target=server.run)
            thread.start()
            servers.append((server, thread))
            while not server.started and thread.is_alive():
                time.sleep(0.02)
            return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

        yield start
        for server, thread in servers:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address(serve) -> str:
    return serve()


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(browser, address: str, width: int = 1280) -> Iterator[sync_api.Page]:
    """The page at a width; at the end it must have said nothing on the console and asked nobody else for anything."""
    context = browser.new_context(viewport={"width": width, "height": 780})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda sent: None if _is_ours(sent.url, address) else complaints.append(sent.url))
    page.goto(address)
    yield page
    context.close()
    assert complaints == []


def _is_ours(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))


def drop(page: sync_api.Page, files: dict[str, bytes]) -> None:
    uploads = [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in files.items()]
    page.locator("input[type=file]").first.set_input_files(uploads)
    page.locator("#cards .mq-count").wait_for()


def scores(page: sync_api.Page) -> dict[str, float]:
    names = page.locator("#cards .mq-name").all_inner_texts()
    return dict(zip(names, map(float, page.locator("#cards .mq-score b").all_inner_texts()), strict=True))


def test_drop_sort_and_distort_by_keyboard(browser, address):
    bad = hostile()
    with opened(browser, address) as page:
        drop(page, {"grey.png": grey(102), "light.png": grey(204), **{name: data for name, (data, _) in bad.items()}})
        assert list(scores(page).items()) == [("light.png", 4.2), ("grey.png", 2.6)]
        # Two answers at even odds, half a point to either side of the mean.
        assert page.locator("#cards .mq-bars").first.get_attribute("d").count("M") == 2
        reasons = page.locator("#cards .mq-refused li").all_inner_texts()
        assert [reason.split(":")[0] for reason in reasons] == list(bad)

        page.get_by_role("radio", name="Worst first").focus()
        page.keyboard.press("Space")
        sync_api.expect(page.locator("#cards .mq-name").first).to_have_text("grey.png")

        page.get_by_label("Show where it is bad").focus()
        page.keyboard.press("Space")
        page.locator("#cards .mq-scale").wait_for()
        mapped = page.locator("#cards .mq-mapped")
        assert mapped.count() == 2 and mapped.first.get_attribute("alt") == "grey.png, where it is bad and good"
        page.get_by_label("Show where it is bad").focus()
        page.keyboard.press("Space")
        sync_api.expect(page.locator("#cards .mq-mapped")).to_have_count(0)

        page.locator("#distortion input").focus()
        for _ in range(list(DISTORTIONS).index("Too dark")):
            page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        figure = page.locator("#distorted .mq-score b")
        sync_api.expect(page.locator("#curve .mq-plot")).to_have_attribute("aria-label", re.compile("Too dark"))
        before, dot = float(figure.inner_text()), page.locator("#curve circle").get_attribute("cx")
        page.locator("#severity input[type=range]").focus()
        for _ in range(8):
            page.keyboard.press("ArrowRight")
        sync_api.expect(page.locator("#distorted img")).to_have_attribute("alt", "Too dark, severity 0.80")
        assert float(figure.inner_text()) < before - 0.1
        assert float(page.locator("#curve circle").get_attribute("cx")) > float(dot)


def test_fits_a_phone_and_is_all_reached_by_tab(browser, address):
    with opened(browser, address, width=360) as page:
        width = "document.scrollingElement.scrollWidth"
        page.locator("#pictures button").first.wait_for()
        assert page.evaluate(width) <= 360
        drop(page, {"a" * 200 + ".png": grey(50), "wide.png": grey(99, (900, 30)), "tall.png": grey(7, (30, 900))})
        page.locator("#curve .mq-plot").wait_for()
        assert page.evaluate(width) <= 360
        assert page.evaluate(INTERACTIVE)[-1].startswith("range slider")
        wanted = {str(number) for number in range(len(page.evaluate(INTERACTIVE)))}
        reached, bare = set(), set()
        for _ in range(2 * len(wanted)):
            page.keyboard.press("Tab")
            number, has_ring = page.evaluate(FOCUSED)
            reached.add(number)
            bare |= set() if has_ring or number is None else {number}
        assert wanted <= reached and not bare
        unnamed = "() => [...document.images].filter(e => !e.alt).length"
        assert page.evaluate(unnamed) == 0


def test_too_many_pictures_are_one_sentence_and_removing_one_scores_the_rest(browser, address):
    with opened(browser, address) as page:
        page.locator("input[type=file]").first.set_input_files(
            [{"name": f"{n}.png", "mimeType": "image/png", "buffer": grey(20 * n)} for n in range(9)]
        )
        sync_api.expect(page.get_by_text("9 pictures are too many: drop at most 8.")).to_be_visible()
        page.get_by_role("button", name="Remove this file").first.click()
        page.locator("#cards .mq-count").wait_for()
        assert list(scores(page)) == [f"{n}.png" for n in range(8, 0, -1)]


def test_password(browser, serve):
    address = serve(TOKEN)
    with opened(browser, address) as page:
        page.locator("input[type=password]").wait_for()
        assert page.locator("#pictures").count() == 0
        page.locator("input[type=text], textarea").first.fill("anybody")
        page.locator("input[type=password]").fill(TOKEN)
        page.keyboard.press("Enter")
        drop(page, {"grey.png": grey(102)})
        assert scores(page) == {"grey.png": 2.6}
