"""The page itself: its fields, and what happens when somebody drops a picture or moves the slider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from importlib import resources
from typing import TYPE_CHECKING, Any

import gradio as gr

from mriqa.images import ImageError
from mriqa.page import drawings
from mriqa.page.intake import UploadsOnly, upload_field
from mriqa.page.judge import COPY, DISTORTIONS, ORDERS, Judge, Judged, Upload, in_order
from mriqa.scoring.reading import BackendError
from mriqa.serving.limits import MIB

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Scorer
    from mriqa.serving.limits import Limits

SWEEP_EVERY, KEEP_UPLOADS = 600, 3600  # seconds
SESSIONS = 200  # whose thumbnails and scores are kept, some 300 kB each
FIRST_SEVERITY = 0.4

THEME = gr.themes.Base(
    primary_hue="blue",
    neutral_hue="slate",
    radius_size="lg",
    font=["system-ui", "sans-serif"],  # the reader's own: nothing is fetched from anywhere
    font_mono=["ui-monospace", "monospace"],
)
CSS = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")

INTRODUCTION = """<header class="mq-header"><h1>How good does it look?</h1>
<p>Drop pictures to see the score a model gives them, how sure it is, and which looks best.</p></header>"""
SPOILING = f"""<h2>What would spoil it?</h2>
<p>Distort a copy of at most {COPY} pixels a side, and see its score move.</p>"""


def make_page(scorer: Scorer, limits: Limits) -> gr.Blocks:
    """The page that scores with `scorer`; it shows distributions where that keeps them."""
    judge = Judge(scorer, limits)
    with UploadsOnly(title="mriqa", analytics_enabled=False, delete_cache=(SWEEP_EVERY, KEEP_UPLOADS)) as page:
        _html(INTRODUCTION)
        files = upload_field(label="Pictures", elem_id="pictures", height=170)
        _html(_terms(limits))
        judged = gr.State([])
        with gr.Column(visible=False) as results:
            order = gr.Radio(ORDERS, value=ORDERS[0], label="Order", elem_id="order")
            where = gr.Checkbox(False, label="Show where it is bad", elem_id="where")
            cards = _html(elem_id="cards")
        with gr.Column(visible=False, elem_id="distort") as panel:
            _html(SPOILING)
            with gr.Row():
                chosen = gr.Dropdown([], label="Picture", elem_id="chosen", filterable=False)
                distortion = gr.Dropdown(
                    list(DISTORTIONS), value="Blur", label="Distortion", elem_id="distortion", filterable=False
                )
            severity = gr.Slider(
                0, 1, FIRST_SEVERITY, step=0.05, label="Severity, from none to severe", elem_id="severity"
            )
            with gr.Row():
                with gr.Column(min_width=280):
                    picture = _html(elem_id="distorted")
                with gr.Column(min_width=280):
                    curve = _html(elem_id="curve")

        def score(uploads: list[Upload], wanted: str, name: str, at: float, mapped: bool) -> dict[Any, Any]:
            if len(uploads) > limits.images:
                raise gr.Error(
                    f"{len(uploads)} pictures are too many: drop at most {limits.images}.", print_exception=False
                )
            found = judge.judge(uploads)
            shown = judge.with_maps(found, uploads) if mapped else found
            choices = [(one.score.image, number) for number, one in enumerate(found) if one.thumbnail]
            first = choices[0][1] if choices else None
            return {
                judged: found,
                cards: drawings.cards(in_order(shown, wanted), shown),
                results: gr.update(visible=bool(found)),
                order: gr.update(visible=len(choices) > 1),
                panel: gr.update(visible=bool(choices)),
                chosen: gr.update(choices=choices, value=first),
                **move(uploads, first, name, at),
            }

        def arrange(judged: Sequence[Judged], uploads: list[Upload], order: str, mapped: bool) -> str:
            if len(judged) != len(uploads):  # other pictures have just been dropped, and are about to be scored
                return ""
            shown = judge.with_maps(judged, uploads) if mapped else judged
            return drawings.cards(in_order(shown, order), shown)

        def move(uploads: list[Upload], chosen: int | None, distortion: str, severity: float) -> dict[Any, str]:
            if chosen is None or chosen >= len(uploads):
                return {picture: "", curve: ""}
            path = uploads[chosen].path
            points = judge.curve(path, distortion)
            distorted = judge.distorted(path, distortion, severity)
            return {
                picture: drawings.picture(distorted, distortion, severity, undistorted=points[0][1]),
                curve: drawings.curve_plot(points, severity, distorted.score.score, distortion),
            }

        moved: dict[str, Any] = {
            "fn": _plain_errors(move),
            "inputs": [files, chosen, distortion, severity],
            "outputs": [picture, curve],
        }
        # One event at a time has the model; what the slider passes on its way is left out.
        common: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
        everything = [judged, cards, results, order, panel, chosen, picture, curve]
        files.change(_plain_errors(score), [files, order, distortion, severity, where], everything, **common)
        arranged: dict[str, Any] = {
            "fn": _plain_errors(arrange),
            "inputs": [judged, files, order, where],
            "outputs": cards,
        }
        order.input(**arranged, show_progress="hidden", **common)
        where.input(**arranged, **common)
        gr.on([chosen.input, distortion.input], **moved, **common)
        severity.input(**moved, trigger_mode="always_last", show_progress="hidden", **common)
    page.state_session_capacity = SESSIONS
    page.queue(max_size=limits.requests)
    return page


def _html(text: str = "", **options: Any) -> gr.HTML:
    return gr.HTML(text, js_on_load=None, apply_default_css=False, **options)


def _terms(limits: Limits) -> str:
    size = f"{limits.file_bytes / MIB:g} MB and {limits.pixels / 1e6:g} million pixels"
    return (
        f'<p class="mq-terms">Up to {limits.images} pictures of at most {size} each. Only this program gets them, '
        "and it deletes them within about an hour.</p>"
    )


def _plain_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """`handler` with those of our errors that are a sentence shown as that sentence."""

    @wraps(handler)
    def handled(*arguments: Any) -> Any:
        try:
            return handler(*arguments)
        except (BackendError, ImageError) as error:
            raise gr.Error(str(error), print_exception=False) from error

    return handled
