"""Write what was selected, with why each row was kept: a subset of one manifest, or the parts of a mixture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriqa.manifest import RatedImage
from mriqa.manifest.formats import read_records, write_records
from mriqa.manifest.rows import IMAGE_KEYS, Layout, RowError, portable_path
from mriqa.selection.mixture.choice import Chosen

if TYPE_CHECKING:
    from mriqa.selection.mixture.parts import Part


def selection_columns(chosen: Chosen, selector: str) -> list[dict[str, Any]]:
    """What is written beside each chosen row, in selection order: selector, order from 0, a score, a reason."""
    return [
        {
            "selected_by": selector,
            "selection_order": order,
            "selection_score": None if math.isnan(score) else float(score),
            "selection_reason": reason,
        }
        for order, (score, reason) in enumerate(zip(chosen.scores, chosen.reasons))
    ]


def write_subset(
    manifest: Path, image_root: Path | None, scale: Any, rows: Sequence[RatedImage], chosen: Chosen, selector: str,
    path: Path,
) -> None:  # fmt: skip
    """Write the chosen rows of a manifest as they stand there, with the selection's columns; whole or not at all.

    Scores stay on the manifest's scale, under their keys. Image paths start from the folder of `path` where the image
    lies inside, and are absolute elsewhere; a dataset, content or id that a row left out is written as it was read.

    Raises:
        ManifestError: `path` has a suffix that is no manifest's.
    """
    by_id = {row.id: record for row, record in _records(manifest, image_root, scale)}
    folder = path.parent.resolve()
    records = []
    for place, columns in zip(chosen.rows, selection_columns(chosen, selector)):
        row = rows[place]
        record = dict(by_id[row.id])
        image_key = next(key for key in IMAGE_KEYS if record.get(key))
        record[image_key] = portable_path(row.image, folder)
        if not record.get("dataset") and not record.get("dataset_name"):
            record["dataset"] = row.dataset
        record["content"] = row.content
        if not record.get("id") and not record.get("image_id"):
            record["id"] = row.id
        records.append({**record, **columns})
    names = dict.fromkeys(name for record in records for name in record)
    table = path.suffix.lower() in (".csv", ".parquet")  # which have a column for every name, and cells of text
    write_records(
        [{name: _cell(record.get(name), path) for name in names} if table else record for record in records], path
    )


def write_selection(parts: Sequence[Part], chosen: Sequence[Chosen], path: Path) -> None:
    """Write the chosen rows of all parts of a mixture as one JSON Lines file, on the 1..5 scale."""
    records = []
    for part, chosen_part in zip(parts, chosen):
        for place, columns in zip(chosen_part.rows, selection_columns(chosen_part, part.how.selector)):
            row = part.rows[place]
            values = {"image": str(row.image), "mos": row.mos, "std": row.std, "dataset": row.dataset}
            records.append({**values, "content": row.content, "id": row.id, "part": part.name, **columns})
    write_records(records, path)


def column_of(manifest: Path, image_root: Path | None, scale: Any, name: str) -> dict[str, str]:
    """Row id -> text of a column of the manifest, for the rows that have one."""
    return {
        row.id: str(record[name])
        for row, record in _records(manifest, image_root, scale)
        if record.get(name) is not None
    }


def _records(manifest: Path, image_root: Path | None, scale: Any) -> list[tuple[RatedImage, dict[str, Any]]]:
    """The usable rows of a manifest, read and as they stand there; the first of those with one id."""
    layout = Layout((image_root or manifest.parent).resolve(), scale, manifest.stem, None, None, None)
    by_id: dict[str, tuple[RatedImage, dict[str, Any]]] = {}
    for record in read_records(manifest):
        try:
            row = layout.interpret(record)
        except RowError:
            continue  # left out by read_manifest, too, where skipping was asked for
        by_id.setdefault(row.id, (row, record.row))
    return list(by_id.values())


def _cell(value: Any, path: Path) -> Any:
    if isinstance(value, (dict, list)) and path.suffix.lower() == ".csv":
        return json.dumps(value, ensure_ascii=False)
    return value
