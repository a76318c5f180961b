"""`mriqa calibrate`: how far off a model's scores are, measured on rated pictures and kept beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mriqa.cli.exits import plain_errors, say
from mriqa.cli.options import Overwrite, ScorerOptions, takes_scorer


@takes_scorer
def calibrate(
    *,
    manifest: Annotated[
        Path,
        typer.Option(
            help="Rated pictures that the model wasn't trained on: .jsonl, .json, .csv or .parquet; at least 60 of 10 "
            "contents."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for calibration.json. Default: the model's own."),
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="Scale of the ratings: a data set's name (koniq10k, spaq, …) or LOW:HIGH.")
    ] = None,
    image_root: Annotated[Path | None, typer.Option(help="Folder of the images. Default: the manifest's.")] = None,
    scorer: ScorerOptions,
    overwrite: Overwrite = False,
) -> None:
    """Measure how far off a model's scores are, so that each comes with an interval that holds.

    Scores rated pictures, fits how the error grows with the model's own spread and with how unlike these pictures a
    picture is, and prints how often the ratings of held-out contents lie in the intervals. calibration.json in the
    model's folder is used from then on by `mriqa score`, `serve` and `demo`, with the readout with which it was made.

    Take pictures of the kinds and damages that the model will meet: whatever isn't among them gets wide intervals.

    [b]Examples[/b]

      mriqa calibrate --model outputs/run/model --manifest koniq/val.jsonl

      mriqa calibrate --model Qwen/Qwen3-VL-2B-Instruct --manifest val.csv --scale 0:100 --out calibrated

    Exit code: 0 the calibration is written; 2 nothing could be done.
    """
    from mriqa.eval import print_table
    from mriqa.manifest import read_manifest
    from mriqa.manifest.scales import resolve_scale
    from mriqa.progress import with_progress
    from mriqa.scoring.calibrating import COVERAGE_COLUMNS, calibrate, coverage_rows
    from mriqa.scoring.certainty import CALIBRATION_FILE
    from mriqa.scoring.jobs.tables import check_output

    with plain_errors():
        folder = out if out is not None else _folder_of(scorer.model)
        check_output(folder / CALIBRATION_FILE, overwrite, (".json",))
        declared = resolve_scale(scale) if scale is not None else None
        rows = read_manifest(manifest, image_root=image_root, scale=declared)
        found = calibrate(scorer.load(), rows, scorer.seed, with_progress)
        written = found.save(folder)
    title = f"{scorer.model} on {found.images} pictures of {found.contents} contents of {manifest}"
    print_table(coverage_rows(found), title=title, columns=COVERAGE_COLUMNS)
    say(f"Wrote {written}.")


def _folder_of(model: str) -> Path:
    """The model's own folder; a copy of a hub repository isn't one to write to. Raises CalibrationError."""
    from mriqa.embedded.packaged import DEFAULT_MODEL
    from mriqa.scoring.certainty import CalibrationError

    folder = Path(model).expanduser()
    if not folder.is_dir():
        what = "The model inside the package" if model == DEFAULT_MODEL else f"{model}"
        raise CalibrationError(f"{what} is no folder of yours: name a folder for the calibration with --out.")
    return folder
