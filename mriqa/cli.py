"""The `mriqa` command: score images, evaluate a model on a manifest.

torch and transformers are imported inside the commands, so that `mriqa --help` answers at once. Errors that a user can
cure end the command with one sentence and exit code 2; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mriqa import __version__

if TYPE_CHECKING:
    from mriqa.manifest import RatedImage
    from mriqa.scales import Scale
    from mriqa.scoring.scorer import Score, Scorer

app = typer.Typer(
    help="Score the quality of images with vision-language models, and measure how well that agrees with people.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

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


def main() -> None:
    """Entry point of the `mriqa` command and of `python -m mriqa`."""
    app(prog_name="mriqa")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options before the command; the application's own help text stands above."""


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@app.command()
def score(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", help="Images, folders, or quoted patterns.")],
    model: Model,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write: .jsonl, .csv or .parquet.")] = None,
    readout: Readout = "auto",
    batch_size: BatchSize = 8,
    device: Device = None,
    samples: Samples = 16,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    answer_format: Format = None,
    resize: Resize = None,
    crop: Crop = None,
    overwrite: Overwrite = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Score images from 1 (bad) to 5 (excellent).

    One row per image: image, score, std (spread of the score), error. Without --out the rows go to the terminal as a
    table, or to a pipe as JSON Lines.

    [b]Examples[/b]

      mriqa score photo.jpg --model outputs/demo/model

      mriqa score holiday/ "scans/**/*.tif" -m outputs/demo/model -o scores.csv

      mriqa score photo.jpg -m Qwen/Qwen3-VL-2B-Instruct --readout sample --samples 32

    Exit code: 0 all images scored; 1 some have an error row; 2 nothing could be done.
    """
    from mriqa.scoring.batch import to_row, write_scores
    from mriqa.scoring.progress import with_progress
    from mriqa.scoring.sources import expand_sources
    from mriqa.scoring.tables import check_output

    with _plain_errors():
        images = expand_sources(sources)
        if out is not None:
            check_output(out, overwrite)
        scorer = _load_scorer(
            model,
            readout,
            batch_size,
            device,
            samples,
            temperature,
            seed,
            answer_format,
            resize,
            crop,
            trust_remote_code,
        )
        stream = with_progress(scorer.stream(images), total=len(images))
        if out is not None:
            scores = list(write_scores(stream, out, overwrite=overwrite))
        elif sys.stdout.isatty():
            scores = list(stream)
            _print_scores(scores)
        else:
            scores = []
            for one in stream:
                row = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in to_row(one).items()}
                print(json.dumps(row), flush=True)
                scores.append(one)
    _exit_by_errors(scores, out)


@app.command("eval")
def evaluate(
    manifest: Annotated[Path, typer.Option(help="Images with human scores: .jsonl, .json, .csv or .parquet.")],
    model: Model,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON file for the measures.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Scatter plot of predicted against human scores, e.g. a.png.")
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="Scale of the human scores: a data set's name (koniq10k, spaq, …) or LOW:HIGH.")
    ] = None,
    scale_low: Annotated[float | None, typer.Option(help="Lowest possible human score. Default: 1.")] = None,
    scale_high: Annotated[float | None, typer.Option(help="Highest possible human score. Default: 5.")] = None,
    scale_direction: Annotated[
        Literal["higher", "lower"] | None, typer.Option(help="Which scores are better. Default: higher.")
    ] = None,
    image_root: Annotated[Path | None, typer.Option(help="Folder of the images. Default: the manifest's.")] = None,
    on_bad_row: Annotated[Literal["fail", "skip"], typer.Option(help="What to do with unusable rows.")] = "fail",
    readout: Readout = "auto",
    batch_size: BatchSize = 8,
    device: Device = None,
    samples: Samples = 16,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    answer_format: Format = None,
    resize: Resize = None,
    crop: Crop = None,
    overwrite: Overwrite = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Score the images of a manifest and measure the agreement with its human scores.

    Prints SRCC, PLCC and more. --out FILE.json also keeps them, and FILE.predictions.jsonl beside it the score of every
    image.

    [b]Examples[/b]

      mriqa eval --manifest koniq/test.jsonl --model outputs/demo/model --out koniq.json

      mriqa eval --manifest spaq.csv --scale 0:100 -m outputs/demo/model -o spaq.json --plot spaq.png

    Exit code: 0 all images scored; 1 some have an error row; 2 nothing could be done.
    """
    from mriqa.manifest import read_manifest
    from mriqa.scoring.batch import write_scores
    from mriqa.scoring.progress import with_progress
    from mriqa.scoring.tables import check_output

    predictions = out.with_suffix(".predictions.jsonl") if out is not None else None
    with _plain_errors():
        declared = _scale(scale, scale_low, scale_high, scale_direction)
        if out is not None and predictions is not None:
            check_output(out, overwrite, (".json",))
            check_output(predictions, overwrite)
        rows = read_manifest(manifest, image_root=image_root, scale=declared, on_bad_row=on_bad_row)
        scorer = _load_scorer(
            model,
            readout,
            batch_size,
            device,
            samples,
            temperature,
            seed,
            answer_format,
            resize,
            crop,
            trust_remote_code,
        )
        stream = with_progress(scorer.stream([row.image for row in rows]), total=len(rows))
        if predictions is not None:
            human = ({"mos": row.mos, "dataset": row.dataset, "id": row.id} for row in rows)
            columns = {"mos": float, "dataset": str, "id": str}
            stream = write_scores(stream, predictions, overwrite=overwrite, more=human, more_columns=columns)
        scores = list(stream)
        _report(scores, rows, out, plot, {"model": model, "manifest": str(manifest), "readout": scorer.readout_name})
    _exit_by_errors(scores, out)


def _report(
    scores: list[Score], rows: list[RatedImage], out: Path | None, plot: Path | None, settings: dict[str, Any]
) -> None:
    """The measures to the terminal, and to the files asked for."""
    from mriqa.eval import evaluate_scores, print_table, write_json
    from mriqa.scoring.tables import OutputError

    predicted, mos = [score.score for score in scores], [row.mos for row in rows]
    std = [math.nan if row.std is None else row.std for row in rows]
    datasets = [row.dataset for row in rows]
    measures = evaluate_scores(
        predicted,
        mos,
        std if any(row.std is not None for row in rows) else None,
        datasets if len(set(datasets)) > 1 else None,
    )
    named = {**measures.get("groups", {}), "all": measures}
    if "mean" in measures:
        named["mean of data sets"] = measures["mean"]
    print_table(named, title=f"{settings['model']} on {settings['manifest']}")
    try:
        if out is not None:
            write_json({**measures, "settings": settings}, out)
        if plot is not None and measures["n_parsed"] >= 2:
            from mriqa.eval.plots import scatter

            scatter(predicted, mos, plot, hue=datasets if len(set(datasets)) > 1 else None)
    except OSError as error:
        raise OutputError(f"The results cannot be written: {error.strerror or error} ({error.filename}).") from error
    if plot is not None and measures["n_parsed"] < 2:
        _say("No plot: fewer than two images have a score.")


def _load_scorer(
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
) -> Scorer:
    from mriqa.answers import load_format

    with _plain_errors(ValueError):
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
    )
    if resize is not None:
        scorer.views = replace(scorer.views, size=resize)
    if crop is not None:
        scorer.views = replace(scorer.views, crop=crop, count=5)
    return scorer


