"""KonIQ-10k: photographs from the wild with crowd ratings (Hosu, Lin, Sziranyi, Saupe, IEEE TIP 2020).

Its authors published the scores twice. File (a) has the mean of the ratings (MOS, 1..5) and their z-score; in file (b),
which holds the official split, the column `MOS` is the z-score. The two are no affine map of each other, so the column
is chosen (`--labels mos|zscore`) and never mixed. The deviation is that of the ratings, 1..5, in both files: beside a
z-score it is kept apart (`rating_std`) and not rescaled with it. File (b) also counts the ratings, from which its MOS
on 1..5 comes.
"""

from __future__ import annotations

from mriqa.datasets.data_set import DataSet, Entry, Labels, Reading, number
from mriqa.datasets.folder import Folder
from mriqa.datasets.label_files import read_csv

SCORES = "koniq10k_scores_and_distributions.csv"
SETS = "koniq10k_distributions_sets.csv"
COUNTS = ("c1", "c2", "c3", "c4", "c5")


def read(folder: Folder, labels: str) -> Reading:
    """Entries of KonIQ-10k; the split is known where file (b) is there."""
    folder.label_file(SCORES, SETS)
    scores, sets = folder.file(SCORES), folder.file(SETS)
    score_rows = read_csv(scores, ["image_name", "MOS", "SD"]) if scores else []
    set_rows = read_csv(sets, ["image_name", *COUNTS, "MOS", "SD", "set"]) if sets else []
    available = {"mos": SCORES} if scores else {}
    if score_rows and "MOS_zscore" in score_rows[0]:
        available["zscore"] = SCORES
    if sets:
        available = {**available, "zscore": available.get("zscore", SETS)}
        available.setdefault("mos", SETS)
    chosen = DATA_SET.chosen_labels(labels, available)

    source = available[chosen]
    pictures = folder.directory("1024x768", "512x384", "images")
    split_of = {row["image_name"]: row["set"] for row in set_rows}
    entries = []
    for row in score_rows if source == SCORES else set_rows:
        name = row["image_name"]
        std = number(row["SD"], f"the SD of {name}")
        entries.append(
            Entry(
                name,
                pictures.file(name),
                mos=_score(row, chosen, source),
                std=std if chosen == "mos" else None,
                rating_std=None if chosen == "mos" else std,
                split=split_of.get(name, ""),
            )
        )
    return Reading(entries, chosen, source)


def _score(row: dict[str, str], labels: str, source: str) -> float:
    name = row["image_name"]
    if labels == "mos" and source == SETS:
        counts = [number(row[column], f"{column} of {name}") for column in COUNTS]
        total = number(sum(counts) or None, f"the number of ratings of {name}")
        return sum(grade * count for grade, count in enumerate(counts, start=1)) / total
    column = "MOS_zscore" if labels == "zscore" and source == SCORES else "MOS"
    return number(row[column], f"the {column} of {name}")


DATA_SET = DataSet(
    name="koniq10k",
    title="KonIQ-10k",
    rows=10_073,
    read=read,
    labels={"mos": Labels("koniq10k", (1.096, 4.31)), "zscore": Labels("koniq10k_zscore", (3.91, 88.39))},
    ratios=(7_051, 1_007, 2_015),
    official_split=f"column `set` of {SETS}",
    licence="photographs of YFCC100M, each under its Creative Commons licence; terms of the scores: see the page",
    home="https://database.mmsp-kn.de/koniq-10k-database.html",
    layout=f"1024x768/*.jpg or 512x384/*.jpg, {SCORES} and/or {SETS}",
)
