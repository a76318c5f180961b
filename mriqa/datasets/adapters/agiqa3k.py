"""AGIQA-3K: pictures of six generators from 300 prompts (Li et al., IEEE TCSVT 2023), rated for quality.

The prompt is the content: splits must not share prompts. The scores of alignment with the prompt are left alone.
"""

from __future__ import annotations

from mriqa.datasets.data_set import DataSet, Entry, Labels, Reading, number
from mriqa.datasets.folder import Folder
from mriqa.datasets.label_files import read_csv

SCORES = "data.csv"


def read(folder: Folder, labels: str) -> Reading:
    """Entries of AGIQA-3K."""
    chosen = DATA_SET.chosen_labels(labels, {"quality": SCORES})
    entries = [
        Entry(
            row["name"],
            folder.file(row["name"]),
            mos=number(row["mos_quality"], f"the mos_quality of {row['name']}"),
            std=number(row["std_quality"], f"the std_quality of {row['name']}"),
            content=row["prompt"],
        )
        for row in read_csv(folder.label_file(SCORES), ["name", "prompt", "mos_quality", "std_quality"])
    ]
    return Reading(entries, chosen, SCORES)


DATA_SET = DataSet(
    name="agiqa3k",
    title="AGIQA-3K",
    rows=2_982,
    read=read,
    labels={"quality": Labels("agiqa3k", (0, 4.4887))},
    ratios=(4, 1),
    licence="see the page",
    home="https://github.com/lcysyzxdxc/AGIQA-3k-Database",
    layout=f"*.jpg or images/*.jpg, {SCORES}",
)
