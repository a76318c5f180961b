"""Pictures with classes instead of scores, for comparisons of coresets as they are common in classification.

A data set is a folder with a folder of pictures for each class, as CIFAR-10 is often laid out, or `digits`: the 1,797
handwritten digits of scikit-learn, which come with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mriqa.datasets.folder import PICTURES
from mriqa.errors import SettingsError
from mriqa.files import new_folder

DIGITS = "digits"
ENLARGED = 4  # times, so that a digit of 8 × 8 pixels has room for an encoder


@dataclass(frozen=True)
class ClassImage:
    """A picture and the name of its class."""

    image: Path
    label: str


def labelled_images(source: str, written_to: Path) -> list[ClassImage]:
    """The pictures of every class, classes and pictures in the order of their names.

    Arguments:
        source: `DIGITS`, or the folder.
        written_to: folder where the digits are written as pictures, or were before.

    Raises:
        SettingsError: no such folder, fewer than two classes, or a class without pictures.
    """
    if source == DIGITS:
        write_digits(written_to)
    folder = written_to if source == DIGITS else Path(source)
    if not folder.is_dir():
        raise SettingsError(f"There is no folder {folder} with a folder of pictures for each class; or say {DIGITS}.")
    found = []
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        raise SettingsError(f"{folder} has {len(classes)} folders; it needs one for each of two classes or more.")
    for own in classes:
        pictures = sorted(path for path in own.iterdir() if path.suffix.lower() in PICTURES)
        if not pictures:
            raise SettingsError(f"{own} has no pictures, and every class needs some.")
        found += [ClassImage(picture.resolve(), own.name) for picture in pictures]
    return found


def class_names(images: Sequence[ClassImage]) -> list[str]:
    """The names of the classes, sorted; a class's number is its place here."""
    return sorted({image.label for image in images})


def write_digits(folder: Path) -> None:
    """Write scikit-learn's digits as pictures of 32 × 32 pixels, a folder for each; whole, and once."""
    if folder.is_dir():
        return
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    with new_folder(folder) as staged:
        for place, (pixels_HW, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            own = staged / str(label)
            own.mkdir(exist_ok=True)
            grey_HW = np.round(pixels_HW * (255 / 16)).astype(np.uint8).repeat(ENLARGED, 0).repeat(ENLARGED, 1)
            Image.fromarray(grey_HW).convert("RGB").save(own / f"{place:04d}.png")
