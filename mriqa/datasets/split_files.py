"""Published splits, from the file that a user has: lists of names, or of rows by number.

Kinds of file: a text file with a name on each line; CSV, JSON or JSON Lines of names, of rows with an image, or of
either with the part they belong to; and NumPy's .npy with numbers of rows, one split (M,) or several (K, M). Negative
numbers are padding and dropped: as an index, −1 would be the last picture, in every part.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mriqa.datasets.data_set import PARTS, DataSetError, Entry
from mriqa.manifest.rows import IMAGE_KEYS

SUFFIXES = (".txt", ".csv", ".json", ".jsonl", ".npy")
NAME_KEYS = (*IMAGE_KEYS, "image_name", "name", "id")
PART_KEYS = ("split", "set", "part")
PART_NAMES = {"train": "training", "val": "validation", "valid": "validation", "testing": "test"}

Listed = list[tuple[str | int, str]]
"""Names, or numbers of rows from 0, each with its part ("" where the file doesn't say)."""


def apply_split_file(entries: Sequence[Entry], path: Path, index: int = 0) -> list[Entry]:
    """The entries that a split file lists, in their own order, with the part that it gives them (or "").

    Arguments:
        entries: the complete data set in the order of its label file, as numbers count its rows.
        path: the user's file.
        index: which split of an .npy file that holds several.

    Raises:
        DataSetError: the file can't be read, or names a picture or a row that the data set has not, or one twice in
            different parts.
    """
    listed = read_split_file(path, index)
    names = _Names(entries)
    part_of: dict[int, str] = {}
    unknown = []
    for name, part in listed:
        places = names.places(name)
        if not places:
            unknown.append(str(name))
        for place in places:
            if part_of.setdefault(place, part) != part:
                raise DataSetError(
                    f"The split file {path} puts {entries[place].name} into {part_of[place]} and {part}; correct it."
                )
    if unknown:
        raise DataSetError(
            f"The split file {path} lists {len(listed)} entries, {len(unknown)} of which the data set does not have "
            f"(first: {', '.join(unknown[:3])}); it belongs to another data set or version."
        )
    return [replace(entry, split=part_of[place]) for place, entry in enumerate(entries) if place in part_of]


def read_split_file(path: Path, index: int = 0) -> Listed:
    """What a split file lists, without padding. Raises DataSetError where it can't be read or lists nothing."""
    if path.suffix.lower() not in SUFFIXES:
        raise DataSetError(f"A split file ends in one of {', '.join(SUFFIXES)}, unlike {path}.")
    if not path.is_file():
        raise DataSetError(f"The split file {path} does not exist.")
    readers = {".txt": _from_text, ".csv": _from_csv, ".json": _from_json, ".jsonl": _from_json_lines}
    try:
        listed = _from_npy(path, index) if path.suffix.lower() == ".npy" else readers[path.suffix.lower()](path)
    except DataSetError:
        raise
    except (ValueError, OSError, EOFError, csv.Error, RecursionError) as error:
        raise DataSetError(f"The split file {path} cannot be read ({error}).") from error
    listed = [(name, part) for name, part in listed if not (isinstance(name, int) and name < 0)]
    if not listed:
        raise DataSetError(f"The split file {path} lists nothing.")
    return listed


def _from_text(path: Path) -> Listed:
    return [(line.strip(), "") for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _from_csv(path: Path) -> Listed:
    lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), skipinitialspace=True))
    lines = [cells for cells in lines if cells]
    header = [cell.strip() for cell in lines[0]] if lines else []
    if not any(key in header for key in NAME_KEYS):
        return [(cells[0].strip(), "") for cells in lines]
    return [_from_row(dict(zip(header, cells, strict=False)), path) for cells in lines[1:]]


def _from_json(path: Path) -> Listed:
    found = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(found, dict):
        return [(name, _part(part)) for part, items in found.items() for name, _ in _from_items(items, path)]
    return _from_items(found, path)


def _from_json_lines(path: Path) -> Listed:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return _from_items([json.loads(line) for line in lines if line.strip()], path)


def _from_items(items: Any, path: Path) -> Listed:
    if not isinstance(items, list):
        raise DataSetError(f"The split file {path} must hold lists of names or of rows, not {type(items).__name__}.")
    return [_from_row(item, path) if isinstance(item, dict) else (_name(item, path), "") for item in items]


def _from_row(row: dict[str, Any], path: Path) -> tuple[str | int, str]:
    name = next((row[key] for key in NAME_KEYS if row.get(key)), None)
    if isinstance(name, list) and len(name) == 1:
        name = name[0]
    return _name(name, path), _part(next((row[key] for key in PART_KEYS if row.get(key)), ""))


def _from_npy(path: Path, index: int) -> Listed:
    import numpy as np

    rows = np.load(path, allow_pickle=False)
    if rows.ndim not in (1, 2) or rows.dtype.kind not in "iu":
        raise DataSetError(
            f"The split file {path} must hold whole numbers (M,) or (K, M), not {rows.dtype} {rows.shape}."
        )
    if rows.ndim == 2 and not 0 <= index < len(rows):
        raise DataSetError(
            f"The split file {path} holds {len(rows)} splits, 0 to {len(rows) - 1}, and no split {index}."
        )
    return [(int(row), "") for row in (rows if rows.ndim == 1 else rows[index])]


def _name(value: Any, path: Path) -> str | int:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise DataSetError(f"The split file {path} lists {value!r}, which is neither a name nor the number of a row.")
    return value


def _part(text: Any) -> str:
    part = str(text).strip().lower()
    part = PART_NAMES.get(part, part)
    if part not in ("", *PARTS):
        raise DataSetError(f"A split file knows the parts {', '.join(PARTS)}, not {text!r}.")
    return part


class _Names:
    """Find entries by what lists call them: a path's end, a file name with or without its suffix, or their content."""

    def __init__(self, entries: Sequence[Entry]):
        self.count = len(entries)
        self.by_file: dict[str, list[tuple[str, int]]] = {}
        self.by_stem: dict[str, list[tuple[str, int]]] = {}
        self.by_content: dict[str, list[int]] = {}
        for place, entry in enumerate(entries):
            whole = entry.name.casefold()
            file = whole.rpartition("/")[2]
            self.by_file.setdefault(file, []).append((whole, place))
            self.by_stem.setdefault(file.rpartition(".")[0] or file, []).append((whole, place))
            if entry.content:
                self.by_content.setdefault(entry.content.casefold(), []).append(place)

    def places(self, name: str | int) -> Iterable[int]:
        """Places of the entries meant; none where there are none. Raises DataSetError where it isn't clear which."""
        if isinstance(name, int):
            return [name] if name < self.count else []
        whole = name.replace("\\", "/").casefold()
        file = whole.rpartition("/")[2]
        fitting = self.by_file.get(file) or self.by_stem.get(file, [])
        if len(fitting) > 1:
            fitting = [(own, place) for own, place in fitting if _ends_alike(own, whole)] or fitting
        if len(fitting) > 1:
            raise DataSetError(f"The split file's {name!r} may be {fitting[0][0]} or {fitting[1][0]}; write the path.")
        if fitting:
            return [fitting[0][1]]
        return self.by_content.get(whole) or self.by_content.get(file.rpartition(".")[0], [])


def _ends_alike(first: str, second: str) -> bool:
    return f"/{first}".endswith(f"/{second}") or f"/{second}".endswith(f"/{first}")
