"""Manifest files of every kind to numbered records, and records to files: JSON Lines, JSON, CSV, Parquet.

Only the container is read here; what the keys of a record mean is the business of `mriqa.manifest`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mriqa.errors import UserError
from mriqa.files import replacing, write_json, write_jsonl

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class BadRow:
    """A row that was refused: file, line (in Parquet the row's number), why, and the row as it stood there."""

    file: Path
    line: int
    reason: str
    row: Any

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class ManifestError(UserError, ValueError):
    """A manifest that cannot be used, as one sentence naming it and the cure; `bad_rows` lists the rows to blame."""

    def __init__(self, message: str, bad_rows: Sequence[BadRow] = ()):
        super().__init__(message)
        self.bad_rows = list(bad_rows)


@dataclass(frozen=True)
class Record:
    """One row as it stands in the file.

    `line` is the line it starts at; in Parquet, which has no lines, the number of the row from 1. A row that could
    not be read has its text in `row` and the reason in `problem`.
    """

    line: int
    row: Any
    problem: str = ""


def read_records(path: Path) -> list[Record]:
    """All records of a manifest, in order. Raises ManifestError where the file as a whole cannot be read."""
    return list(stream_records(path))


def stream_records(path: Path) -> Iterator[Record]:
    """The same one by one; only JSON, which has no lines, is read as a whole."""
    readers: dict[str, Callable[[Path], Iterator[Record]]] = {
        ".jsonl": _read_jsonl,
        ".json": _read_json,
        ".csv": _read_csv,
        ".parquet": _read_parquet,
    }
    if path.suffix.lower() not in readers:
        raise ManifestError(f"Manifest {path} must end in one of {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise ManifestError(f"Manifest {path} does not exist.")
    empty = True
    try:
        for record in readers[path.suffix.lower()](path) if path.stat().st_size else ():
            empty = False
            yield record
    except OSError as error:
        raise ManifestError(
            f"Manifest {path} cannot be read ({error.strerror or error}); see to that, or copy it."
        ) from error
    if empty:
        raise ManifestError(f"Manifest {path} is empty: it needs at least one row with an image and a score.")


def write_records(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows that share their keys, in the form the suffix says; the file appears whole or not at all.

    Missing folders are made. Raises ManifestError for another suffix.
    """
    match path.suffix.lower():
        case ".jsonl":
            write_jsonl(rows, path, ensure_ascii=False, sync=True)
        case ".json":
            write_json(rows, path, indent=1, ensure_ascii=False, sync=True)
        case ".csv":
            _write_csv(rows, path)
        case ".parquet":
            _write_parquet(rows, path)
        case _:
            raise ManifestError(f"A manifest is written to one of {', '.join(SUFFIXES)}, not to {path}.")


def _read_jsonl(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError) as error:
                yield Record(
                    number,
                    line.decode("utf-8", errors="replace").strip(),
                    f"is not JSON ({error})",
                )
                continue
            yield _object_record(number, row)


def _read_json(path: Path) -> Iterator[Record]:
    text = _read_text(path)
    if not text.strip():
        return
    decoder = json.JSONDecoder()
    try:
        position = _skip_space(text, 0)
        start = position if text[position : position + 1] == "[" else _find_list(path, text, position, decoder)
        line, counted = 1, 0
        for offset, row in _list_items(text, start, decoder):
            line, counted = line + text.count("\n", counted, offset), offset
            yield _object_record(line, row)
        json.loads(text)  # whatever follows the list has to be JSON, too
    except (ValueError, RecursionError) as error:
        if isinstance(error, ManifestError):
            raise
        hint = "; if it holds one object a line, name it .jsonl" if "Extra data" in str(error) else ""
        raise ManifestError(f"Manifest {path} is not JSON ({error}){hint}.") from error


def _find_list(path: Path, text: str, position: int, decoder: json.JSONDecoder) -> int:
    """Where, in the text of a JSON object, its one list starts."""
    document = json.loads(text)
    lists = [key for key, value in document.items() if isinstance(value, list)] if isinstance(document, dict) else []
    of_rows = [key for key in lists if document[key] and all(isinstance(row, dict) for row in document[key])]
    candidates = of_rows or lists
    if len(candidates) != 1:
        found = f"it holds {len(candidates)}: {', '.join(candidates)}" if candidates else "it holds none"
        raise ManifestError(f"Manifest {path} must be a list of rows, or an object with one such list; {found}.")
    # Walk over the object's members, as only the decoder knows where each of them ends.
    start, position = -1, _skip_space(text, position + 1)
    while text[position] != "}":
        key, position = decoder.raw_decode(text, position)
        position = _skip_space(text, _skip_space(text, position) + 1)
        if key == candidates[0]:
            start = position
        _, position = decoder.raw_decode(text, position)
        position = _skip_comma(text, position)
    return start


def _list_items(text: str, start: int, decoder: json.JSONDecoder) -> Iterator[tuple[int, Any]]:
    """Each item of the JSON list at `start`, with the place where it starts."""
    position = _skip_space(text, start + 1)
    while text[position : position + 1] != "]":
        item, end = decoder.raw_decode(text, position)
        yield position, item
        position = _skip_comma(text, end)


def _skip_comma(text: str, position: int) -> int:
    """The next member's place after an optional comma; `json.loads` complains about a missing or double one."""
    position = _skip_space(text, position)
    return _skip_space(text, position + 1) if text[position : position + 1] == "," else position


def _skip_space(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\t", "\n", "\r"):
        position += 1
    return position


def _read_csv(path: Path) -> Iterator[Record]:
    file = path.open(encoding="utf-8-sig", newline="")
    reader = csv.reader(file, skipinitialspace=True, strict=True)
    header: list[str] | None = None
    end = 0
    try:
        for cells in reader:
            line, end = end + 1, reader.line_num
            if not cells:
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                if len(set(header)) < len(header):
                    raise ManifestError(f"Manifest {path} names a column twice in its header.")
            elif len(cells) != len(header):
                yield Record(
                    line,
                    ",".join(cells),
                    f"has {len(cells)} cells, but the header has {len(header)}",
                )
            else:
                yield Record(line, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise ManifestError(f"Manifest {path} is not CSV (line {reader.line_num}: {error}).") from error
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error
    finally:
        file.close()


def _read_parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(1000) for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                yield Record(number, row)
    except (pyarrow.ArrowException, OSError) as error:
        raise ManifestError(f"Manifest {path} is not a readable Parquet file ({error}).") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error


def _not_utf8(path: Path, error: UnicodeDecodeError) -> ManifestError:
    return ManifestError(f"Manifest {path} is not UTF-8 text ({error}).")


def _object_record(line: int, row: Any) -> Record:
    problem = "" if isinstance(row, dict) else f"is a {type(row).__name__}, not an object with keys"
    return Record(line, row, problem)


def _write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    with replacing(path, sync=True) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    with replacing(path, sync=True) as temporary:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), temporary)
