"""LIVE Image Quality Assessment Database, release 2 (Sheikh, Sabir, Bovik, IEEE TIP 2006). Lower is better.

Its label file counts 982 pictures folder by folder (227 jp2k, 233 jpeg, 174 each wn, gblur, fastfading), undistorted
copies among them (`orgs` = 1), which are dropped: 779 stay. `dmos_realigned.mat` has realigned scores and deviations,
`dmos.mat` the older scores. Where there is neither, the list LIVE.txt that circulates is read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mriqa.datasets.data_set import DataSet, DataSetError, Entry, Labels, Reading, number
from mriqa.datasets.folder import Folder
from mriqa.datasets.label_files import read_csv, read_mat

REALIGNED, OLDER, LIST, REFERENCES = "dmos_realigned.mat", "dmos.mat", "LIVE.txt", "refnames_all.mat"
FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}


def read(folder: Folder, labels: str) -> Reading:
    """Entries of LIVE without the undistorted copies."""
    folder.label_file(REALIGNED, OLDER, LIST)
    files = {"realigned": REALIGNED, "dmos": OLDER, "listed": LIST}
    available = {name: file for name, file in files.items() if folder.file(file)}
    chosen = DATA_SET.chosen_labels(labels, available)
    path = folder.label_file(available[chosen])
    entries = _from_list(folder, path) if chosen == "listed" else _from_matlab(folder, path, chosen)
    return Reading(entries, chosen, available[chosen])


def _from_matlab(folder: Folder, path: Path, labels: str) -> list[Entry]:
    keys = ("dmos_new", "dmos_std", "orgs") if labels == "realigned" else ("dmos", "orgs")
    columns = read_mat(path, *keys)
    references = read_mat(folder.label_file(REFERENCES), "refnames_all")["refnames_all"]
    count = sum(FOLDERS.values())
    for key, column in {**columns, "refnames_all": references}.items():
        if np.size(column) != count:
            raise DataSetError(
                f"{key} in {path.parent} counts {np.size(column)} pictures instead of {count}: the label file is of "
                "another version."
            )
    names = [(kind, f"{kind}/img{place}.bmp") for kind, size in FOLDERS.items() for place in range(1, size + 1)]
    reference_pictures = folder.directory("refimgs", "")
    entries = []
    for row, (kind, name) in enumerate(names):
        if columns["orgs"][row]:
            continue
        reference = str(references[row])
        entries.append(
            Entry(
                name,
                folder.file(name),
                mos=number(columns[keys[0]][row], f"the DMOS of {name}"),
                std=number(columns["dmos_std"][row], f"the deviation of {name}") if "dmos_std" in columns else None,
                content=Path(reference).stem,
                reference=reference_pictures.file(reference),
                distortion=kind,
            )
        )
    return entries


def _from_list(folder: Folder, path: Path) -> list[Entry]:
    reference_pictures = folder.directory("refimgs", "")
    entries = []
    for row in read_csv(path, ["dis_img_path", "dis_type", "ref_img_path", "score"]):
        name = "/".join(Path(row["dis_img_path"]).parts[-2:])
        reference = Path(row["ref_img_path"])
        entries.append(
            Entry(
                name,
                folder.file(name),
                mos=number(row["score"], f"the score of {name}"),
                content=reference.stem,
                reference=reference_pictures.file(reference.name),
                distortion=Path(name).parent.name.lower(),
            )
        )
    return entries


OBSERVED = (-2.64, 111.77)  # of the realigned scores; of the others no other range is known to us

DATA_SET = DataSet(
    name="live",
    title="LIVE (release 2)",
    rows=779,
    read=read,
    labels={name: Labels("live", OBSERVED) for name in ("realigned", "dmos", "listed")},
    ratios=(20, 3, 6),
    licence="terms of the University of Texas at Austin: see the page",
    home="https://live.ece.utexas.edu/research/quality/subjective.htm",
    layout=f"refimgs/, jp2k/img1.bmp …, jpeg/, wn/, gblur/, fastfading/, {REALIGNED} or {OLDER}, {REFERENCES}",
)
