"""Label files of public data sets to rows of named cells: text tables, Excel workbooks, MATLAB files.

What stands in the cells is the adapters' business. Nothing here unpickles or runs anything that a file holds.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mriqa.datasets.data_set import DataSetError

HEADER_WITHIN = 10  # rows of a sheet, before which its header must stand


def read_csv(path: Path, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """Rows of a comma-separated file with a header. Raises DataSetError where one of `columns` is not there."""
    lines = _text(path).splitlines()
    try:
        reader = csv.DictReader(lines, skipinitialspace=True)
        header = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = header
        _check_columns(path, header, columns)
        return [{name: (cell or "").strip() for name, cell in row.items() if name is not None} for row in reader]
    except csv.Error as error:
        raise DataSetError(
            f"The label file {path} is not comma-separated text ({error}); download it again."
        ) from error


def read_fields(path: Path, count: int, separator: str | None = None) -> list[list[str]]:
    """The fields of every line of a text file without a header, `count` of them on each. None separates by spaces."""
    rows = []
    for line_number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(separator)]
        if len(cells) != count:
            raise DataSetError(
                f"Line {line_number} of the label file {path} has {len(cells)} fields instead of {count}: it is "
                "damaged or of another version."
            )
        rows.append(cells)
    return rows


def read_sheet(path: Path, columns: Sequence[str], sheet: str = "") -> list[dict[str, Any]]:
    """Rows of an Excel sheet by the names in its header, which is looked for in the first rows; empty rows left out.

    The cells stand under `columns`; the whole row, in its order, stands under "" as a list.

    Arguments:
        path: an .xlsx file (read with openpyxl) or .xls (with xlrd, where that is installed).
        columns: names that the header must hold.
        sheet: the sheet's name; the first one by default.

    Raises:
        DataSetError: the library or the sheet or a column is missing, or the file is not a workbook.
    """
    read = _xls_rows if path.suffix.lower() == ".xls" else _xlsx_rows
    rows = iter(read(path, sheet))
    best: list[str] = []
    for _, cells in zip(range(HEADER_WITHIN), rows, strict=False):
        header = ["" if cell is None else str(cell).strip() for cell in cells]
        if all(name in header for name in columns):
            places = [header.index(name) for name in columns]
            padded = (list(row) + [None] * (len(header) - len(row)) for row in rows)
            return [
                {**{name: row[place] for name, place in zip(columns, places, strict=True)}, "": row}
                for row in padded
                if any(row[place] not in (None, "") for place in places)
            ]
        best = max(best, header, key=lambda names: sum(name in names for name in columns))
    _check_columns(path, [name for name in best if name], columns)
    raise AssertionError("a header that holds every column was found before")


def read_mat(path: Path, *keys: str) -> dict[str, Any]:
    """The variables `keys` of a MATLAB file, as arrays. Raises DataSetError where one is missing."""
    import scipy.io

    try:
        variables = scipy.io.loadmat(path, squeeze_me=True, variable_names=keys)
    except NotImplementedError:
        raise DataSetError(f"The label file {path} is of MATLAB 7.3; save it again with 'save -v7'.") from None
    except Exception as error:  # a damaged file raises nearly anything
        raise DataSetError(
            f"The label file {path} is not a readable MATLAB file ({error}); download it again."
        ) from error
    _check_columns(path, [key for key in variables if not key.startswith("__")], keys, "variable")
    return {key: variables[key] for key in keys}


def mat_keys(path: Path) -> list[str]:
    """The names of the variables in a MATLAB file."""
    import scipy.io

    try:
        return [name for name, _, _ in scipy.io.whosmat(path)]
    except Exception as error:
        raise DataSetError(
            f"The label file {path} is not a readable MATLAB file ({error}); download it again."
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataSetError(f"The label file {path} is not text ({error}); download it again.") from error


def _check_columns(path: Path, found: Iterable[str], wanted: Sequence[str], kind: str = "column") -> None:
    found = list(found)
    missing = [name for name in wanted if name not in found]
    if missing:
        listed = ", ".join(found[:12]) or "none"
        raise DataSetError(
            f"The label file {path} has no {kind} {' or '.join(map(repr, missing))}, only {listed}: it is of another "
            "version."
        )


def _xlsx_rows(path: Path, sheet: str) -> Iterator[Sequence[Any]]:
    try:
        import openpyxl
    except ImportError:
        raise DataSetError(f"Reading {path.name} needs openpyxl: pip install 'mriqa[data]'.") from None
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # a damaged archive raises nearly anything
        raise DataSetError(f"The label file {path} is not an Excel workbook ({error}); download it again.") from error
    try:
        _check_columns(path, book.sheetnames, [sheet] if sheet else [], "sheet")
        yield from (book[sheet] if sheet else book.worksheets[0]).iter_rows(values_only=True)
    finally:
        book.close()


def _xls_rows(path: Path, sheet: str) -> Iterator[Sequence[Any]]:
    try:
        import xlrd
    except ImportError:
        raise DataSetError(
            f"Reading {path.name} needs xlrd (pip install xlrd); or save it as .xlsx beside it."
        ) from None
    try:
        book = xlrd.open_workbook(str(path))
    except Exception as error:
        raise DataSetError(f"The label file {path} is not an Excel workbook ({error}); download it again.") from error
    _check_columns(path, book.sheet_names(), [sheet] if sheet else [], "sheet")
    table = book.sheet_by_name(sheet) if sheet else book.sheet_by_index(0)
    yield from (table.row_values(row) for row in range(table.nrows))
