"""Tones: contrast lost, washed out or overdone, and few of them left."""

from __future__ import annotations

import numpy as np
from PIL import Image

from mriqa.broad.damage import as_floats, as_pixels, between


def low_contrast(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Contrast times 0.8 to 0.02 about the picture's mean grey."""
    values = as_floats(pixels)
    return _towards(values, float(values.mean()), between(0.8, 0.02, severity))


def washed_out(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Contrast times 0.8 to 0.03 about a light or middle grey: haze, faded prints, stray light."""
    return _towards(as_floats(pixels), rng.uniform(0.35, 1.0), between(0.8, 0.03, severity))


def high_contrast(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Contrast times 1.2 to 8 about the picture's mean grey, clipped."""
    values = as_floats(pixels)
    return _towards(values, float(values.mean()), between(1.2, 8, severity))


def posterised(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """40 to 2 evenly spaced levels a channel, rounded or cut off."""
    cut_off = rng.random() < 0.4
    levels = round(between(40, 2, severity))
    values = as_floats(pixels)
    if cut_off:
        return as_pixels(np.minimum(np.floor(values * levels), levels - 1) / (levels - 1))
    return as_pixels(np.round(values * (levels - 1)) / (levels - 1))


def small_palette(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """128 to 3 colours, chosen for the picture, without dithering."""
    method = (Image.Quantize.MEDIANCUT, Image.Quantize.FASTOCTREE)[rng.integers(2)]
    colours = round(between(128, 3, severity))
    return np.asarray(Image.fromarray(pixels).quantize(colours, method, dither=Image.Dither.NONE).convert("RGB"))


def _towards(values: np.ndarray, grey: float, contrast: float) -> np.ndarray:
    return as_pixels(grey + (values - grey) * contrast)
