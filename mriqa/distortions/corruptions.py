"""Noise, blur and digital corruptions of ImageNet-C (Hendrycks and Dietterich, "Benchmarking Neural Network Robustness
to Common Corruptions and Perturbations", ICLR 2019), one picture at a time.

Every function takes a picture (H, W, 3), float64 in [0, 1], a generator, and the parameters of a level; what it returns
may leave [0, 1]. Lengths are in pixels, chosen for pictures of 224 x 224. Edges are replicated or mirrored.

Legend: H height, W width.
"""

from __future__ import annotations

import math

import numpy as np
import scipy
import torch
from PIL import Image
from skimage import color

from mriqa.distortions import compression


def gaussian_noise(picture: np.ndarray, rng: np.random.Generator, std: float) -> np.ndarray:
    return picture + rng.normal(0, std, picture.shape)


def shot_noise(picture: np.ndarray, rng: np.random.Generator, photons: float) -> np.ndarray:
    """Poisson noise, `photons` of them for white."""
    return rng.poisson(picture * photons) / photons


def impulse_noise(picture: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """This share of all values becomes 0 or 1, with equal odds."""
    draws = rng.random(picture.shape)
    return np.where(draws < share / 2, 0.0, np.where(draws < share, 1.0, picture))


def speckle_noise(picture: np.ndarray, rng: np.random.Generator, std: float) -> np.ndarray:
    return picture + picture * rng.normal(0, std, picture.shape)


def gaussian_blur(picture: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    return smoothed(picture, sigma)


def defocus_blur(picture: np.ndarray, rng: np.random.Generator, radius: int, softness: float) -> np.ndarray:
    """Mean over a disk whose edge is softened by a small Gaussian."""
    across = np.arange(-radius - 2, radius + 3)
    kernel = (across[:, None] ** 2 + across**2 <= radius**2).astype(np.float64)
    kernel = scipy.ndimage.gaussian_filter(kernel / kernel.sum(), softness, radius=1 if radius <= 8 else 2)
    return scipy.ndimage.convolve(picture, kernel[..., None], mode="mirror")


def motion_blur(picture: np.ndarray, rng: np.random.Generator, radius: int, sigma: float) -> np.ndarray:
    """Along a line at up to 45 degrees from the horizontal."""
    return smeared(picture, radius, sigma, rng.uniform(-45, 45))


def zoom_blur(picture: np.ndarray, rng: np.random.Generator, most: float, step: float) -> np.ndarray:
    """Mean of the picture and its enlargements from 1 to `most`."""
    factors = np.arange(1, most + step / 2, step).tolist()
    return np.mean([picture, *(enlarged(picture, factor) for factor in factors)], axis=0)


def glass_blur(picture: np.ndarray, rng: np.random.Generator, sigma: float, reach: int, times: int) -> np.ndarray:
    """Blur, exchange each pixel with a random neighbour up to `reach` away, `times` over, and blur again."""
    height, width = picture.shape[:2]
    order = list(range(height * width))
    for _ in range(times):
        steps = rng.integers(-reach, reach, (height, width, 2)).tolist()
        for y in range(height - reach - 1, reach - 1, -1):
            for x in range(width - reach - 1, reach - 1, -1):
                down, right = steps[y][x]
                here, there = y * width + x, (y + down) * width + x + right
                order[here], order[there] = order[there], order[here]
    shuffled = smoothed(picture, sigma).reshape(-1, 3)[order].reshape(picture.shape)
    return smoothed(shuffled, sigma)


def elastic_transform(
    picture: np.ndarray, rng: np.random.Generator, amplitude: float, sigma: float, shift: float
) -> np.ndarray:
    """A small random affine map, then displacements by smooth noise; lengths are in units of 244 pixels."""
    height, width = picture.shape[:2]
    centre, third = np.array([height // 2, width // 2]), max(1, min(height, width) // 3)
    corners = centre + third * np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    moved = corners + rng.uniform(-244 * shift, 244 * shift, corners.shape)
    try:
        back = np.linalg.solve(np.column_stack([moved, np.ones(3)]), corners)  # of a moved point, where it came from
    except np.linalg.LinAlgError:  # three moved corners on a line, which needs a tiny picture
        back = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    places = np.moveaxis(np.mgrid[:height, :width], 0, -1).astype(np.float64)
    picture = sampled(picture, np.concatenate([places, np.ones((height, width, 1))], axis=-1) @ back)
    noise = [
        scipy.ndimage.gaussian_filter(rng.uniform(-1, 1, (height, width)), 244 * sigma, mode="reflect", truncate=3)
        for _ in range(2)
    ]
    return sampled(picture, places + 244 * amplitude * np.stack(noise, axis=-1))


def brightness(picture: np.ndarray, rng: np.random.Generator, more: float) -> np.ndarray:
    """Added to the value in HSV."""
    hsv = color.rgb2hsv(picture)
    hsv[..., 2] = np.clip(hsv[..., 2] + more, 0, 1)
    return color.hsv2rgb(hsv)


def saturate(picture: np.ndarray, rng: np.random.Generator, factor: float, more: float) -> np.ndarray:
    """The saturation in HSV, times a factor and with a constant added."""
    hsv = color.rgb2hsv(picture)
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + more, 0, 1)
    return color.hsv2rgb(hsv)


def contrast(picture: np.ndarray, rng: np.random.Generator, factor: float) -> np.ndarray:
    """Differences to each channel's mean, times a factor."""
    mean = picture.mean(axis=(0, 1))
    return (picture - mean) * factor + mean


def pixelate(picture: np.ndarray, rng: np.random.Generator, factor: float) -> np.ndarray:
    """Shrunk by box averages and enlarged again."""
    pixels = Image.fromarray(np.round(picture * 255).astype(np.uint8))
    width, height = (max(1, int(side * factor)) for side in pixels.size)
    small = pixels.resize((width, height), Image.Resampling.BOX)
    return np.asarray(small.resize(pixels.size, Image.Resampling.BOX)) / 255


def jpeg_compression(picture: np.ndarray, rng: np.random.Generator, quality: int) -> np.ndarray:
    image_1CHW = torch.from_numpy(picture).permute(2, 0, 1)[None]
    return compression.jpeg(image_1CHW, torch.tensor([float(quality)]))[0].permute(1, 2, 0).numpy()


def smoothed(picture: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian that reaches to 4 sigma, over height and width."""
    sigmas = (sigma, sigma, 0) if picture.ndim == 3 else sigma
    return scipy.ndimage.gaussian_filter(picture, sigmas, mode="nearest", truncate=4)


def smeared(picture: np.ndarray, radius: int, sigma: float, degrees: float) -> np.ndarray:
    """Half a Gaussian to one side along a line, 2 radius + 1 whole pixels long, as ImageMagick's motion blur."""
    along = np.arange(2 * radius + 1)
    weights = np.exp(-(along**2) / (2 * sigma**2))
    weights /= weights.sum()
    rows, columns = np.arange(picture.shape[0]), np.arange(picture.shape[1])
    total = np.zeros_like(picture)
    for k, weight in zip(along, weights, strict=True):
        down, right = round(k * math.sin(math.radians(degrees))), round(k * math.cos(math.radians(degrees)))
        moved = picture[np.clip(rows + down, 0, rows[-1])][:, np.clip(columns + right, 0, columns[-1])]
        total += weight * moved
    return total


def enlarged(picture: np.ndarray, factor: float) -> np.ndarray:
    """The picture's middle, enlarged to its size (linear)."""
    shape = picture.shape[:2]
    centre = [(side - 1) / 2 for side in shape]
    places = np.moveaxis(np.mgrid[: shape[0], : shape[1]], 0, -1)
    return sampled(picture, (places - centre) / factor + centre)


def sampled(picture: np.ndarray, places_HW2: np.ndarray) -> np.ndarray:
    """Linear interpolation at (row, column) places (H, W, 2); the picture goes on mirrored beyond its edges."""
    rows, columns = np.moveaxis(places_HW2, -1, 0)
    channels = picture[..., None] if picture.ndim == 2 else picture
    found = [
        scipy.ndimage.map_coordinates(channels[..., c], [rows, columns], order=1, mode="reflect")
        for c in range(channels.shape[-1])
    ]
    return np.stack(found, axis=-1).reshape(picture.shape)
