"""PIPAL: 200 patches with distortions and outputs of restoration networks (Gu et al., ECCV 2020), rated by Elo.

What is public is the training part; its label files have no header.
"""

from __future__ import annotations

import re

from mriqa.datasets.data_set import DataSet, DataSetError, Entry, Labels, Reading, number
from mriqa.datasets.folder import Folder
from mriqa.datasets.label_files import read_fields

LABELS = "Train_Label"
NAME = re.compile(r"(A\d+)_(\d+)_(\d+)\.\w+", re.IGNORECASE)


def read(folder: Folder, labels: str) -> Reading:
    """Entries of PIPAL, by reference; distortions by the number in the file's name."""
    chosen = DATA_SET.chosen_labels(labels, {"elo": LABELS})
    references = folder.directory("Train_Ref", "")
    entries = []
    for path in folder.directory(LABELS).texts():
        for name, elo in read_fields(path, 2, ","):
            match = NAME.fullmatch(name)
            if not match:
                raise DataSetError(f"{path} names a picture {name!r}, which is none of PIPAL's; download it again.")
            entries.append(
                Entry(
                    name,
                    folder.file(name),
                    mos=number(elo, f"the Elo rating of {name}"),
                    content=match[1].upper(),
                    reference=references.file(f"{match[1]}.bmp"),
                    distortion=match[2],
                    level=int(match[3]),
                )
            )
    return Reading(entries, chosen, f"{LABELS}/*.txt")


DATA_SET = DataSet(
    name="pipal",
    title="PIPAL",
    rows=23_200,
    read=read,
    labels={"elo": Labels("pipal", (916.71, 1835.99))},
    ratios=(160, 40),
    licence="see the page",
    home="https://github.com/HaomingCai/PIPAL-dataset",
    layout="Train_Ref/A0001.bmp …, Distortion_1/A0001_00_00.bmp … Distortion_4/…, Train_Label/A0001.txt …",
)
