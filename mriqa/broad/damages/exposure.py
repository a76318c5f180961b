"""Too little light and too much of it."""

from __future__ import annotations

import numpy as np

from mriqa.broad.damage import as_floats, as_pixels, between


def dark(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Pixel values times 0.75 to 0.03."""
    return as_pixels(as_floats(pixels) * between(0.75, 0.03, severity))


def dark_light(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Light times 0.6 to 0.004: an exposure one to eight stops short."""
    return as_pixels(displayed(light(pixels) * between(0.6, 0.004, severity)))


def dark_gamma(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Pixel values to the power of 1.3 to 7: shadows and midtones sink, white stays."""
    return as_pixels(as_floats(pixels) ** between(1.3, 7, severity))


def over_exposed(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Pixel values times 1.2 to 7, clipped."""
    return as_pixels(as_floats(pixels) * between(1.2, 7, severity))


def over_exposed_light(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Light times 1.5 to 60, clipped: an exposure half a stop to six stops too long."""
    return as_pixels(displayed(np.minimum(light(pixels) * between(1.5, 60, severity), 1)))


def light(pixels: np.ndarray) -> np.ndarray:
    """Light in [0, 1] of sRGB pixels (IEC 61966-2-1)."""
    values = as_floats(pixels)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def displayed(light: np.ndarray) -> np.ndarray:
    """sRGB values in [0, 1] of light in [0, 1]."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)
