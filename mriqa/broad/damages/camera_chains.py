"""Several damages in the order in which cameras, phones and web sites inflict them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mriqa.broad.damage import Spoil, parts_of_severity
from mriqa.broad.damages.codecs import jpeg_file, webp_file
from mriqa.broad.damages.exposure import dark_light
from mriqa.broad.damages.grain import coarse_noise, denoised_flat, sensor_noise
from mriqa.broad.damages.lost_resolution import lost_resolution, upscaled
from mriqa.broad.damages.softness import over_sharpened, shake, soft


def snapshot(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Blur of lens or hand, noise of the sensor, JPEG."""
    blur = (soft, shake)[rng.integers(2)]
    return _chain((blur, sensor_noise, jpeg_file), pixels, severity, rng)


def shared_again(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Shrunk and enlarged, JPEG, and the same again as another site does."""
    return _chain((lost_resolution, jpeg_file, lost_resolution, webp_file), pixels, severity, rng)


def night_shot(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Too dark, noisy, smoothed, JPEG."""
    return _chain((dark_light, sensor_noise, denoised_flat, jpeg_file), pixels, severity, rng)


def old_scan(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Soft, with the grain of film, sharpened, JPEG."""
    return _chain((soft, coarse_noise, over_sharpened, jpeg_file), pixels, severity, rng)


def enlarged_jpeg(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG, enlarged and sharpened, JPEG."""
    return _chain((jpeg_file, upscaled, jpeg_file), pixels, severity, rng)


def _chain(steps: Sequence[Spoil], pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Each step at its own part of the severity, one of them at most of it."""
    parts = parts_of_severity(len(steps), 0.8, rng)
    for step, part, seed in zip(steps, parts, rng.integers(2**62, size=len(steps))):
        pixels = step(pixels, float(part) * severity, np.random.default_rng(seed))
    return pixels
