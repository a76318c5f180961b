"""Waterloo Exploration Database: undistorted photographs (Ma et al., IEEE TIP 2017), for the gMAD competition.

It has no scores and no label file; its 94,880 distorted pictures are generated from these.
"""

from __future__ import annotations

from mriqa.datasets.data_set import DataSet, Entry, Reading
from mriqa.datasets.folder import Folder

PICTURES = "pristine_images"


def read(folder: Folder, labels: str) -> Reading:
    """Entries of the Waterloo Exploration Database's pristine pictures: 00001.bmp to 04744.bmp."""
    if labels:
        DATA_SET.chosen_labels(labels, {})
    pictures = folder.directory(PICTURES)
    names = [f"{place:05d}.bmp" for place in range(1, DATA_SET.rows + 1)]
    return Reading([Entry(name, pictures.file(name)) for name in names], "", f"{PICTURES}/")


DATA_SET = DataSet(
    name="waterloo",
    title="Waterloo Exploration (pristine)",
    rows=4_744,
    read=read,
    ratios=(8, 1, 1),
    licence="see the page",
    home="https://ece.uwaterloo.ca/~k29ma/exploration/",
    layout=f"{PICTURES}/00001.bmp …",
)
