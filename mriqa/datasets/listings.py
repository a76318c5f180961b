"""Which pictures a manifest or a list of names speaks of, whether they have scores or not, and whether they are there.

For auditing only: `mriqa.manifest.read_manifest` reads what is trained on, and is stricter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mriqa.errors import UserError
from mriqa.manifest.formats import read_records
from mriqa.manifest.rows import IMAGE_KEYS

NAME_KEYS = (*IMAGE_KEYS, "image_name", "name", "id", "image_id")


class AuditError(UserError, ValueError):
    """Manifests that can't be compared, as one sentence with the cure."""


@dataclass(frozen=True)
class ListedImage:
    """One picture that a manifest lists. The fields are those of `mriqa.manifest.RatedImage`, which serves as well.

    Attributes:
        image: where its file should be.
        dataset: name of its data set, "" where none is given.
        content: reference or prompt; equal to `id` where none is given.
        id: its name in the manifest.
        part: part of a split that the row names, "" for none.
    """

    image: Path
    dataset: str
    content: str
    id: str
    part: str = ""


def read_listing(path: Path, image_root: Path | None = None) -> list[ListedImage]:
    """The pictures of a manifest (.jsonl, .json, .csv, .parquet) or of a text file with a name on each line.

    Arguments:
        image_root: folder that relative paths start from. Default: the manifest's folder.

    Raises:
        AuditError: the file is missing or empty, or a row names no picture.
        ManifestError: a manifest can't be read.
    """
    root = image_root or path.parent
    if path.suffix.lower() != ".txt":
        return [_listed(record.row, record.line, path, root) for record in read_records(path)]
    if not path.is_file():
        raise AuditError(f"The list {path} does not exist.")
    names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not names:
        raise AuditError(f"The list {path} is empty: it needs a picture's name on each line.")
    return [ListedImage(root / name, "", name, name) for name in names]


def _listed(row: Any, line: int, path: Path, root: Path) -> ListedImage:
    name = _text(row, NAME_KEYS)
    if not name:
        raise AuditError(f"{path}:{line} names no picture (none of the keys {', '.join(NAME_KEYS)}); correct the row.")
    identifier = _text(row, ("id", "image_id")) or name
    content = _text(row, ("content", "prompt")) or identifier
    return ListedImage(
        root / name, _text(row, ("dataset", "dataset_name")), content, identifier, _text(row, ("split",))
    )


def _text(row: Any, keys: tuple[str, ...]) -> str:
    if not isinstance(row, dict):
        return ""
    values = (row.get(key) for key in keys)
    values = (value[0] if isinstance(value, list) and len(value) == 1 else value for value in values)
    return next((str(value).strip() for value in values if value is not None and str(value).strip()), "")
