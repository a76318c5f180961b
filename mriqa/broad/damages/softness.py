"""Blur: out of focus by Pillow's filters, motion in a line of any angle, and a shaken hand; and too much sharpening."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter
from scipy.signal import fftconvolve

from mriqa.broad.damage import as_floats, as_pixels, between


def soft(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Pillow's Gaussian blur, standard deviation 0.5 to 9 pixels."""
    return _filtered(pixels, ImageFilter.GaussianBlur(between(0.5, 9, severity)))


def box_blur(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Means over squares of a radius of 0.5 to 12 pixels."""
    return _filtered(pixels, ImageFilter.BoxBlur(between(0.5, 12, severity)))


def motion(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """A straight movement over 2.5 to 45 pixels at any angle."""
    angle = rng.uniform(0, np.pi)
    steps = np.linspace(-0.5, 0.5, 181)[:, None] * (np.cos(angle), np.sin(angle))
    return _along(pixels, steps * between(2.5, 45, severity))


def shake(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """A crooked path of a hand, 2.5 to 40 pixels across."""
    path = np.cumsum(np.cumsum(rng.normal(size=(240, 2)), axis=0), axis=0)
    path -= (path.max(axis=0) + path.min(axis=0)) / 2
    return _along(pixels, path / np.ptp(path, axis=0).max() * between(2.5, 40, severity))


def over_sharpened(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Pillow's unsharp mask, 60 to 1,200 per cent."""
    radius = rng.uniform(1, 3)
    return _filtered(pixels, ImageFilter.UnsharpMask(radius, round(between(60, 1200, severity)), 0))


def _filtered(pixels: np.ndarray, filter: ImageFilter.Filter) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(filter))


def _along(pixels: np.ndarray, path_P2: np.ndarray) -> np.ndarray:
    """The mean of the picture moved to each point of a path; what lies beyond the border is mirrored."""
    reach = int(np.ceil(np.abs(path_P2).max())) + 1
    side = 2 * reach + 1
    kernel = np.zeros((side, side), np.float32)
    low = np.floor(path_P2).astype(int)
    share = path_P2 - low
    for down in (0, 1):  # each point is shared out to its four pixels
        for right in (0, 1):
            weight = np.abs(1 - down - share[:, 0]) * np.abs(1 - right - share[:, 1])
            np.add.at(kernel, (low[:, 0] + down + reach, low[:, 1] + right + reach), weight)
    padded = np.pad(as_floats(pixels), ((reach, reach), (reach, reach), (0, 0)), "symmetric")
    return as_pixels(fftconvolve(padded, (kernel / kernel.sum())[..., None], mode="valid", axes=(0, 1)))
