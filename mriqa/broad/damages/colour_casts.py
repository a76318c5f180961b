"""Colour: a wrong white balance, too much and too little of it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance

from mriqa.broad.damage import as_pixels, between
from mriqa.broad.damages.exposure import displayed, light


def colour_cast(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Gains of red, green and blue light up to 6 apart; the brightness of grey stays."""
    direction = rng.normal(size=3)
    direction -= direction.mean()
    gains = np.exp(direction / np.ptp(direction) * np.log(between(1.2, 6, severity)))
    gains /= gains @ (0.2126, 0.7152, 0.0722)
    return as_pixels(displayed(np.minimum(light(pixels) * gains, 1)))


def over_saturated(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Distance from grey times 1.3 to 10, clipped."""
    return _saturation(pixels, between(1.3, 10, severity))


def desaturated(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Distance from grey times 0.8 to 0: no colour at all."""
    return _saturation(pixels, 0.8 * (1 - severity))


def _saturation(pixels: np.ndarray, factor: float) -> np.ndarray:
    return np.asarray(ImageEnhance.Color(Image.fromarray(pixels)).enhance(factor))
