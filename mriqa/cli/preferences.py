"""`mriqa ppr`: what data sets prefer, how alike they prefer, and how many labels it takes to know."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mriqa.cli.encoding import Cache, ContentEncoder, EncoderBatch, features_by_role
from mriqa.cli.exits import plain_errors, say
from mriqa.cli.options import Crop, Device, Overwrite, Resize
from mriqa.errors import SettingsError

if TYPE_CHECKING:
    from mriqa.manifest import RatedImage

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def preferences(
    manifests: Annotated[
        list[str],
        typer.Argument(
            help="Rated sets, each as FILE or NAME=FILE: .jsonl, .json, .csv or .parquet.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")],
    scale: Annotated[
        list[str] | None,
        typer.Option(
            help="Scale of a set's scores, as NAME=koniq10k or NAME=LOW:HIGH[:lower]; again for more of them."
        ),
    ] = None,
    encoder: ContentEncoder = "lite0",
    fraction: Annotated[
        list[float] | None,
        typer.Option(help="Share of the labels to estimate a PPR from; again for more. Default: 0.01 to 0.5."),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Subsets of the labels for each share; the paper has 100.")] = 100,
    resize: Resize = None,
    crop: Crop = None,
    cache: Cache = Path("outputs/features"),
    batch_size: EncoderBatch = 16,
    device: Device = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the subsets.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """What rated sets prefer (PPR), how alike they prefer (PPC), and how many labels tell it: Fig. 1 of PreSTA.

    PreSTA, "Rethinking Knowledge Transfer in Image Quality Assessment": a set's PPR is the correlation of each feature
    with the score, the PPC of two sets is the cosine of their PPRs. Writes ppc.md and ppc.png (the PPC of every pair of
    sets, as table and heat map), stability.md and stability.png (Fig. 1 of the supplement: cosine of the PPR of few
    labels to that of all, mean and deviation over --draws subsets), and ppr.json with every PPR.

    [b]Examples[/b]

      mriqa ppr kadid10k.jsonl koniq10k.jsonl spaq.jsonl --encoder swin_b --out outputs/ppr

      mriqa ppr mine=photos.csv --scale mine=0:100 --out outputs/ppr --draws 20

    Exit code: 0 written; 2 nothing could be done.
    """
    from mriqa.eval.selection_plots import ppc_heat_map, ppc_table, stability_curves, stability_table
    from mriqa.files import new_folder, write_json, write_text
    from mriqa.selection import ppc_matrix, ppr, ppr_stability

    shares = sorted(set(fraction or FRACTIONS))
    with plain_errors():
        if out.exists() and not overwrite:
            raise SettingsError(f"{out} exists already: name another folder with --out, or give --overwrite.")
        rows_of = read_sets(manifests, scale or [])
        features_of = features_by_role({"content": encoder}, cache, resize, crop, batch_size, device)
        pprs: dict[str, Any] = {}
        curves: dict[str, tuple[Any, Any]] = {}
        for name, rows in rows_of.items():
            features_ND, scores_N = features_of([row.image for row in rows], "content"), [row.mos for row in rows]
            pprs[name] = ppr(features_ND, scores_N)
            curves[name] = ppr_stability(features_ND, scores_N, shares, draws, seed)
        names, matrix_SS = ppc_matrix(pprs)
        stability = stability_table(curves, shares)
        with new_folder(out, overwrite=overwrite) as staged:
            write_text(ppc_table(names, matrix_SS), staged / "ppc.md")
            ppc_heat_map(names, matrix_SS, staged / "ppc.png", "PPC: how alike the sets prefer")
            write_text(stability, staged / "stability.md")
            stability_curves(curves, shares, staged / "stability.png", f"PPR from few labels, {draws} draws")
            write_json(
                {
                    "encoder": encoder,
                    "images": {name: len(rows) for name, rows in rows_of.items()},
                    "ppr": pprs,
                    "ppc": dict(zip(names, matrix_SS)),
                    "stability": {
                        name: [
                            {"fraction": share, "mean": mean, "std": std} for share, mean, std in zip(shares, *curve)
                        ]
                        for name, curve in curves.items()
                    },
                },
                staged / "ppr.json",
            )
    print(ppc_table(names, matrix_SS))
    print(stability)
    say(f"Wrote ppc.md, ppc.png, stability.md, stability.png and ppr.json to {out}.")


def read_sets(manifests: list[str], scales: list[str]) -> dict[str, list[RatedImage]]:
    """The rows of each set by its name. SettingsError for names that occur twice or that nothing has."""
    from mriqa.choices import by_name, named_files
    from mriqa.manifest import read_manifest

    scale_of, files = by_name("scale", scales, str), named_files(manifests)
    for name in scale_of:
        if name not in files:
            raise SettingsError(f"There is no set {name!r} among {', '.join(files)} to give a scale.")
    return {name: read_manifest(file, scale=scale_of.get(name), dataset=name) for name, file in files.items()}
