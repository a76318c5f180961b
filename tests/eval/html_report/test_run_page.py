"""The page: complete, self-contained, readable by those who hear it, and safe with odd names."""

import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from small_protocol import no_scorer, write_data, write_protocol, write_scores

from mriqa.eval.html_report.svg_charts import interval_chart
from mriqa.eval.html_report.thumbnails import extremes
from mriqa.eval.predictors import open_predictors
from mriqa.eval.protocol_run import run_protocol
from mriqa.eval.protocols import load_protocol

VOID = {"meta", "link", "img", "br", "circle", "line", "polyline"}


class Structure(HTMLParser):
    """Elements in order, and whether each is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    write_data(data)
    specs = [f"good <b>&={write_scores(data, 'good.csv', 0.2)}", write_scores(data, "poor.csv", 2.0)]
    (data / "flat.csv").write_text("id,score\n" + "".join(f"{n}-{k},3\n" for n in ("one", "two") for k in range(24)))
    predictors = open_predictors([*specs, f"csv:{data / 'flat.csv'}"], no_scorer)
    run_protocol(load_protocol(write_protocol(data)), predictors, data / "out", data=data, resamples=60)
    return data / "out" / "report.html"


@pytest.fixture(scope="module")
def structure(report):
    parser = Structure()
    parser.feed(report.read_text(encoding="utf-8"))
    assert parser.open == []
    return parser.seen


def test_nothing_is_fetched_from_anywhere(report, structure):
    text = report.read_text(encoding="utf-8")
    assert "url(" not in text and "@import" not in text and "<script" not in text and "http" not in text
    for tag, attributes in structure:
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)


def test_tables_have_captions_and_scopes_and_pictures_words(report, structure):
    text = report.read_text(encoding="utf-8")
    assert text.count("<table") == text.count("<caption") > 5
    assert all("scope" in attributes for tag, attributes in structure if tag == "th")
    pictures = [attributes for tag, attributes in structure if tag == "img"]
    assert len(pictures) == 2 * 2 * 8 and all("model" in one["alt"] for one in pictures)
    assert all(one.get("aria-label") for tag, one in structure if tag == "svg")
    levels = [int(tag[1]) for tag, _ in structure if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    anchors = {attributes["id"] for _, attributes in structure if "id" in attributes}
    links = {attributes["href"][1:] for tag, attributes in structure if tag == "a"}
    assert links <= anchors
    assert structure[0] == ("html", {"lang": "en"})


def test_odd_names_are_text_and_reasons_are_shown(report):
    text = report.read_text(encoding="utf-8")
    assert "Small &amp; &lt;odd&gt;" in text and "good &lt;b&gt;&amp;" in text and "<b>&" not in text
    assert "All predictions are 3: a constant has no correlation and no mapping." in text
    assert not re.search(r">\s*nan", text, re.IGNORECASE)


def test_extremes_are_the_largest_and_smallest_errors_and_none_is_both():
    errors = {"a": 0.1, "b": -2.0, "c": 0.5, "d": 1.0, "e": 0.0}
    assert extremes(errors) == (["b", "d"], ["e", "a"])


def test_a_value_without_an_interval_is_drawn_alone():
    chart = interval_chart("SRCC", [("a", 0, 0.5, 0.4, 0.6), ("b", 1, 0.7, None, None)])
    assert chart.count("<circle") == 2 and chart.count('class="bar') == 1


def test_in_a_browser_nothing_is_asked_for_and_nothing_overflows(report):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for width, scheme in ((1280, "light"), (390, "dark")):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            said, asked = [], []
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(report.as_uri())
            assert said == [] and [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.className") == "skip"
        browser.close()
