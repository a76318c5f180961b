"""`mriqa stability`: how far a model's scores move where quality moves little or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mriqa.cli.exits import plain_errors, say
from mriqa.cli.options import Overwrite, ScorerOptions, takes_scorer

if TYPE_CHECKING:
    from mriqa.eval.stability import RunChange
    from mriqa.scoring.scorer import Scorer

PRECISIONS = ("float32", "bfloat16", "float16")


@takes_scorer
def stability(
    *,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures, folders or patterns. Default: 48 pictures that the package makes.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="JSON file to write. As [b]stability.json[/b] in the model's folder, its card and reports show it.",
        ),
    ] = None,
    precision: Annotated[
        bool, typer.Option(help="Also score in other precisions, which loads the model again.")
    ] = True,
    distortions: Annotated[
        list[str] | None,
        typer.Option(
            "--distortion",
            help="Also distort pictures at five levels: [b]kadid[/b] for KADID-10k's 25, [b]imagenet_c[/b] for 18 of "
            "ImageNet-C's corruptions, or one by its name. May be given several times.",
            show_default=False,
        ),
    ] = None,
    vllm: Annotated[bool, typer.Option("--vllm", help="Also score by vLLM, where that is installed.")] = False,
    scorer: ScorerOptions,
    overwrite: Overwrite = False,
) -> None:
    """Show how far scores move when pictures are cropped, bordered, resized or encoded again, and by how they are run.

    They are run again in other batches, in the reverse order, padded in a batch with a wider picture, in other
    precisions and, with --vllm, by another backend. For each change: the mean and the largest move in points of 1..5,
    and the rank correlation with the scores of the pictures as they are. No ratings are needed.

    [b]Examples[/b]

      mriqa stability

      mriqa stability photos/ --distortion kadid --distortion imagenet_c

      mriqa stability photos/ --model outputs/run/model --out outputs/run/model/stability.json

    Exit code: 0 all was measured; 1 a picture has no score; 2 nothing could be done.
    """
    from mriqa.eval import print_table
    from mriqa.eval.protocol_run import recorded_versions
    from mriqa.eval.stability import COLUMNS, certificate, measure_stability, stability_rows
    from mriqa.files import write_json
    from mriqa.progress import with_progress
    from mriqa.scoring.jobs.tables import check_output

    with plain_errors():
        if out is not None:
            check_output(out, overwrite, (".json",))
        with _pictures(images) as (pictures, source):
            loaded = scorer.load()
            found = measure_stability(
                loaded,
                pictures,
                _other_ways(scorer, loaded, precision, vllm),
                distortions=distortions or (),
                progress=with_progress,
            )
        found = {"model": scorer.model, "source": source, "versions": recorded_versions(), **found}
        print_table(stability_rows(found), title=f"Moves of {scorer.model} on {source}, in points", columns=COLUMNS)
        print(certificate(found))
        if out is not None:
            write_json(found, out)
            say(f"Wrote {out}.")
    for name, why in found["left_out"].items():
        say(f"Not measured: {name}. {why}")
    missing = len(pictures) - found["pictures"]
    lost = sum(change["lost"] for change in found["changes"])
    if missing or lost:
        say(f"{missing} of {len(pictures)} pictures have no score, and {lost} scores are lost by the changes.")
        raise typer.Exit(1)


@contextmanager
def _pictures(images: list[str] | None) -> Iterator[tuple[list[Path], str]]:
    """The files, and what to call them."""
    from mriqa.scoring.jobs.sources import find_files

    if images:
        files = sorted({Path(file).resolve() for source in images for file in find_files(source)})
        yield files, f"{len(files)} pictures"
        return
    from mriqa.eval.stability import package_pictures

    with tempfile.TemporaryDirectory(prefix="mriqa-stability-") as folder:
        yield package_pictures(folder)


def _other_ways(scorer: ScorerOptions, loaded: Scorer, precision: bool, vllm: bool) -> dict[str, RunChange]:
    """Precisions that the model isn't in, and vLLM."""
    from mriqa.eval.stability import RunChange

    ways = {}
    model = getattr(loaded.backend, "model", None)
    own = str(getattr(model, "dtype", "")).removeprefix("torch.")
    for name in PRECISIONS:
        if precision and own and name != own:
            ways[f"{name} instead of {own}"] = RunChange(replace(scorer, dtype=name).load)
    if vllm:
        ways["vLLM instead of transformers"] = RunChange(replace(scorer, backend="vllm").load)
    return ways
