"""BID: photographs with real blur (Ciancio et al., IEEE TIP 2011). The single grades give the deviation."""

from __future__ import annotations

import statistics
from typing import Any

from mriqa.datasets.data_set import DataSet, Entry, Labels, Reading, number, whole_number
from mriqa.datasets.folder import Folder
from mriqa.datasets.label_files import read_sheet

WORKBOOKS = ("DatabaseGrades.xlsx", "DatabaseGrades.xls")
FIRST_GRADE = 3  # column D: the first three are number, mean and a column that is no grade


def read(folder: Folder, labels: str) -> Reading:
    """Entries of BID."""
    path = folder.label_file(*WORKBOOKS)
    chosen = DATA_SET.chosen_labels(labels, {"mos": path.name})
    entries = []
    for row in read_sheet(path, ["Image Number", "Average Subjective Grade"]):
        name = f"DatabaseImage{whole_number(row['Image Number'], 'an Image Number'):04d}.JPG"
        entries.append(
            Entry(
                name,
                folder.file(name),
                mos=number(row["Average Subjective Grade"], f"the grade of {name}"),
                std=_deviation(row[""][FIRST_GRADE:]),
            )
        )
    return Reading(entries, chosen, path.name)


def _deviation(cells: list[Any]) -> float | None:
    """Of the single grades (with n − 1); None where fewer than two are given."""
    grades = [float(cell) for cell in cells if isinstance(cell, (int, float)) and not isinstance(cell, bool)]
    grades = [grade for grade in grades if grade == grade]  # an empty cell may be NaN
    return statistics.stdev(grades) if len(grades) > 1 else None


DATA_SET = DataSet(
    name="bid",
    title="BID",
    rows=586,
    read=read,
    labels={"mos": Labels("bid", (0.164, 4.92))},
    ratios=(4, 1),
    licence="see the page",
    home="https://www02.smt.ufrj.br/~eduardo/ImageDatabase.htm",
    layout="ImageDatabase/DatabaseImage0001.JPG …, DatabaseGrades.xlsx or .xls",
)
