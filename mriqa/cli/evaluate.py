"""`mriqa eval`: how well a model agrees with the human scores of a manifest."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mriqa.cli.evaluate_protocol import (
    Data,
    Leaks,
    Models,
    ProtocolName,
    Train,
    evaluate_protocol,
    refuse_manifest_options,
    the_manifest,
)
from mriqa.cli.exits import exit_by_errors, plain_errors, say
from mriqa.cli.options import Overwrite, ScorerOptions, takes_scorer
from mriqa.embedded.packaged import DEFAULT_MODEL

if TYPE_CHECKING:
    from mriqa.manifest import RatedImage
    from mriqa.manifest.scales import Scale
    from mriqa.scoring.scorer import Score


@takes_scorer
def evaluate(
    *,
    manifest: Annotated[
        Path | None, typer.Option(help="Images with human scores: .jsonl, .json, .csv or .parquet.")
    ] = None,
    protocol: ProtocolName = None,
    data: Data = Path("data"),
    train: Train = None,
    leaks: Leaks = "refuse",
    models: Models = [DEFAULT_MODEL],  # noqa: B006  # typer reads it, nobody writes to it
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="JSON file for the measures; with --protocol a folder.")
    ] = None,
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
    scorer: ScorerOptions,
    overwrite: Overwrite = False,
) -> None:
    """Score the images of a manifest, or of a protocol's data sets, and measure the agreement with people.

    --protocol has the papers' tables as protocols: mr-iqa is MR-IQA's of six data sets, presta Table 1 of PreSTA's
    supplement, conord Table 3 of ConOrd, shamisa Table I of SHAMISA.

    Prints SRCC, PLCC and more. --out FILE.json also keeps them, and FILE.predictions.jsonl beside it the score of every
    image.

    [b]Examples[/b]

      mriqa eval --manifest koniq/test.jsonl --model outputs/demo/model --out koniq.json

      mriqa eval --manifest spaq.csv --scale 0:100 -m outputs/demo/model -o spaq.json --plot spaq.png

      mriqa eval --protocol embedded -m default -m brisque -m piqe -o outputs/embedded

    Exit code: 0 all images scored; 1 some have an error row; 2 nothing could be done.
    """
    if protocol is not None:
        refuse_manifest_options({
            "--manifest": manifest, "--plot": plot, "--scale": scale, "--scale-low": scale_low,
            "--scale-high": scale_high, "--scale-direction": scale_direction,
        })  # fmt: skip
        evaluate_protocol(protocol, models, out, data, train, leaks, image_root, overwrite, scorer)
        return
    manifest = the_manifest(manifest, models)
    from mriqa.manifest import read_manifest
    from mriqa.progress import with_progress
    from mriqa.scoring.jobs.batch import write_scores
    from mriqa.scoring.jobs.tables import check_output

    predictions = out.with_suffix(".predictions.jsonl") if out is not None else None
    with plain_errors():
        declared = _scale(scale, scale_low, scale_high, scale_direction)
        if out is not None and predictions is not None:
            check_output(out, overwrite, (".json",))
            check_output(predictions, overwrite)
        rows = read_manifest(manifest, image_root=image_root, scale=declared, on_bad_row=on_bad_row)
        loaded = scorer.load()
        stream = with_progress(loaded.stream([row.image for row in rows]), total=len(rows))
        if predictions is not None:
            human = ({"mos": row.mos, "dataset": row.dataset, "id": row.id} for row in rows)
            columns = {"mos": float, "dataset": str, "id": str}
            stream = write_scores(stream, predictions, overwrite=overwrite, more=human, more_columns=columns)
        scores = list(stream)
        settings = {"model": scorer.model, "manifest": str(manifest), "readout": loaded.readout_name}
        _report(scores, rows, out, plot, settings)
    exit_by_errors(scores, out)


def _report(
    scores: list[Score], rows: list[RatedImage], out: Path | None, plot: Path | None, settings: dict[str, Any]
) -> None:
    """The measures to the terminal, and to the files asked for."""
    from mriqa.eval import evaluate_scores, print_table, write_json

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
    if out is not None:
        write_json({**measures, "settings": settings}, out)
    if plot is not None and measures["n_parsed"] >= 2:
        from mriqa.eval.plots import scatter

        scatter(predicted, mos, plot, hue=datasets if len(set(datasets)) > 1 else None)
        say(f"Wrote {plot}.")
    if plot is not None and measures["n_parsed"] < 2:
        say("No plot: fewer than two images have a score.")


def _scale(
    name: str | None, low: float | None, high: float | None, direction: Literal["higher", "lower"] | None
) -> Scale | None:
    """The declared scale of the human scores; None where nothing was declared."""
    from mriqa.manifest.scales import MOS, Scale, resolve_scale

    parts = (low, high, direction)
    if name is not None and any(part is not None for part in parts):
        raise typer.BadParameter("give either --scale or --scale-low, --scale-high, --scale-direction.")
    with plain_errors():
        if all(part is None for part in parts):
            return resolve_scale(name) if name is not None else None
        return Scale(
            MOS.low if low is None else low,
            MOS.high if high is None else high,
            direction or MOS.direction,
        )
