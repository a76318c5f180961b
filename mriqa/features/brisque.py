"""BRISQUE's 36 features: how natural the local contrasts of a picture are, at two sizes.

After Mittal, Moorthy, Bovik, "No-Reference Image Quality Assessment in the Spatial Domain", IEEE TIP 21(12), 2012. Grey
values, less their local mean and over their local deviation (MSCN coefficients), are nearly Gaussian in undistorted
photographs. A generalised Gaussian is fitted to them (shape, variance), and an asymmetric one to the products of
neighbours in four directions (shape, mean, left and right variance); the same at half size.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.special import gamma

from mriqa.features.encoder import Encoder

FloatArray = npt.NDArray[np.float64]

SIGMA, REACH = 7 / 6, 3  # of the local mean: a window of 7 × 7 pixels
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows and columns to the right, below and along both diagonals
SMALLEST = 16  # pixels a side, so that half of it still has neighbours


def brisque_encoder() -> Encoder:
    """The 36 features of pictures at their own size, on the CPU."""
    return Encoder("brisque", "brisque 1", lambda pictures: np.stack(pictures), brisque_features)


def brisque_features(image: Image.Image) -> FloatArray:
    """(36,): at full and then half size (bicubic), the shape and variance of MSCN, then four numbers a direction."""
    if min(image.size) < SMALLEST:
        image = image.resize((max(SMALLEST, image.width), max(SMALLEST, image.height)), Image.Resampling.BICUBIC)
    grey = image.convert("L")
    half = grey.resize((grey.width // 2, grey.height // 2), Image.Resampling.BICUBIC)
    return np.concatenate([_of_one_size(np.asarray(own, dtype=np.float64)) for own in (grey, half)])


def _of_one_size(grey_HW: FloatArray) -> FloatArray:
    mscn_HW = contrast_normalised(grey_HW)
    features = list(fit_symmetric(mscn_HW))
    height, width = mscn_HW.shape
    for down, right in NEIGHBOURS:
        first = mscn_HW[: height - down, max(0, -right) : width - max(0, right)]
        second = mscn_HW[down:, max(0, right) : width + min(0, right)]
        features += fit_asymmetric(first * second)
    return np.array(features)


def contrast_normalised(grey_HW: FloatArray) -> FloatArray:
    """MSCN coefficients of grey values in 0..255: (I - μ) / (σ + 1), local mean and deviation by a Gaussian window."""
    mean_HW = gaussian_filter(grey_HW, SIGMA, mode="nearest", radius=REACH)
    square_HW = gaussian_filter(grey_HW**2, SIGMA, mode="nearest", radius=REACH)
    return (grey_HW - mean_HW) / (np.sqrt(np.abs(square_HW - mean_HW**2)) + 1)


def fit_symmetric(values: FloatArray) -> tuple[float, float]:
    """Shape and variance of a generalised Gaussian, by moments; shape 2 is Gaussian, 1 Laplacian."""
    variance = float(np.mean(values**2))
    ratio = variance / max(float(np.mean(np.abs(values))) ** 2, 1e-12)
    shapes, ratios = _shape_table()
    return float(shapes[np.abs(1 / ratios - ratio).argmin()]), variance


def fit_asymmetric(values: FloatArray) -> tuple[float, float, float, float]:
    """Shape, mean, left and right variance of an asymmetric generalised Gaussian, by moments."""
    left, right = (float(np.sqrt(np.mean(side**2))) if side.size else 0.0 for side in (values[values < 0],
                                                                                      values[values > 0]))  # fmt: skip
    left, right = max(left, 1e-6), max(right, 1e-6)
    skew = left / right
    ratio = float(np.mean(np.abs(values))) ** 2 / max(float(np.mean(values**2)), 1e-12)
    ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shapes, ratios = _shape_table()
    shape = float(shapes[np.abs(ratios - ratio).argmin()])
    mean = (right - left) * gamma(2 / shape) / np.sqrt(gamma(1 / shape) * gamma(3 / shape))
    return shape, float(mean), left**2, right**2


@cache
def _shape_table() -> tuple[FloatArray, FloatArray]:
    """Shapes, and the squared mean magnitude over the variance of each: Γ(2/a)² / (Γ(1/a) Γ(3/a))."""
    shapes = np.arange(0.2, 10.0005, 0.001, dtype=np.float64)
    return shapes, np.asarray(gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes)), dtype=np.float64)
