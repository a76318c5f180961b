"""Rated images: one row is one image with its mean opinion score. Read, check and write the files that list them.

Manifests differ from lab to lab. Accepted are JSON Lines, JSON, CSV and Parquet, with any of these keys:

    image    image, image_path, img_path                     a path, relative to `image_root`, or a list of one path
    score    score, mos, rating, human_score, gt_score       on the dataset's declared scale
             gt_score_norm, normalized_score                 a normalised copy (DeQA-Score, MR-IQA), usually 1..5
    std      std, score_std, mos_std; std_norm               rating standard deviation, optional
    dataset  dataset, dataset_name                           optional, default: the manifest's file name
    content  content                                         optional, what the image shows, default: its id
    id       id, image_id                                    optional, default: its path
    scale    score_scale                                     optional: "spaq", "0:100", "0:1:lower" …, see below

In the layout that VisualQuality-R1 trains on, the score is the last turn of `conversations`.

**The scale** is what the caller declares, else what a row declares for itself in `score_scale` (as `mriqa data prepare`
writes it), else 1..5. It is never guessed: neither from the values nor from the data set's name, as a file that names
a data set may hold its scores on another scale.

**Where a row holds several scores**, the scale decides, as it can describe only one of them: without a declared
`scale`, the normalised keys go first; with one, the raw keys do. Within each kind the order is the one above. `std` is
taken from the same kind as the score, so that the two share a scale. `score_key` and `std_key` overrule all this.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from mriqa.files import write_jsonl
from mriqa.images import ImageError, load_image
from mriqa.manifest.formats import (
    BadRow,
    ManifestError,
    read_records,
    write_records,
)
from mriqa.manifest.rows import Layout, NoScoreError, RatedImage, RowError, portable_path, shortened
from mriqa.manifest.scales import Scale

REJECT_KEYS = {"file", "line", "reason", "row"}

BAR_FROM = 200  # images; fewer are decoded before a progress bar could be read

log = logging.getLogger(__name__)


def read_manifest(
    path: str | Path,
    *,
    image_root: str | Path | None = None,
    scale: Scale | str | Mapping[str, Scale | str] | None = None,
    dataset: str | None = None,
    image_key: str | None = None,
    score_key: str | None = None,
    std_key: str | None = None,
    on_bad_row: Literal["fail", "skip"] = "fail",
    rejects_path: str | Path | None = None,
    check_images: bool = True,
) -> list[RatedImage]:
    """The rated images of a manifest, in its order, their scores converted to 1..5.

    Arguments:
        path: a .jsonl, .json (a list, or an object that holds one), .csv or .parquet file.
        image_root: folder that relative image paths start from and that no image may lie outside of, be it through
            `..`, an absolute path or a symbolic link. Default: the manifest's folder.
        scale: the scale of the scores: a `Scale`, a name of `NAMED_SCALES`, "LOW:HIGH", "LOW:HIGH:lower", or a mapping
            from dataset names to these. Default: each row's `score_scale`, and where it has none, 1..5, higher is
            better. Never guessed from the values.
        dataset: name for rows that carry none.
        image_key, score_key, std_key: the one key to read instead of the known ones (see above).
        on_bad_row: "fail" raises on any bad row; "skip" leaves bad rows out and lists them in a rejects file. Bad are:
            a missing or unreadable image, one outside `image_root`, a missing, NaN or out-of-range score, an impossible
            std, an id that occurred before, and a row that is not an object.
        rejects_path: where "skip" lists them, as JSON Lines with file, line, reason and row. Default: the manifest's
            path + ".rejects.jsonl". A file there that is not an earlier rejects file is never overwritten.
        check_images: decode every image to be sure; without it an unreadable one shows only when it is used.

    Raises:
        ManifestError: the manifest is missing, empty, malformed or, after skipping, without any good row; with "fail",
            any row is bad. The bad rows are in the exception's `bad_rows`.
        ScaleError: `scale` is none.
    """
    path = Path(path)
    if on_bad_row not in ("fail", "skip"):
        raise ManifestError(f"on_bad_row is 'fail' or 'skip', not {on_bad_row!r}.")
    records = read_records(path)
    root = Path(image_root if image_root is not None else path.parent).resolve()
    if not root.is_dir():
        raise ManifestError(f"The image root {root} of manifest {path} is not a folder.")
    layout = Layout(root, scale, dataset or path.stem, image_key, score_key, std_key)

    rows: dict[int, RatedImage] = {}
    bad: list[BadRow] = []
    lines_by_id: dict[str, int] = {}
    unrated = 0
    for number, record in enumerate(records):
        try:
            row = layout.interpret(record)
            if row.id in lines_by_id:
                raise RowError(f"has the id {row.id!r} of line {lines_by_id[row.id]}")
            lines_by_id[row.id] = record.line
            rows[number] = row
        except RowError as error:
            unrated += isinstance(error, NoScoreError)
            bad.append(BadRow(path, record.line, str(error), record.row))
    if unrated == len(records):
        raise ManifestError(
            f"No row of manifest {path} has a human score ({bad[0].reason}): it can be scored, but neither trained on "
            "nor evaluated against; name a manifest with scores, or their key.",
            bad,
        )
    if check_images:
        reasons = _unreadable(row.image for row in rows.values())
        for number in [number for number, row in rows.items() if row.image in reasons]:
            row, record = rows.pop(number), records[number]
            bad.append(BadRow(path, record.line, reasons[row.image], record.row))
    bad.sort(key=lambda bad_row: bad_row.line)

    if on_bad_row == "fail" and bad:
        raise _bad_rows_error(path, bad, len(records))
    if on_bad_row == "skip":
        rejects = Path(rejects_path) if rejects_path is not None else path.with_name(path.name + ".rejects.jsonl")
        _write_rejects(bad, rejects)
        if not rows:
            raise ManifestError(f"All {len(bad)} rows of manifest {path} are bad, see {rejects}.", bad)
        if bad:
            log.warning(
                "Skipped %d of %d rows of %s, listed in %s.",
                len(bad),
                len(records),
                path,
                rejects,
            )
    return list(rows.values())


def write_manifest(rows: Sequence[RatedImage], path: str | Path) -> None:
    """Write a manifest that `read_manifest` reads back, in the form its suffix says: .jsonl, .json, .csv, .parquet.

    Image paths are written relative to the manifest's folder; images elsewhere keep their absolute path, and reading
    them back then needs an `image_root` above them. The file appears whole or not at all.

    Raises:
        ManifestError: there are no rows, or the suffix is another one.
    """
    path = Path(path)
    if not rows:
        raise ManifestError(f"There are no rated images to write to {path}.")
    folder = path.parent.resolve()
    records = [
        {
            "image": portable_path(row.image, folder),
            "mos": row.mos,
            "std": row.std,
            "dataset": row.dataset,
            "content": row.content,
            "id": row.id,
        }
        for row in rows
    ]
    write_records(records, path)


def _unreadable(images: Iterable[Path]) -> dict[Path, str]:
    """Those images that cannot be decoded, and why."""
    from tqdm import tqdm

    paths = list(dict.fromkeys(images))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        checks = pool.map(_reason_against, paths)
        bar = tqdm(
            checks,
            "Checking images",
            len(paths),
            unit="image",
            disable=len(paths) <= BAR_FROM,
        )
        return {path: reason for path, reason in zip(paths, bar, strict=True) if reason}


def _reason_against(path: Path) -> str:
    try:
        load_image(path)
    except ImageError as error:
        return str(error).rstrip(".")
    return ""


def _bad_rows_error(path: Path, bad: list[BadRow], count: int) -> ManifestError:
    listed = "; ".join(map(str, bad[:5])) + (f"; and {len(bad) - 5} more" if len(bad) > 5 else "")
    verb = "is" if len(bad) == 1 else "are"
    cure = "correct the manifest"
    if len(bad) < count:
        cure += ", or skip bad rows (on_bad_row='skip', --on-bad-row skip)"
    return ManifestError(f"{len(bad)} of {count} rows {verb} bad in {path}: {listed}; {cure}.", bad)


def _write_rejects(bad: list[BadRow], path: Path) -> None:
    """Replace the rejects file at `path`; without bad rows there is none afterwards."""
    if path.exists() and not _is_rejects_file(path):
        raise ManifestError(f"{path} is not a rejects file and is left as it is; name another with rejects_path.")
    if not bad:
        path.unlink(missing_ok=True)
        return
    rows = [
        {
            "file": str(row.file),
            "line": row.line,
            "reason": row.reason,
            "row": _plain(row.row),
        }
        for row in bad
    ]
    try:
        write_jsonl(rows, path, ensure_ascii=False, sync=True)
    except OSError as error:
        raise ManifestError(
            f"The rejects file {path} cannot be written ({error.strerror}); name another with rejects_path."
        ) from error


def _is_rejects_file(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError:
        return False
    return bool(rows) and all(isinstance(row, dict) and row.keys() == REJECT_KEYS for row in rows)


def _plain(value: Any) -> Any:
    """`value` as strict JSON can say it: NaN, infinities and other types as text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return shortened(value)
