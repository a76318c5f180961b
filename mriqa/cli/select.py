"""`mriqa select`: the part of a manifest to train on, with why each row was kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mriqa.cli.encoding import Cache, ContentEncoder, EncoderBatch, features_by_role
from mriqa.cli.exits import plain_errors, say
from mriqa.cli.options import Crop, Device, Overwrite, Resize
from mriqa.selection import SELECTORS, SelectionError

if TYPE_CHECKING:
    from mriqa.manifest import RatedImage
    from mriqa.selection.mixture.choice import Chosen

DISTORTION_COLUMNS = ("distortion", "distortion_type", "dist_type", "dist")


def _selectors_in_words() -> str:
    for_target = [name for name, one in SELECTORS.items() if one.needs_target]
    by_score = [name for name, one in SELECTORS.items() if "scores" in one.needs and not one.needs_target]
    others = [name for name in SELECTORS if name not in (*for_target, *by_score)]
    return (
        f"[b]{'[/b] and [b]'.join(for_target)}[/b] choose for a --target; {' and '.join(by_score)} go by score; "
        f"{', '.join(others)} need neither."
    )


def select(
    manifest: Annotated[Path, typer.Option(help="Rated images to select from: .jsonl, .json, .csv or .parquet.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Manifest to write: .jsonl, .json, .csv or .parquet.")],
    selector: Annotated[
        str,
        typer.Option(
            "--selector",
            "-s",
            help=_selectors_in_words(),
        ),
    ] = "q_diverse",
    budget: Annotated[
        str, typer.Option("--budget", "-b", help="A count such as 500, or a fraction such as 0.2.")
    ] = "0.2",
    target: Annotated[
        Path | None, typer.Option(help="Rated images to resemble, for presta (a few dozen do) and kmm.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="Option of the selector, as NAME=VALUE; again for more of them."),
    ] = None,
    encoder: ContentEncoder = "lite0",
    quality_encoder: Annotated[str, typer.Option(help="Quality features for q_diverse, likewise.")] = "lite0_quality",
    scale: Annotated[
        str | None, typer.Option(help="Scale of the scores: a data set's name (koniq10k, spaq, …) or LOW:HIGH[:lower].")
    ] = None,
    target_scale: Annotated[str | None, typer.Option(help="Scale of the target's scores, likewise.")] = None,
    image_root: Annotated[Path | None, typer.Option(help="Folder of the images. Default: the manifest's.")] = None,
    target_image_root: Annotated[Path | None, typer.Option(help="Folder of the target's images, likewise.")] = None,
    on_bad_row: Annotated[Literal["fail", "skip"], typer.Option(help="What to do with unusable rows.")] = "fail",
    resize: Resize = None,
    crop: Crop = None,
    cache: Cache = Path("outputs/features"),
    batch_size: EncoderBatch = 16,
    device: Device = None,
    seed: Annotated[int, typer.Option(min=0, help="Of whatever the selector draws.")] = 0,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Coverage report: a .png with score histogram, t-SNE and distortions, and a .json beside it."
        ),
    ] = None,
    distortion_column: Annotated[
        str | None, typer.Option(help="Column with each row's distortion, for the report. Default: the usual names.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Select the rows of a manifest that are worth training on.

    Q-Diverse and the baselines of its supplement (Tables 1 and 2; --report draws Fig. 1 to 6), and PreSTA-S (Tables 1
    and 3 to 6 of its supplement) with KMM and a random subset (Table 4). recipes/compare_coresets.py and
    recipes/compare_selectors.py train on what is selected.

    The subset keeps every column of its rows, scores on their own scale, in the order of selection, and adds
    selected_by, selection_order, selection_score and selection_reason.

    [b]Examples[/b]

      mriqa select --manifest koniq.jsonl --budget 0.1 --out coreset.jsonl --report coreset.png

      mriqa select --manifest kadid.csv --scale kadid10k -s presta --target phone_photos.jsonl -b 0.2 -o for_phones.csv

      mriqa select --manifest spaq.csv --scale 0:100 --selector q_diverse --option gamma=0.7 -b 2000 -o spaq_2000.csv

    Exit code: 0 the subset is written; 2 nothing could be done.
    """
    from mriqa.manifest import read_manifest
    from mriqa.manifest.formats import SUFFIXES
    from mriqa.scoring.jobs.tables import check_output
    from mriqa.selection.mixture.choice import Choice, choose
    from mriqa.selection.mixture.selection_files import column_of, write_subset

    with plain_errors():
        check_output(out, overwrite, SUFFIXES)
        if report is not None:
            check_output(report, overwrite, (".png",))
            check_output(report.with_suffix(".json"), overwrite, (".json",))
        rows = read_manifest(manifest, image_root=image_root, scale=scale, on_bad_row=on_bad_row)
        target_rows = None
        if target is not None:
            target_rows = read_manifest(target, image_root=target_image_root, scale=target_scale)
        how = Choice(selector, _budget(budget), target_rows, _options(option or []), seed)
        features_of = features_by_role(
            {"content": encoder, "quality": quality_encoder}, cache, resize, crop, batch_size, device
        )
        chosen = choose(rows, how, features_of)
        write_subset(manifest, image_root, scale, rows, chosen, selector, out)
        if report is not None:
            columns = (distortion_column,) if distortion_column else DISTORTION_COLUMNS
            by_column = [column_of(manifest, image_root, scale, name) for name in columns]
            _write_report(report, rows, chosen, next((column for column in by_column if column), None), selector)
    numbers = ", ".join(
        f"{name.replace('_', ' ').replace('ppc', 'PPC')} {value:.4f}" for name, value in chosen.summary.items()
    )
    say(f"Wrote {len(chosen.rows)} of {len(rows)} rows to {out}{f' ({numbers})' if numbers else ''}.")
    if any(not row.image.is_relative_to(out.parent.resolve()) for row in rows):
        root = (image_root or manifest.parent).resolve()
        say(f"Its images lie elsewhere: read it with {root} as the image root (--image-root, image_root).")


def _budget(text: str) -> int | float:
    """A count where it is written as an integer, else a fraction: 1 is one row, 1.0 all of them."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise SelectionError(f"A budget is a count such as 500 or a fraction such as 0.2, not {text!r}.") from None


def _options(pairs: list[str]) -> dict[str, Any]:
    import yaml

    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise SelectionError(f"An option of the selector is written as NAME=VALUE, not {pair!r}.")
        try:
            options[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SelectionError(f"The value of --option {pair} can't be read; put it in quotes.") from error
    return options


def _write_report(
    path: Path, rows: list[RatedImage], chosen: Chosen, distortion_of: dict[str, str] | None, selector: str
) -> None:
    from mriqa.eval.coverage import coverage_report

    distortions = None if distortion_of is None else [distortion_of.get(row.id) for row in rows]
    title = f"{len(chosen.rows):,} of {len(rows):,} rows by {selector}"
    more = {"selector": selector, **chosen.summary}
    coverage_report([row.mos for row in rows], chosen.rows, path, chosen.features, distortions, title, more)
    say(f"Wrote {path} and {path.with_suffix('.json')}.")
