"""Fewer pixels than there seem to be: shrunk and enlarged again, by any of Pillow's resamplers."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from mriqa.broad.damage import between

SHRINK = tuple(
    getattr(Image.Resampling, name) for name in ("NEAREST", "BOX", "BILINEAR", "HAMMING", "BICUBIC", "LANCZOS")
)
ENLARGE = tuple(getattr(Image.Resampling, name) for name in ("BILINEAR", "BICUBIC", "LANCZOS"))


def lost_resolution(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Shrunk by 1.3 to 10 with one resampler, enlarged with a smooth one."""
    down, up = SHRINK[rng.integers(len(SHRINK))], ENLARGE[rng.integers(len(ENLARGE))]
    return _resized(pixels, between(1.3, 10, severity), down, up)


def blocky(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Shrunk by 1.3 to 8, enlarged by repeating pixels."""
    down = SHRINK[rng.integers(len(SHRINK))]
    return _resized(pixels, between(1.3, 8, severity), down, Image.Resampling.NEAREST)


def upscaled(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Shrunk by 1.3 to 6, enlarged and sharpened, as enlargers do that want to look crisp."""
    down, up = SHRINK[rng.integers(1, len(SHRINK))], ENLARGE[rng.integers(1, len(ENLARGE))]
    factor, strength = between(1.3, 6, severity), rng.uniform(0.6, 2.0)
    enlarged = Image.fromarray(_resized(pixels, factor, down, up))
    return np.asarray(enlarged.filter(ImageFilter.UnsharpMask(0.6 * factor, int(100 * strength), 0)))


def _resized(pixels: np.ndarray, factor: float, down: Image.Resampling, up: Image.Resampling) -> np.ndarray:
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(shrunk(pixels, factor, down)).resize((width, height), up))


def shrunk(pixels: np.ndarray, factor: float, down: Image.Resampling) -> np.ndarray:
    """Shrunk by the factor, to a pixel a side at least."""
    height, width = pixels.shape[:2]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    return np.asarray(Image.fromarray(pixels).resize(small, down))
