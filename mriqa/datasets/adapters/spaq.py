"""SPAQ: smartphone photographs (Fang, Zhu, Zeng, Ma, Wang, CVPR 2020). It publishes no deviations.

The pictures are large: say at how many pixels they were scored.
"""

from __future__ import annotations

from mriqa.datasets.data_set import DataSet, Entry, Labels, Reading, number
from mriqa.datasets.folder import Folder
from mriqa.datasets.label_files import read_sheet

SCORES = "MOS and Image attribute scores.xlsx"


def read(folder: Folder, labels: str) -> Reading:
    """Entries of SPAQ."""
    chosen = DATA_SET.chosen_labels(labels, {"mos": SCORES})
    rows = read_sheet(folder.label_file(SCORES), ["Image name", "MOS"])
    pictures = folder.directory("TestImage")
    entries = [
        Entry(name, pictures.file(name), mos=number(row["MOS"], f"the MOS of {name}"))
        for row in rows
        for name in [str(row["Image name"]).strip()]
    ]
    return Reading(entries, chosen, SCORES)


DATA_SET = DataSet(
    name="spaq",
    title="SPAQ",
    rows=11_125,
    read=read,
    labels={"mos": Labels("spaq", (2, 96))},
    ratios=(7_787, 1_113, 2_225),
    licence="see the page",
    home="https://github.com/h4nwei/SPAQ",
    layout=f"TestImage/00001.jpg …, Annotations/{SCORES}",
)
