"""Snow, fog and spatter of ImageNet-C (Hendrycks and Dietterich, ICLR 2019), one picture at a time.

As in `corruptions`: a picture (H, W, 3), float64 in [0, 1], a generator, and the parameters of a level. Frost is not
here: it lays photographs of ice over a picture, which are the authors' files.
"""

from __future__ import annotations

import numpy as np
import scipy
from skimage import color, exposure, feature

from mriqa.distortions.corruptions import enlarged, smeared, smoothed

WATER_RGB = np.array([175, 238, 238]) / 255
MUD_RGB = np.array([63, 42, 20]) / 255


def snow(
    picture: np.ndarray, rng: np.random.Generator,
    mean: float, std: float, size: float, threshold: float, radius: int, sigma: float, share: float,
) -> np.ndarray:  # fmt: skip
    """Flakes that fall in one direction, over a whitened picture."""
    flakes = enlarged(rng.normal(mean, std, picture.shape[:2]), size)
    flakes[flakes < threshold] = 0
    flakes = smeared(np.clip(flakes, 0, 1), radius, sigma, rng.uniform(-135, -45))[..., None]
    white = np.maximum(picture, color.rgb2gray(picture)[..., None] * 1.5 + 0.5)
    return share * picture + (1 - share) * white + flakes + flakes[::-1, ::-1]


def fog(picture: np.ndarray, rng: np.random.Generator, amount: float, decay: float) -> np.ndarray:
    """A cloud is added, and the brightest value stays as bright as before."""
    height, width = picture.shape[:2]
    brightest = picture.max()
    clouded = picture + amount * cloud(max(height, width), decay, rng)[:height, :width, None]
    return clouded * brightest / (brightest + amount)


def spatter(
    picture: np.ndarray, rng: np.random.Generator,
    mean: float, std: float, sigma: float, threshold: float, strength: float, is_mud: int,
) -> np.ndarray:  # fmt: skip
    """Drops of water at three levels, of mud at two. Edges are found by scikit-image; the authors take OpenCV."""
    liquid = smoothed(rng.normal(mean, std, picture.shape[:2]), sigma)
    liquid[liquid < threshold] = 0
    if is_mud:
        mud = smoothed((liquid > threshold).astype(np.float64), strength)
        mud = np.where(mud < 0.8, 0, mud)[..., None]
        return picture * (1 - mud) + MUD_RGB * mud
    edges = feature.canny(liquid, sigma=0, low_threshold=50 / 255, high_threshold=150 / 255)
    distance = scipy.ndimage.distance_transform_edt(~edges) if edges.any() else np.full(liquid.shape, 20.0)
    distance = scipy.ndimage.uniform_filter(np.minimum(distance, 20), 3)
    relief = exposure.equalize_hist(distance) if np.ptp(distance) > 0 else distance / 20
    relief = scipy.ndimage.correlate(relief, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]), mode="mirror")
    wet = liquid * scipy.ndimage.uniform_filter(np.clip(relief, 0, 1), 3)
    wet = wet / wet.max() * strength if wet.max() > 0 else wet
    return picture + wet[..., None] * WATER_RGB


def cloud(side: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """A plasma fractal in [0, 1], at least `side` wide: midpoints of a grid that halves, each with less noise.

    The noise of a round is uniform in ± w², and w falls by the factor `decay` from round to round. The grid goes on at
    the other side.
    """
    size = 2 ** max(1, (side - 1).bit_length())
    heights = np.zeros((size, size))
    step, w = size, 100.0

    def midpoints(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return (first + second) / 4 + w * rng.uniform(-w, w, first.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        centres = midpoints(pairs, np.roll(pairs, -1, 1))
        heights[half::step, half::step] = centres
        across = midpoints(centres + np.roll(centres, 1, 0), corners + np.roll(corners, -1, 1))
        down = midpoints(centres + np.roll(centres, 1, 1), corners + np.roll(corners, -1, 0))
        heights[::step, half::step], heights[half::step, ::step] = across, down
        step, w = half, w / decay
    heights -= heights.min()
    return heights / max(heights.max(), 1e-12)
