"""UHD-IQA: photographs of 3,840 pixels and high quality (Hosu, Agnolucci, Wiedemann, Iso, Saupe, ECCV 2024 workshops).

The database has one label file, the challenge that used it a file for each part; the split is official in both.
"""

from __future__ import annotations

from mriqa.datasets.data_set import PARTS, DataSet, Entry, Labels, Reading, number
from mriqa.datasets.folder import Folder
from mriqa.datasets.label_files import read_csv

SCORES = "uhd-iqa-metadata.csv"
SCORES_OF = {part: f"uhd-iqa-{part}-metadata.csv" for part in PARTS}


def read(folder: Folder, labels: str) -> Reading:
    """Entries of UHD-IQA."""
    path = folder.label_file(SCORES, *SCORES_OF.values())
    whole = folder.file(SCORES) is not None
    chosen = DATA_SET.chosen_labels(labels, {"mos": path.name})
    if whole:
        rows = [(row["set"], row) for row in read_csv(path, ["image_name", "quality_mos", "set"])]
    else:
        files = [(part, folder.optional_label_file(name)) for part, name in SCORES_OF.items()]
        rows = [(part, row) for part, file in files if file for row in read_csv(file, ["image_name", "quality_mos"])]
    entries = [
        Entry(
            row["image_name"],
            folder.file(f"{part}/{row['image_name']}"),
            mos=number(row["quality_mos"], f"the quality_mos of {row['image_name']}"),
            split=part,
        )
        for part, row in rows
    ]
    return Reading(entries, chosen, SCORES if whole else "uhd-iqa-…-metadata.csv")


DATA_SET = DataSet(
    name="uhdiqa",
    title="UHD-IQA",
    rows=6_073,
    read=read,
    labels={"mos": Labels("uhdiqa", (0.2865, 0.889))},
    ratios=(4_269, 904, 900),
    official_split="the folders, column `set` of the label file",
    licence="photographs of Pixabay, CC0 when they were taken; terms of the scores: see the page",
    home="https://database.mmsp-kn.de/uhd-iqa-benchmark-database.html",
    layout=f"training/, validation/, test/, {SCORES}",
)
