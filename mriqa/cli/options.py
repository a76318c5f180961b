"""Options that several commands share, and the scorer that they describe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mriqa.cli.errors import plain_errors

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Scorer

Model = Annotated[str, typer.Option("--model", "-m", help="Folder of a saved model or adapter, or a hub name.")]
Readout = Annotated[
    Literal["auto", "expected", "greedy", "sample"],
    typer.Option(
        help="How a score is got from the model. [b]expected[/b]: exact mean over all scores it could state; "
        "[b]greedy[/b]: its most likely answer; [b]sample[/b]: mean of --samples answers; [b]auto[/b]: expected where "
        "the model and its answer format allow it, greedy elsewhere."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images that go through the model together.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: the accelerator if there is one.")]
Samples = Annotated[int, typer.Option(min=1, help="Answers per image with --readout sample.")]
Temperature = Annotated[float, typer.Option(min=0.01, help="Of the answers with --readout sample.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the answers with --readout sample.")]
Format = Annotated[
    str | None,
    typer.Option(
        "--answer-format",
        "--prompt-mode",
        help="Prompt and answer grammar: a bundled name (non_thinking, thinking, visualquality_r1, …) or a YAML file. "
        "Default: the one saved with the model, else non_thinking.",
    ),
]
Resize = Annotated[
    int | None,
    typer.Option(min=1, help="Resize every image to N×N pixels first (bicubic), as `mriqa.json` may ask for too."),
]
Crop = Annotated[
    int | None,
    typer.Option(min=1, help="Average over five crops of N×N pixels (corners and centre), likewise."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output file that exists.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the model. Read it first.")
]


def load_scorer(
    model: str,
    readout: str,
    batch_size: int,
    device: str | None,
    samples: int,
    temperature: float,
    seed: int,
    answer_format: str | None,
    resize: int | None,
    crop: int | None,
    trust_remote_code: bool,
    structured: bool = False,
    max_new_tokens: int | None = None,
    backend: str = "transformers",
    **backend_options: Any,
) -> Scorer:
    """The scorer that the options describe; `backend_options` are those of the backend, as far as it has them."""
    from mriqa.answers import load_format

    with plain_errors(ValueError):
        chosen_format = load_format(answer_format) if answer_format else None

    from transformers.utils import logging

    from mriqa.scoring.scorer import Scorer

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    scorer = Scorer.from_pretrained(
        model,
        readout,
        device=device,
        answer_format=chosen_format,
        trust_remote_code=trust_remote_code,
        batch_size=batch_size,
        samples=samples,
        temperature=temperature,
        seed=seed,
        structured=structured,
        max_new_tokens=max_new_tokens,
        backend=backend,
        backend_options=backend_options,
    )
    if resize is not None:
        scorer.views = replace(scorer.views, size=resize)
    if crop is not None:
        scorer.views = replace(scorer.views, crop=crop, count=5)
    return scorer
