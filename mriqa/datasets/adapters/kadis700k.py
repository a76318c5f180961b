"""KADIS-700k: the undistorted photographs that its distorted ones are generated from (Lin, Hosu, Saupe, 2020).

No scores: for pretraining and for pairs, not for training on ratings.
"""

from __future__ import annotations

from mriqa.datasets.data_set import DataSet, Entry, Reading
from mriqa.datasets.folder import Folder
from mriqa.datasets.label_files import read_csv

LIST = "kadis700k_ref_imgs.csv"


def read(folder: Folder, labels: str) -> Reading:
    """Entries of KADIS-700k's reference pictures."""
    if labels:
        DATA_SET.chosen_labels(labels, {})
    pictures = folder.directory("ref_imgs")
    rows = read_csv(folder.label_file(LIST), ["ref_im"])
    names = dict.fromkeys(row["ref_im"] for row in rows)  # a picture may be listed for each of its distortions
    return Reading([Entry(name, pictures.file(name)) for name in names], "", LIST)


DATA_SET = DataSet(
    name="kadis700k",
    title="KADIS-700k (references)",
    rows=140_000,
    rows_exact=False,
    read=read,
    ratios=(8, 1, 1),
    licence="photographs of Pixabay under its licence; terms: see the page",
    home="https://database.mmsp-kn.de/kadid-10k-database.html",
    layout=f"kadis700k/ref_imgs/*.png, {LIST}",
)
