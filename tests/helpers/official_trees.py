"""Miniature copies of the public data sets' folders, in their official layouts, with the label files' odd columns.

The pictures are tiny and all different; the scores are few and known. Layouts, names of files and columns come from
the data sets' own descriptions, not from the adapters.
"""

from __future__ import annotations

import csv
import zlib
from pathlib import Path

import numpy as np
import openpyxl
import scipy.io
from PIL import Image


def picture(path: Path, seed: int | None = None) -> Path:
    """A picture of noise, another one for each path or seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(zlib.crc32(str(path).encode()) if seed is None else seed)
    kind = {".jpg": "JPEG", ".bmp": "BMP", ".png": "PNG"}[path.suffix.lower()]
    Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path, kind)
    return path


def table(path: Path, header: list[str] | None, rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows] if header else rows)


def sheet(path: Path, rows: list[list[object]], title: str = "Sheet1") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    book = openpyxl.Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(row)
    book.save(path)


def cells(*texts: str) -> np.ndarray:
    """A MATLAB cell array (N, 1) of texts."""
    array = np.empty((len(texts), 1), dtype=object)
    array[:, 0] = texts
    return array


KONIQ_A = [  # image, c1..c5, MOS and SD of the counts by hand, z-score
    ["1.jpg", 0, 0, 5, 5, 0, 10, 3.5, 0.527046, 70.0],
    ["2.jpg", 5, 5, 0, 0, 0, 10, 1.5, 0.527046, 20.0],
    ["3.jpg", 0, 0, 10, 0, 0, 10, 3.0, 0.0, 55.5],
]
KONIQ_SETS = ["training", "validation", "test"]


def koniq10k(root: Path, scores: bool = True, sets: bool = True, size: str = "1024x768") -> None:
    counts = ["c1", "c2", "c3", "c4", "c5", "c_total"]
    if scores:
        table(
            root / "koniq10k_scores_and_distributions" / "koniq10k_scores_and_distributions.csv",
            ["image_name", *counts, "MOS", "SD", "MOS_zscore"],
            KONIQ_A,
        )
    if sets:
        table(
            root / "koniq10k_distributions_sets.csv",
            ["image_name", *counts, "MOS", "SD", "set"],
            [[*row[:7], row[9], row[8], part] for row, part in zip(KONIQ_A, KONIQ_SETS, strict=True)],
        )
    for row in KONIQ_A:
        picture(root / size / str(row[0]))


def spaq(root: Path) -> None:
    header = ["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"]
    rows = [["00001.jpg", 33.0, 1, 2, 3, 4, 5], ["00002.jpg", 78.75, 1, 2, 3, 4, 5]]
    sheet(root / "Annotations" / "MOS and Image attribute scores.xlsx", [header, *rows])
    for row in rows:
        picture(root / "TestImage" / str(row[0]))


def livec(root: Path) -> None:
    """The seven pictures that trained the raters, then three."""
    names = [*(f"t{place}.bmp" for place in range(1, 8)), "3.bmp", "10.JPG", "1024.bmp"]
    scores = [90.0, 80, 70, 60, 50, 40, 30, 63.9634, 12.5, 92.0]
    data = root / "ChallengeDB_release" / "Data"
    data.mkdir(parents=True)
    scipy.io.savemat(data / "AllImages_release.mat", {"AllImages_release": cells(*names)})
    scipy.io.savemat(data / "AllMOS_release.mat", {"AllMOS_release": np.array([scores])})
    scipy.io.savemat(data / "AllStdDev_release.mat", {"AllStdDev_release": np.array([scores]) / 4})
    for name in names:
        folder = "Images/trainingImages" if name.startswith("t") else "Images"
        picture(root / "ChallengeDB_release" / folder / name)


def agiqa3k(root: Path) -> None:
    header = ["name", "prompt", "adj1", "adj2", "style", "mos_quality", "std_quality", "mos_align", "std_align"]
    prompts = ["a cat, on a mat", "a dog"]
    rows = [
        [f"{model}_{place}.jpg", prompt, "", "", "", 1.5 + place, 0.25 + place, 4.0, 0.1]
        for place, prompt in enumerate(prompts)
        for model in ("sd1.5", "AttnGAN")
    ]
    table(root / "data.csv", header, rows)
    for row in rows:
        picture(root / str(row[0]))


def kadid10k(root: Path, references: int = 3) -> None:
    """Distortions 1, 10 and 25 at levels 1 and 5 of each reference."""
    rows = []
    for reference in range(1, references + 1):
        picture(root / "images" / f"I{reference:02d}.png")
        for distortion in (1, 10, 25):
            for level in (1, 5):
                name = f"I{reference:02d}_{distortion:02d}_{level:02d}.png"
                picture(root / "images" / name)
                rows.append([name, f"I{reference:02d}.png", 4.57 if level == 1 else 1.2, 0.496])
    table(root / "dmos.csv", ["dist_img", "ref_img", "dmos", "var"], rows)


def csiq(root: Path) -> None:
    kinds = {"noise": "awgn/1600.AWGN", "jpeg 2000": "jpeg2000/1600.jpeg2000", "contrast": "contrast/1600.contrast"}
    rows: list[list[object]] = [[None], [None], [None]]  # the header stands in row 4, columns D to I
    rows.append([None, None, None, "image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"])
    for place, (kind, file) in enumerate(kinds.items(), start=1):
        rows.append([None, None, None, 1600, place, kind, 2, 0.05, 0.2 * place])
        picture(root / "dst_imgs" / f"{file}.2.png")
    picture(root / "src_imgs" / "1600.png")
    sheet(root / "csiq.DMOS.xlsx", rows, "all_by_image")


def pipal(root: Path) -> None:
    for reference in ("A0001", "A0002"):
        picture(root / "Train_Ref" / f"{reference}.bmp")
        names = [f"{reference}_00_0{level}.bmp" for level in (0, 1)] + [f"{reference}_05_03.bmp"]
        table(
            root / "Train_Label" / f"{reference}.txt",
            None,
            [[name, 1400.5 + place] for place, name in enumerate(names)],
        )
        for place, name in enumerate(names):
            picture(root / f"Distortion_{place + 1}" / name)


def tid2013(root: Path) -> None:
    """The list says "I01" and "i02"; the files say "i01" and "I02", one of them ends in .BMP."""
    rows = [("5.51429", "I01_01_1.bmp"), ("3.5", "i02_24_5.bmp")]
    root.mkdir(parents=True, exist_ok=True)
    (root / "mos_with_names.txt").write_text("".join(f"{score} {name}\n" for score, name in rows))
    (root / "mos_std.txt").write_text("0.13013\n0.2\n")
    picture(root / "distorted_images" / "i01_01_1.BMP")
    picture(root / "distorted_images" / "I02_24_5.bmp")
    picture(root / "reference_images" / "I01.BMP")
    picture(root / "reference_images" / "i02.bmp")


LIVE_FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}


def live(root: Path) -> None:
    """All of it, as 982 tiny pictures: the last of each folder are undistorted copies, 203 in all."""
    base = root / "databaserelease2"
    base.mkdir(parents=True)
    names = [(kind, place) for kind, count in LIVE_FOLDERS.items() for place in range(1, count + 1)]
    copies = {"jp2k": 58, "jpeg": 58, "wn": 29, "gblur": 29, "fastfading": 29}
    orgs = np.array([[place > LIVE_FOLDERS[kind] - copies[kind] for kind, place in names]], dtype=np.uint8)
    scores = np.linspace(-2.64, 111.77, len(names))[None]
    scipy.io.savemat(base / "dmos_realigned.mat", {"dmos_new": scores, "dmos_std": scores * 0 + 7.5, "orgs": orgs})
    scipy.io.savemat(base / "dmos.mat", {"dmos": scores / 2, "orgs": orgs})
    references = cells(*(f"ref{row % 29:02d}.bmp" for row in range(len(names)))).T
    scipy.io.savemat(base / "refnames_all.mat", {"refnames_all": references})
    for row, (kind, place) in enumerate(names):
        picture(base / kind / f"img{place}.bmp", seed=row)
    for place in range(29):
        picture(base / "refimgs" / f"ref{place:02d}.bmp", seed=2000 + place)


BID_GRADES = [[1, 2.0, "x", 1.0, 2.0, 3.0, None], [2, 4.5, "x", 4.0, 5.0, None, None]]


def bid(root: Path) -> None:
    header = ["Image Number", "Average Subjective Grade", "Blur", "Grade 1", "Grade 2", "Grade 3", "Grade 4"]
    sheet(root / "DatabaseGrades.xlsx", [header, *BID_GRADES])
    for row in BID_GRADES:
        picture(root / "ImageDatabase" / f"DatabaseImage{row[0]:04d}.JPG")


def flive(root: Path) -> None:
    names = [
        "voc_emotic_ava/a.jpg",
        "voc_emotic_ava/b.jpg",
        "blur_dataset/c.jpg",
        "EE371R/d.jpg",
    ]
    table(root / "labels_image.csv", ["name", "mos"], [[name, 70.0 + place] for place, name in enumerate(names)])
    table(root / "labels640.csv", ["name_image", "mos_image", "mos_patch_1"], [[names[0], 70.0, 71.0]])
    padded = [[name, 0, name in names[:2]] for name in names]  # the test picture is marked, too
    table(root / "labels=640_padded.csv", ["name_image", "mos_image", "is_valid"], padded)
    for name in names:
        picture(root / "database" / name)


def uhdiqa(root: Path) -> None:
    rows = [["a.jpg", 0.5, "training"], ["b.jpg", 0.7125, "validation"], ["c.jpg", 0.3, "test"]]
    table(root / "uhd-iqa-metadata.csv", ["image_name", "quality_mos", "set"], rows)
    for name, _, part in rows:
        picture(root / str(part) / str(name))


def kadis700k(root: Path) -> None:
    table(root / "kadis700k_ref_imgs.csv", ["ref_im", "dist_type_1"], [["a.png", 3], ["b.png", 7]])
    for name in ("a.png", "b.png"):
        picture(root / "ref_imgs" / name)


def waterloo(root: Path) -> None:
    for place in (1, 4744):
        picture(root / "pristine_images" / f"{place:05d}.bmp")


TREES = {
    build.__name__: build
    for build in (
        koniq10k,
        spaq,
        livec,
        agiqa3k,
        kadid10k,
        csiq,
        pipal,
        tid2013,
        live,
        bid,
        flive,
        uhdiqa,
        kadis700k,
        waterloo,
    )
}
