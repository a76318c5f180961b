"""LIVE In the Wild Image Quality Challenge (Ghadiyaram, Bovik, IEEE TIP 2016), also LIVE-Challenge, CLIVE, LIVEW.

The first seven pictures, t1.bmp to t7.bmp, trained the raters; they are no part of the data set.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from mriqa.datasets.data_set import DataSet, DataSetError, Entry, Labels, Reading, number
from mriqa.datasets.folder import Folder
from mriqa.datasets.label_files import read_mat

NAMES, SCORES, DEVIATIONS = "AllImages_release", "AllMOS_release", "AllStdDev_release"
FOR_RATERS = re.compile(r"t[1-7]\.bmp", re.IGNORECASE)


def read(folder: Folder, labels: str) -> Reading:
    """Entries of LIVE-Challenge without the raters' training pictures."""
    chosen = DATA_SET.chosen_labels(labels, {"mos": f"{SCORES}.mat"})
    names = [str(name) for name in _column(folder.label_file(f"{NAMES}.mat"), NAMES)]
    scores = _column(folder.label_file(f"{SCORES}.mat"), SCORES)
    deviation_file = folder.optional_label_file(f"{DEVIATIONS}.mat")
    deviations = _column(deviation_file, DEVIATIONS) if deviation_file else [None] * len(names)
    if not len(names) == len(scores) == len(deviations):
        raise DataSetError(
            f"The label files in {folder.root} have {len(names)} names, {len(scores)} scores and {len(deviations)} "
            "deviations: they are of different versions; download them again."
        )
    pictures = folder.directory("Images")
    entries = [
        Entry(
            name,
            pictures.file(name),
            mos=number(score, f"the MOS of {name}"),
            std=None if deviation is None else number(deviation, f"the deviation of {name}"),
        )
        for name, score, deviation in zip(names, scores, deviations, strict=True)
        if not FOR_RATERS.fullmatch(name)
    ]
    return Reading(entries, chosen, f"{SCORES}.mat")


def _column(path: Path, key: str) -> list[object]:
    return list(np.atleast_1d(read_mat(path, key)[key]).ravel())


DATA_SET = DataSet(
    name="livec",
    title="LIVE In the Wild (Challenge)",
    rows=1_162,
    read=read,
    labels={"mos": Labels("livec", (3.42, 92.43))},
    ratios=(813, 117, 232),
    licence="terms of the University of Texas at Austin: see the page",
    home="https://live.ece.utexas.edu/research/ChallengeDB/",
    layout=f"ChallengeDB_release/Images/*, Data/{NAMES}.mat, {SCORES}.mat, {DEVIATIONS}.mat",
)
