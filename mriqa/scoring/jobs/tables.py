"""Rows to a JSON Lines, CSV or Parquet file as they come: the file appears under its name only once it is complete."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from mriqa.errors import UserError
from mriqa.files import flush_to_disk

SUFFIXES = (".jsonl", ".csv", ".parquet")
ROW_GROUP = 4096


class OutputError(UserError, ValueError):
    """An output file that cannot be written, as one sentence naming it and the cure."""


def check_output(path: str | Path, overwrite: bool = False, suffixes: tuple[str, ...] = SUFFIXES) -> Path:
    """`path`, once it is sure to have a suffix we write and to replace no file against the user's will."""
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"The output {path} must end in one of {', '.join(suffixes)}.")
    if path.is_dir():
        raise OutputError(f"The output {path} is a folder; name a file in it.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already; name another file, or replace it with --overwrite.")
    return path


class TableFile:
    """A table being written: `with TableFile(path, {"image": str, "score": float}) as table: table.write(row)`.

    Rows go to `path` + ".partial", which takes the place of `path` at the end of the block. If the block fails, `path`
    stays as it was and the partial file keeps the rows so far (for Parquet, whole groups of 4,096 rows).
    NaN is written as null, and as an empty cell in CSV. Raises OutputError where the disk is full or not writable.
    """

    def __init__(self, path: str | Path, columns: Mapping[str, type], overwrite: bool = False) -> None:
        self.path = check_output(path, overwrite)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.columns = dict(columns)

    def __enter__(self) -> TableFile:
        writers: dict[str, type[_JsonLines | _Csv | _Parquet]]
        writers = {".jsonl": _JsonLines, ".csv": _Csv, ".parquet": _Parquet}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = writers[self.path.suffix.lower()](self.partial, self.columns)
        except OSError as error:
            raise self._error(error) from error
        return self

    def write(self, row: Mapping[str, Any]) -> None:
        """Add one row; columns it lacks are null."""
        try:
            self._writer.write({name: _finite_or_none(row.get(name)) for name in self.columns})
        except OSError as error:
            raise self._error(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
            if kind is None:
                flush_to_disk(self.partial)
                self.partial.replace(self.path)
        except OSError as failure:
            if kind is None:
                raise self._error(failure) from failure

    def _error(self, error: OSError) -> OutputError:
        reason = error.strerror or str(error)
        kept = f" The rows so far are in {self.partial}." if self.partial.exists() else ""
        return OutputError(f"{self.path} cannot be written: {reason}.{kept}")


class _JsonLines:
    def __init__(self, path: Path, columns: dict[str, type]) -> None:
        self.file: IO[str] = path.open("w", encoding="utf-8", errors="surrogateescape")

    def write(self, row: dict[str, Any]) -> None:
        self.file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class _Csv:
    def __init__(self, path: Path, columns: dict[str, type]) -> None:
        self.file: IO[str] = path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
        self.rows = csv.DictWriter(self.file, list(columns))
        self.rows.writeheader()

    def write(self, row: dict[str, Any]) -> None:
        self.rows.writerow(row)
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class _Parquet:
    def __init__(self, path: Path, columns: dict[str, type]) -> None:
        import pyarrow
        import pyarrow.parquet

        types = {str: pyarrow.string(), float: pyarrow.float64(), int: pyarrow.int64()}
        self.schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
        self.file = pyarrow.parquet.ParquetWriter(path, self.schema)
        self.waiting: list[dict[str, Any]] = []

    def write(self, row: dict[str, Any]) -> None:
        # File names may hold bytes that are no UTF-8, which Parquet's text has no place for.
        self.waiting.append({name: _utf8(value) for name, value in row.items()})
        if len(self.waiting) == ROW_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self.file.close()

    def _flush(self) -> None:
        import pyarrow

        if self.waiting:
            self.file.write_table(pyarrow.Table.from_pylist(self.waiting, self.schema))
            self.waiting = []


def _utf8(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
