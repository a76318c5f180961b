"""Noise as cameras and films make it, and what denoisers leave of a picture that was noisy."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from mriqa.broad.damage import as_floats, as_pixels, between
from mriqa.broad.damages.exposure import displayed, light


def colour_noise(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Normal noise in each channel, standard deviation 0.012 to 0.35."""
    return as_pixels(as_floats(pixels) + between(0.012, 0.35, severity) * rng.normal(size=pixels.shape))


def grey_noise(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """The same noise in all channels, standard deviation 0.012 to 0.35."""
    noise = rng.normal(size=(*pixels.shape[:2], 1))
    return as_pixels(as_floats(pixels) + between(0.012, 0.35, severity) * noise)


def coarse_noise(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Grains of 1 to 4 pixels, as film and interpolated sensors have; standard deviation 0.01 to 0.25."""
    radius, colour = rng.uniform(0.5, 1.8), rng.random()
    grey, channels = rng.normal(size=(*pixels.shape[:2], 1)), rng.normal(size=pixels.shape)
    grain = gaussian_filter((1 - colour) * grey + colour * channels, (radius, radius, 0))
    return as_pixels(as_floats(pixels) + between(0.01, 0.25, severity) * grain / grain.std())


def sensor_noise(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Photons counted: 3,000 to 3 of them in a white pixel, with a little noise of reading."""
    photons = between(3000, 3, severity)
    standard = rng.normal(size=pixels.shape)  # counts are nearly normal, and so grow with the severity
    counted = light(pixels) * photons
    return as_pixels(displayed(np.clip((counted + np.sqrt(counted + 0.5) * standard) / photons, 0, 1)))


def salt_and_pepper(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Black and white pixels, 0.05 to 20 per cent of all."""
    place, white = rng.random(pixels.shape[:2]), rng.random(pixels.shape[:2]) < 0.5
    hit = place < between(0.0005, 0.2, severity)
    return np.where(hit[..., None], np.where(white, 255, 0)[..., None], pixels).astype(np.uint8)


def denoised_median(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Noise, then a median over 3 to 9 pixels."""
    noisy = colour_noise(pixels, 0.7 * severity, rng)
    return np.asarray(Image.fromarray(noisy).filter(ImageFilter.MedianFilter(3 + 2 * round(3 * severity))))


def denoised_flat(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Noise, then total variation made small (Chambolle): flat patches as in oil paint."""
    noisy = as_floats(colour_noise(pixels, 0.7 * severity, rng))
    return as_pixels(denoise_tv_chambolle(noisy, between(0.03, 0.6, severity), max_num_iter=40, channel_axis=2))


def denoised_patches(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Noise, then non-local means: patches averaged with their likes."""
    noisy = as_floats(colour_noise(pixels, 0.7 * severity, rng))
    strength = between(0.03, 0.45, severity)
    return as_pixels(denoise_nl_means(noisy, 5, 4, strength, fast_mode=True, channel_axis=2))
