"""Photographs of which one half is spoiled, by Pillow's own code and not by the project's distortions."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter


def _blur(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(3))


def _jpeg(picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=10)
    return Image.open(file).convert("RGB")


def _lost_resolution(picture: Image.Image) -> Image.Image:
    small = picture.resize((picture.width // 4, picture.height // 4), Image.Resampling.BICUBIC)
    return small.resize(picture.size, Image.Resampling.BICUBIC)


SPOILERS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "blur": _blur,
    "JPEG": _jpeg,
    "lost resolution": _lost_resolution,
}


def half_spoiled(
    picture: Image.Image, spoil: Callable[[Image.Image], Image.Image], number: int
) -> tuple[Image.Image, np.ndarray]:
    """The picture with one half spoiled (left, right, top, bottom in turn), and the mask (H, W) of that half."""
    width, height = picture.size
    half = [
        (0, 0, width // 2, height), (width // 2, 0, width, height),
        (0, 0, width, height // 2), (0, height // 2, width, height),
    ][number % 4]  # fmt: skip
    both = picture.copy()
    both.paste(spoil(picture).crop(half), half[:2])
    inside_HW = np.zeros((height, width), dtype=bool)
    inside_HW[half[1] : half[3], half[0] : half[2]] = True
    return both, inside_HW
