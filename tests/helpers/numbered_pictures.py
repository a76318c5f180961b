"""Pictures that carry a number, and a stand-in for a model that reads it off them: scoring without a model's cost."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mriqa.scoring.reading import BackendError, Reading
from mriqa.scoring.scorer import Scorer

MOST = 2**16


def picture(number: int) -> Image.Image:
    """A small picture whose colour is the number."""
    return Image.new("RGB", (4, 4), (number >> 8, number & 255, 0))


def encoded(number: int) -> bytes:
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG")
    return buffer.getvalue()


def score_of(number: int) -> float:
    """A score that no other number has."""
    return 1 + 4 * number / MOST


def write_pictures(folder: Path, count: int, broken: Sequence[int] = ()) -> Path:
    """`count` files in `folder`, those named in `broken` cut off."""
    folder.mkdir()
    for number in range(count):
        data = encoded(number)
        (folder / f"{number:05d}.png").write_bytes(data[:40] if number in broken else data)
    return folder


class NumberReader:
    """A backend that states `score_of` each picture's number; it notes every number in a file, and may be slow or die.

    Args:
        log: file to note each number in, as processes of their own share no memory.
        pause: seconds for each call.
        dies_after: pictures after which it raises BackendError.
    """

    readout_name = "greedy"

    def __init__(self, log: Path | None = None, pause: float = 0.0, dies_after: int | None = None) -> None:
        self.log, self.pause, self.left = log, pause, dies_after

    def read(self, pictures: Sequence[Image.Image], seed: int) -> list[Reading | str]:
        time.sleep(self.pause)
        numbers = []
        for each in pictures:
            if self.left is not None:
                if self.left == 0:
                    raise BackendError("The server is gone.")
                self.left -= 1
            red, green, _ = each.getpixel((0, 0))
            numbers.append(red << 8 | green)
        if self.log is not None:
            with self.log.open("a") as file:
                file.write("".join(f"{number}\n" for number in numbers))
        return [Reading(np.array([score_of(number)]), np.ones(1), exact=False, texts=("",)) for number in numbers]


def number_scorer(batch_size: int = 4, **options) -> Scorer:
    return Scorer(None, None, batch_size=batch_size, backend=NumberReader(**options))
