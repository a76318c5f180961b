"""`mriqa eval --protocol`: several models under one protocol, as results.json and report.html."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mriqa.cli.exits import plain_errors, say

if TYPE_CHECKING:
    from mriqa.cli.options import ScorerOptions
    from mriqa.scoring.scorer import Scorer

ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        help="Instead of a manifest: a protocol's name (embedded, mr-iqa, koniq-official, ten-splits, cross, shamisa, "
        "presta, conord) or YAML file. --out then names a folder for results.json and report.html.",
    ),
]
Data = Annotated[
    Path, typer.Option(help="With --protocol: folder of the manifests NAME.jsonl that `mriqa data prepare` made.")
]
Train = Annotated[
    list[Path] | None,
    typer.Option(
        "--train",
        help="With --protocol: a manifest or list that a model was trained on; several. Its pictures and contents must "
        "not be measured on.",
    ),
]
Leaks = Annotated[Literal["refuse", "allow"], typer.Option(help="With --train: what to do where something is shared.")]
Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        "-m",
        show_default=False,
        help="Folder of a saved model or adapter, or a hub name. Default: the small model that comes with mriqa. With "
        "--protocol several, also READOUT:MODEL, brisque, piqe, pyiqa:NAME, shamisa:FOLDER (a saved "
        "probe as it is), csv:FILE, and LABEL=ANY_OF_THESE.",
    ),
]


def evaluate_protocol(
    protocol: str,
    models: list[str],
    out: Path | None,
    data: Path,
    train: list[Path] | None,
    leaks: str,
    image_root: Path | None,
    overwrite: bool,
    options: ScorerOptions,
) -> None:
    """Evaluate the models under the protocol; exit code 1 where a picture has no score."""
    if out is None:
        raise typer.BadParameter("--protocol needs --out FOLDER for results.json and report.html.")
    from mriqa.eval.predictors import open_predictors
    from mriqa.eval.protocol_run import REPORT, run_protocol
    from mriqa.eval.protocols import load_protocol

    def load_scorer(model: str, readout: str | None) -> Scorer:
        return replace(options, model=model, readout=readout or options.readout).load()

    with plain_errors():
        results = run_protocol(
            load_protocol(protocol),
            open_predictors(models, load_scorer),
            out,
            data=data,
            train=train or (),
            leaks=leaks,
            seed=options.seed,
            overwrite=overwrite,
            image_root=image_root,
            progress=True,
        )
    _print_measures(results)
    say(f"Wrote {out / REPORT}.")
    failures = sum(run["parse_failures"] for run in results["runs"])
    if failures:
        say(f"{failures} pictures have no score: {REPORT} gives the first reason of each model.")
        raise typer.Exit(1)


def refuse_manifest_options(given: dict[str, object]) -> None:
    """End the command where an option is given that a protocol's file states instead."""
    for option, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"{option} does not go with --protocol, whose file says what is measured and how.")


def the_manifest(manifest: Path | None, models: list[str]) -> Path:
    """The manifest of an evaluation without a protocol, which is of one model."""
    if manifest is None:
        raise typer.BadParameter("give --manifest FILE, or --protocol NAME.")
    if len(models) > 1:
        raise typer.BadParameter("several models need --protocol; with --manifest give one --model.")
    return manifest


def _print_measures(results: dict) -> None:
    """The protocol's measures on the terminal, as `mriqa eval` shows them."""
    from mriqa.eval import print_table

    wanted = results["protocol"]["measures"]
    rows = {}
    for model, sets in results["measures"].items():
        for name, measures in [*sets.items(), *([("mean", results["mean"][model])] if results["mean"][model] else [])]:
            row = {key: measures[key]["value"] for key in wanted if measures[key]["value"] is not None}
            rows[f"{model}, {name}"] = {"n": measures["n"], **row} if "n" in measures else row
    print_table(rows, title=results["protocol"]["title"], columns=["n", *wanted])
