"""Real codecs, by Pillow: JPEG in all chroma subsamplings and through two generations, WebP, AVIF, JPEG 2000.

And what streaming and web sites do with each of them: a small file that is shown large.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, features

from mriqa.broad.damage import between, parts_of_severity
from mriqa.broad.damages.lost_resolution import ENLARGE, SHRINK, shrunk

SUBSAMPLINGS = (0, 1, 2)  # 4:4:4, 4:2:2, 4:2:0
HAS_AVIF = features.check("avif")


def jpeg_file(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG of quality 75 to 3, progressive or not."""
    subsampling, progressive = SUBSAMPLINGS[rng.integers(3)], bool(rng.random() < 0.3)
    quality = round(between(75, 3, severity))
    return through_codec(pixels, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)


def jpeg_again(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG of quality 90 to 6 over an older one, whose blocks lie elsewhere."""
    rows, columns = (int(shift) for shift in rng.integers(1, 8, 2))
    earlier = rng.uniform(0.7, 1.6)
    quality = between(90, 6, severity)
    moved = np.roll(pixels, (rows, columns), (0, 1))
    first = through_codec(moved, "JPEG", quality=round(min(95, max(3, quality * earlier))), subsampling=2)
    return through_codec(np.roll(first, (-rows, -columns), (0, 1)), "JPEG", quality=round(quality), subsampling=2)


def webp_file(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """WebP of quality 80 to 1."""
    return through_codec(pixels, "WEBP", quality=round(between(81, 2, severity)) - 1, method=2)


def avif_file(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """AVIF of quality 60 to 1."""
    subsampling = ("4:4:4", "4:2:0")[rng.integers(2)]
    return through_codec(
        pixels, "AVIF", quality=round(between(61, 2, severity)) - 1, speed=9, max_threads=1, subsampling=subsampling
    )


def jpeg2000_file(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG 2000 at a ratio of 15 to 400, with either wavelet."""
    irreversible = bool(rng.random() < 0.7)
    return through_codec(
        pixels,
        "JPEG2000",
        quality_mode="rates",
        quality_layers=[between(15, 400, severity)],
        irreversible=irreversible,
    )


def small_file(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Shrunk by up to 5, encoded by any of the codecs, and enlarged to the size that it is shown at."""
    height, width = pixels.shape[:2]
    shrinking, encoding = parts_of_severity(2, 0.9, rng) * severity
    down, up = SHRINK[rng.integers(1, len(SHRINK))], ENLARGE[rng.integers(len(ENLARGE))]
    codec = FILES[rng.integers(len(FILES))]
    small = codec(shrunk(pixels, between(1.1, 5, shrinking), down), encoding, rng)
    return np.asarray(Image.fromarray(small).resize((width, height), up))


def through_codec(pixels: np.ndarray, form: str, **options: object) -> np.ndarray:
    """Encoded by Pillow and decoded again."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return np.asarray(Image.open(file).convert("RGB"))


FILES = (jpeg_file, webp_file, jpeg2000_file, *([avif_file] if HAS_AVIF else []))
