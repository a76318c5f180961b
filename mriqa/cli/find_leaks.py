"""`mriqa audit`: what manifests share that training and test must not share."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mriqa.cli.exits import plain_errors, say

if TYPE_CHECKING:
    from mriqa.datasets.audit import Audit
    from mriqa.datasets.listings import ListedImage

SHOWN = 5


def audit_manifests(
    manifests: Annotated[
        list[Path],
        typer.Argument(
            help="Manifests to compare: .jsonl, .json, .csv, .parquet, or .txt with a name on each line. Of a single "
            "one, the parts that its rows name in [b]split[/b].",
            show_default=False,
        ),
    ],
    image_root: Annotated[Path | None, typer.Option(help="Folder of the images. Default: each manifest's.")] = None,
    look: Annotated[
        bool, typer.Option("--look/--no-look", help="Also compare how pictures look, which decodes each of them.")
    ] = True,
    show_all: Annotated[
        bool, typer.Option("--all", help=f"List every leak, not the first {SHOWN} of each kind.")
    ] = False,
) -> None:
    """Find leaks between manifests: the same files, bytes, names, contents or prompts, and near-duplicate pictures.

    A list none of whose pictures is there is compared by names and contents.

    [b]Examples[/b]

      mriqa audit train.jsonl val.jsonl test.jsonl

      mriqa audit koniq_val.txt koniq_test.txt

    Exit code: 0 nothing is shared; 1 a leak; 2 it could not be found out.
    """
    from mriqa.datasets.audit import audit
    from mriqa.progress import with_progress

    with plain_errors():
        lists = _lists(manifests, image_root)
        found = audit(lists, look=look, progress=lambda items, total: with_progress(items, total, "Looking at images"))
    for name, count in found.absent.items():
        say(f"{count:,} of {len(lists[name]):,} pictures of {name} are not there: compared by names and contents only.")
    _print(found, None if show_all else SHOWN)
    if found.leaks:
        raise typer.Exit(1)
    half_there = [name for name, count in found.absent.items() if count < len(lists[name])]
    if found.unreadable:
        path, reason = next(iter(found.unreadable.items()))
        say(f"Error: {len(found.unreadable)} pictures can't be compared (first: {path}: {reason.rstrip('.')}).")
    if half_there:
        say(f"Error: {half_there[0]} lacks some of its pictures, so nobody knows what they leak; see --image-root.")
    if found.unreadable or half_there:
        raise typer.Exit(2)
    print(f"No leak between {', '.join(f'{name} ({len(rows):,} rows)' for name, rows in lists.items())}.")


def _lists(paths: list[Path], image_root: Path | None) -> dict[str, list[ListedImage]]:
    """The rows by the manifest's path; of a single manifest, by the part of its split."""
    from mriqa.datasets.listings import AuditError, read_listing

    lists = {str(path): read_listing(path, image_root) for path in paths}
    if len(lists) < len(paths):
        raise AuditError("A manifest is named twice; name each of them once.")
    if len(lists) > 1:
        return lists
    parts: dict[str, list[ListedImage]] = defaultdict(list)
    for row in lists[str(paths[0])]:
        if row.part:
            parts[f"{paths[0]}:{row.part}"].append(row)
    if len(parts) < 2:
        raise AuditError(f"An audit compares two manifests or more, or the parts of one; {paths[0]} names no parts.")
    return parts


def _print(found: Audit, most: int | None) -> None:
    """The leaks of each two manifests, grouped by kind: how many, and the first of them."""
    from mriqa.datasets.audit import KINDS

    for (first, second, kind), count in sorted(
        found.counts().items(), key=lambda item: (item[0][:2], KINDS.index(item[0][2]))
    ):
        print(f"{first} and {second} share {count:,} by {kind}:")
        same = [leak for leak in found.leaks if leak.manifests == (first, second) and leak.kind == kind]
        for leak in same[:most]:
            print(f"  {leak}")
        if len(same) > len(same[:most]):
            print(f"  and {len(same) - len(same[:most]):,} more (--all lists them)")
