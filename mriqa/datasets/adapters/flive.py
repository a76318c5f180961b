"""FLIVE, also PaQ-2-PiQ or LIVE-FB: photographs of social media (Ying et al., CVPR 2020); whole pictures, not patches.

The official split: the pictures of `labels640.csv` are for testing, those marked `is_valid` in `labels<=640_padded.csv`
for validation, all others for training.
"""

from __future__ import annotations

from pathlib import Path

from mriqa.datasets.data_set import DataSet, DataSetError, Entry, Labels, Reading, number
from mriqa.datasets.folder import Folder
from mriqa.datasets.label_files import read_csv

SCORES, TEST, PADDED = "labels_image.csv", "labels640.csv", "labels<=640_padded.csv"
NAME_COLUMNS = ("name_image", "name")


def read(folder: Folder, labels: str) -> Reading:
    """Entries of FLIVE; the split is known where both files that hold it are there."""
    chosen = DATA_SET.chosen_labels(labels, {"mos": SCORES})
    rows = read_csv(folder.label_file(SCORES), ["name", "mos"])
    test_file, padded_file = folder.file(TEST), folder.matching("labels", "640_padded.csv")
    test: set[str] = set()
    validation: set[str] = set()
    if test_file and padded_file:
        test = {_name(row, test_file) for row in read_csv(test_file)}
        marked = [row for row in read_csv(padded_file, ["is_valid"]) if row["is_valid"].lower() in ("true", "1", "1.0")]
        validation = {_name(row, padded_file) for row in marked} - test
    pictures = folder.directory("database", "")
    entries = []
    for row in rows:
        name = row["name"]
        part = "test" if name.casefold() in test else "validation" if name.casefold() in validation else "training"
        entries.append(
            Entry(
                name,
                pictures.file(name),
                mos=number(row["mos"], f"the mos of {name}"),
                split=part if test_file and padded_file else "",
            )
        )
    return Reading(entries, chosen, SCORES)


def _name(row: dict[str, str], path: Path) -> str:
    found = next((row[column] for column in NAME_COLUMNS if row.get(column)), None)
    if found is None:
        raise DataSetError(
            f"The label file {path} has no column {' or '.join(NAME_COLUMNS)}: it is of another version."
        )
    return found.casefold()


DATA_SET = DataSet(
    name="flive",
    title="FLIVE (PaQ-2-PiQ)",
    rows=39_810,
    read=read,
    labels={"mos": Labels("flive", (0, 94.33))},
    ratios=(30_253, 7_727, 1_827),
    official_split=f"{TEST} (test) and `is_valid` of {PADDED} (validation)",
    licence="see the page",
    home="https://github.com/niu-haoran/FLIVE_Database",
    layout=f"database/voc_emotic_ava/*, database/blur_dataset/*, database/EE371R/*, {SCORES}, {TEST}, {PADDED}",
)