def _scale(name: str | None, low: float | None, high: float | None, direction: str | None) -> Scale | None:
    """The declared scale of the human scores; None where nothing was declared."""
    from mriqa.scales import MOS, Scale, resolve_scale

    parts = (low, high, direction)
    if name is not None and any(part is not None for part in parts):
        raise typer.BadParameter("give either --scale or --scale-low, --scale-high, --scale-direction.")
    with _plain_errors(ValueError):
        if all(part is None for part in parts):
            return resolve_scale(name) if name is not None else None
        return Scale(
            MOS.low if low is None else low,
            MOS.high if high is None else high,
            direction or MOS.direction,  # type: ignore[arg-type]  # Scale checks it
        )


def _print_scores(scores: list[Score]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("image", "score", "std", "error")
    for score in scores:
        numbers = ("–" if math.isnan(number) else f"{number:.2f}" for number in (score.score, score.std))
        table.add_row(Text(score.image), *numbers, Text(score.error or "", style="red"))
    Console().print(table)


def _exit_by_errors(scores: list[Score], out: Path | None) -> None:
    if out is not None:
        _say(f"Wrote {out}.")
    failed = [score for score in scores if score.error]
    if failed:
        _say(f"{len(failed)} of {len(scores)} images have no score; the first: {failed[0].image}: {failed[0].error}")
        raise typer.Exit(1)


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)


@contextmanager
def _plain_errors(*more: type[Exception]) -> Iterator[None]:
    """Turn the errors that a user can cure into one sentence on stderr and exit code 2."""
    from mriqa.manifest import ManifestError
    from mriqa.models import ModelError
    from mriqa.scoring.reading import ReadoutError
    from mriqa.scoring.sources import SourceError
    from mriqa.scoring.tables import OutputError

    errors: tuple[type[Exception], ...] = (ManifestError, ModelError, ReadoutError, SourceError, OutputError, *more)
    try:
        yield
    except errors as error:
        _say(f"Error: {error}")
        raise typer.Exit(2) from None
