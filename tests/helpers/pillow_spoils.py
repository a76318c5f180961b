"""Photographs spoiled by Pillow alone, in eleven ways and three strengths, by none of our code."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps

Spoil = Callable[[Image.Image, float], Image.Image]


def _coded(kind: str) -> Spoil:
    def spoil(picture: Image.Image, quality: float) -> Image.Image:
        buffer = io.BytesIO()
        picture.save(buffer, kind, quality=int(quality))
        return Image.open(buffer).convert("RGB")

    return spoil


def _blurred(picture: Image.Image, radius: float) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(radius))


def _lost_resolution(picture: Image.Image, factor: float) -> Image.Image:
    size = (round(picture.width / factor), round(picture.height / factor))
    small = picture.resize(size, Image.Resampling.BICUBIC)
    return small.resize(picture.size, Image.Resampling.BILINEAR)


def _moved(picture: Image.Image, length: float) -> Image.Image:
    """The mean of copies shifted along a slanted line."""
    mean = picture
    for step in range(1, int(length)):
        mean = Image.blend(mean, ImageChops.offset(picture, step, step // 3), 1 / (step + 1))
    return mean


def _noisy(picture: Image.Image, sigma: float) -> Image.Image:
    bands = []
    for band in picture.split():
        noise = Image.effect_noise(picture.size, sigma)
        bands.append(ImageChops.subtract(ImageChops.add(band, noise, 1, -128), Image.new("L", picture.size, 0)))
    return Image.merge("RGB", bands)


def _brightened(picture: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(factor)


def _contrast(picture: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Contrast(picture).enhance(factor)


def _posterised(picture: Image.Image, bits: float) -> Image.Image:
    return ImageOps.posterize(picture, int(bits))


def _saturated(picture: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Color(picture).enhance(factor)


SPOILS: dict[str, tuple[Spoil, tuple[float, float, float]]] = {
    "jpeg": (_coded("JPEG"), (30, 12, 4)),
    "webp": (_coded("WEBP"), (30, 10, 1)),
    "blur": (_blurred, (1.2, 2.5, 5)),
    "lost resolution": (_lost_resolution, (2, 4, 8)),
    "motion": (_moved, (7, 15, 31)),
    "noise": (_noisy, (12, 28, 60)),
    "dark": (_brightened, (0.5, 0.25, 0.1)),
    "over-exposed": (_brightened, (1.6, 2.5, 5)),
    "low contrast": (_contrast, (0.5, 0.25, 0.1)),
    "posterised": (_posterised, (4, 3, 2)),
    "over-saturated": (_saturated, (2, 4, 10)),
}
"""Each kind's function and its three strengths, mildest first."""
