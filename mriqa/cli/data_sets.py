"""`mriqa data`: public data sets to manifests, and a table of those we read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mriqa.cli.exits import plain_errors, say
from mriqa.cli.options import Overwrite

if TYPE_CHECKING:
    from mriqa.datasets.to_manifest import Prepared

data = typer.Typer(help="Turn public data sets into manifests.", no_args_is_help=True, rich_markup_mode="rich")


@data.command("list")
def list_data_sets() -> None:
    """Show the data sets that can be prepared: rows, range, direction, splits, licence, and where to get them."""
    from rich.console import Console
    from rich.table import Table

    from mriqa.datasets.catalogue import DATA_SETS

    table = Table()
    for column in ("name", "rows", "range", "scale", "better", "split"):
        table.add_column(column, overflow="fold")
    for known in DATA_SETS.values():
        rows = f"{'' if known.rows_exact else 'about '}{known.rows:,}"
        split = "official" if known.official_split else "random"
        labels = next(iter(known.labels.values()), None)
        scores = (
            (f"{labels.observed[0]:g}..{labels.observed[1]:g}", f"{labels.scale.low:g}..{labels.scale.high:g}")
            if labels
            else ("no scores", "")
        )
        better = labels.scale.direction if labels else ""
        table.add_row(known.name, rows, *scores, better, split)
    Console().print(table)
    for known in DATA_SETS.values():
        print(f"{known.name}: {known.title}\n  get it: {known.home}\n  licence: {known.licence}")
        print(f"  folder: {known.layout}")
        if len(known.labels) > 1:
            print(f"  labels: {', '.join(known.labels)}")
        if known.official_split:
            print(f"  official split: {known.official_split}")


@data.command("prepare")
def prepare_data_set(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which data set; [b]mriqa data list[/b] shows them.")],
    root: Annotated[Path, typer.Option(help="Folder that the data set was unpacked to.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Manifest to write: .jsonl, .json, .csv or .parquet. {part} in its name: one for each part.",
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option(help="[b]official[/b] (the default where there is one) or [b]random[/b], by content."),
    ] = None,
    split_index: Annotated[
        int, typer.Option(min=0, help="Which of the ten random splits, 0 to 9; or which row of an .npy file.")
    ] = 0,
    split_file: Annotated[
        Path | None,
        typer.Option(help="A published split: .txt, .csv, .json, .jsonl with names, or .npy with numbers of rows."),
    ] = None,
    part: Annotated[
        Literal["training", "validation", "test"] | None, typer.Option(help="Write only this part of the split.")
    ] = None,
    normalise: Annotated[
        Literal["official", "minmax"],
        typer.Option(
            help="[b]official[/b] keeps the published scores and names their scale; [b]minmax[/b] maps the range "
            "observed in the whole data set to 1..5, as MR-IQA trains."
        ),
    ] = "official",
    labels: Annotated[
        str | None, typer.Option(help="Which scores, where a data set has several: mos, zscore …")
    ] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Keep what is there of a partial download, instead of refusing it.")
    ] = False,
    check_images: Annotated[
        bool, typer.Option("--check-images/--no-check-images", help="Decode every picture to be sure of it.")
    ] = True,
    overwrite: Overwrite = False,
) -> None:
    """Turn a public data set's official folder into a manifest. Nothing is downloaded.

    As the papers' tables need it: MR-IQA's table of six data sets takes --normalise minmax for training, and PreSTA's
    tables take it for everything.

    The rows keep the data set's own scores and say on which scale they are, so that evaluation and training know it.

    [b]Examples[/b]

      mriqa data prepare koniq10k --root /data/koniq10k --out "/data/koniq_{part}.jsonl" --normalise minmax

      mriqa data prepare kadid10k --root /data/kadid10k --split random --split-index 3 --out /data/kadid10k.jsonl

      mriqa data prepare livec --root /data/ChallengeDB_release --split-file test_names.txt --out /data/livec_test.jsonl

    Exit code: 0 the manifest is written; 2 nothing could be done.
    """
    from mriqa.datasets.to_manifest import prepare
    from mriqa.manifest.formats import SUFFIXES
    from mriqa.progress import with_progress
    from mriqa.scoring.jobs.tables import check_output

    with plain_errors():
        check_output(out, overwrite, SUFFIXES)
        prepared = prepare(
            name,
            root,
            labels=labels or "",
            split=split or "",
            split_index=split_index,
            split_file=split_file,
            part=part or "",
            normalise=normalise,
            allow_partial=allow_partial,
            check_images=check_images,
            progress=lambda items, total: with_progress(items, total, "Checking images"),
        )
        for path in prepared.outputs(out):
            check_output(path, overwrite, SUFFIXES)
        written = prepared.write(out)
    _report(prepared, written)


def _report(prepared: Prepared, written: list[Path]) -> None:
    parts = ", ".join(f"{part} {count:,}" for part, count in prepared.parts().items())
    scores = "no scores"
    if prepared.labels is not None:
        scale = "1..5, from the observed range" if prepared.normalise == "minmax" else str(prepared.labels.scale)
        scores = f"scores of {prepared.source} on {scale}"
    say(
        f"Wrote {len(prepared.entries):,} rows of {prepared.data_set.title}{f' ({parts})' if parts else ''} to "
        f"{', '.join(map(str, written))}: {scores}."
    )
    for note in prepared.notes:
        say(note)
    folders = [path.parent.resolve() for path in written]
    images = [entry.image.resolve() for entry in prepared.entries if entry.image is not None]
    if any(not image.is_relative_to(folder) for image in images for folder in folders):
        say("Its images lie elsewhere: read it with a folder above them as the image root (--image-root, image_root).")
