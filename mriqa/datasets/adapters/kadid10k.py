"""KADID-10k: 81 photographs, 25 distortions at 5 levels, crowd ratings (Lin, Hosu, Saupe, QoMEX 2019).

Two of its columns mislead by their names: `dmos` is higher for better pictures, and `var` is a standard deviation (of
the rows whose mean fits 30 ratings, 98.5 % fit a deviation), so no root is taken.
"""

from __future__ import annotations

import re

from mriqa.datasets.data_set import DataSet, DataSetError, Entry, Labels, Reading, number
from mriqa.datasets.folder import Folder
from mriqa.datasets.label_files import read_csv

SCORES = "dmos.csv"
NAME = re.compile(r"(I\d+)_(\d+)_(\d+)\.\w+", re.IGNORECASE)


def read(folder: Folder, labels: str) -> Reading:
    """Entries of KADID-10k; distortions by the names of `mriqa.distortions`."""
    from mriqa.distortions import NAMES  # in KADID-10k's order; imports torch

    chosen = DATA_SET.chosen_labels(labels, {"dmos": SCORES})
    pictures = folder.directory("images")
    entries = []
    for row in read_csv(folder.label_file(SCORES), ["dist_img", "ref_img", "dmos", "var"]):
        name = row["dist_img"]
        match = NAME.fullmatch(name)
        if not match or not 1 <= int(match[2]) <= len(NAMES):
            raise DataSetError(f"{SCORES} names a picture {name!r}, which is none of KADID-10k's; download it again.")
        entries.append(
            Entry(
                name,
                pictures.file(name),
                mos=number(row["dmos"], f"the dmos of {name}"),
                std=number(row["var"], f"the var of {name}"),
                content=match[1].upper(),
                reference=pictures.file(row["ref_img"]),
                distortion=NAMES[int(match[2]) - 1],
                level=int(match[3]),
            )
        )
    return Reading(entries, chosen, SCORES)


DATA_SET = DataSet(
    name="kadid10k",
    title="KADID-10k",
    rows=10_125,
    read=read,
    labels={"dmos": Labels("kadid10k", (1, 4.93))},
    ratios=(57, 8, 16),
    licence="photographs of Pixabay under its licence; terms of the scores: see the page",
    home="https://database.mmsp-kn.de/kadid-10k-database.html",
    layout=f"images/I01.png, images/I01_01_01.png …, {SCORES}",
)
