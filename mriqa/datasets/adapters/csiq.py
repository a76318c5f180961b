"""CSIQ: 30 photographs with six distortions (Larson, Chandler, Journal of Electronic Imaging 2010). Lower is better.

The workbook and the files spell the distortions differently ("noise" is AWGN, "jpeg 2000" is jpeg2000). Where there is
no workbook, the list CSIQ.txt that circulates is read instead; it has no deviations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mriqa.datasets.data_set import DataSet, DataSetError, Entry, Labels, Reading, number, whole_number
from mriqa.datasets.folder import Folder
from mriqa.datasets.label_files import read_csv, read_sheet

WORKBOOK, SHEET, LIST = "csiq.DMOS.xlsx", "all_by_image", "CSIQ.txt"
FILES_OF = {  # spelling in the label file, without spaces and in lower case -> folder and token of the files
    "noise": ("awgn", "AWGN"),
    "awgn": ("awgn", "AWGN"),
    "blur": ("blur", "BLUR"),
    "contrast": ("contrast", "contrast"),
    "fnoise": ("fnoise", "fnoise"),
    "jpeg": ("jpeg", "JPEG"),
    "jpeg2000": ("jpeg2000", "jpeg2000"),
}


def read(folder: Folder, labels: str) -> Reading:
    """Entries of CSIQ."""
    path = folder.label_file(WORKBOOK, LIST)
    chosen = DATA_SET.chosen_labels(labels, {"dmos": path.name})
    pictures = folder.directory("dst_imgs")
    references = folder.directory("src_imgs", "")
    read_file = _from_list if path.suffix.lower() == ".txt" else _from_workbook
    return Reading(read_file(path, pictures, references), chosen, path.name)


def _from_workbook(path: Path, pictures: Folder, references: Folder) -> list[Entry]:
    entries = []
    for row in read_sheet(path, ["image", "dst_type", "dst_lev", "dmos_std", "dmos"], SHEET):
        image = str(row["image"]).strip().removesuffix(".0")
        level = whole_number(row["dst_lev"], f"dst_lev of {image}")
        distortion, token = _files_of(row["dst_type"])
        name = f"{distortion}/{image}.{token}.{level}.png"
        entries.append(
            Entry(
                name,
                pictures.file(name),
                mos=number(row["dmos"], f"the dmos of {name}"),
                std=number(row["dmos_std"], f"the dmos_std of {name}"),
                content=image,
                reference=references.file(f"{image}.png"),
                distortion=distortion,
                level=level,
            )
        )
    return entries


def _from_list(path: Path, pictures: Folder, references: Folder) -> list[Entry]:
    entries = []
    for row in read_csv(path, ["dis_img_path", "dis_type", "ref_img_path", "score"]):
        file_name = Path(row["dis_img_path"]).name
        image, _, rest = file_name.partition(".")
        distortion, _ = _files_of(row["dis_type"])
        name = f"{distortion}/{file_name}"
        entries.append(
            Entry(
                name,
                pictures.file(name),
                mos=number(row["score"], f"the score of {name}"),
                content=image,
                reference=references.file(Path(row["ref_img_path"]).name),
                distortion=distortion,
                level=whole_number(rest.split(".")[1] if rest.count(".") > 1 else None, f"the level of {name}"),
            )
        )
    return entries


def _files_of(spelling: Any) -> tuple[str, str]:
    known = FILES_OF.get(str(spelling).lower().replace(" ", ""))
    if known is None:
        raise DataSetError(f"CSIQ has no distortion {spelling!r}; the label file is of another version.")
    return known


DATA_SET = DataSet(
    name="csiq",
    title="CSIQ",
    rows=866,
    read=read,
    labels={"dmos": Labels("csiq", (0, 1))},
    ratios=(21, 3, 6),
    licence="see the page",
    home="https://s2.smu.edu/~eclarson/csiq.html",
    layout=f"src_imgs/1600.png, dst_imgs/awgn/1600.AWGN.1.png …, {WORKBOOK} or {LIST}",
)
