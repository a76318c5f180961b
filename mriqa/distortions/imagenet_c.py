"""ImageNet-C's corruptions at its five levels (Hendrycks and Dietterich, ICLR 2019): 18 of the 19; `weather` says why
frost is missing.

Their parameters come in tuples, between which nothing is continuous: the parameter of each is its level, 0 to 5,
rounded to a whole one, and severity k / 5 is level k. Nobody rated them. The code is ours, and pictures are not those
of ImageNet-C bit for bit: the authors work with ImageMagick, OpenCV and 8 bits.

Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mriqa.distortions import corruptions, weather
from mriqa.distortions.distortion import Distortion, DistortionFunction
from mriqa.distortions.draws import uniform

PREFIX = "imagenet_c_"
LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0)

Corruption = Callable[..., np.ndarray]

TABLE: tuple[tuple[str, Corruption, tuple[Any, ...]], ...] = (
    ("noise", corruptions.gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    ("noise", corruptions.shot_noise, (60, 25, 12, 5, 3)),
    ("noise", corruptions.impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    ("noise", corruptions.speckle_noise, (0.15, 0.2, 0.35, 0.45, 0.6)),
    ("blur", corruptions.gaussian_blur, (1, 2, 3, 4, 6)),
    ("blur", corruptions.defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    ("blur", corruptions.glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    ("blur", corruptions.motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    ("blur", corruptions.zoom_blur, ((1.1, 0.01), (1.15, 0.01), (1.2, 0.02), (1.24, 0.02), (1.3, 0.03))),
    ("weather", weather.snow, ((0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
                               (0.55, 0.3, 4, 0.9, 12, 8, 0.7), (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
                               (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55))),
    ("weather", weather.fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    ("weather", weather.spatter, ((0.65, 0.3, 4, 0.69, 0.6, 0), (0.65, 0.3, 3, 0.68, 0.6, 0),
                                  (0.65, 0.3, 2, 0.68, 0.5, 0), (0.65, 0.3, 1, 0.65, 1.5, 1),
                                  (0.67, 0.4, 1, 0.65, 1.5, 1))),
    ("brightness", corruptions.brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    ("color", corruptions.saturate, ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))),
    ("sharpness_contrast", corruptions.contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    ("spatial", corruptions.elastic_transform, ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02),
                                                (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))),
    ("spatial", corruptions.pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    ("compression", corruptions.jpeg_compression, (25, 18, 15, 10, 7)),
)  # fmt: skip
"""Category, function, and its parameters at levels 1 to 5."""


def by_level(corrupt: Corruption, parameters: tuple[Any, ...]) -> DistortionFunction:
    """The corruption as a distortion whose parameter is the level; every picture has a generator of its own."""

    def distort_BCHW(images_BCHW: Tensor, level_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
        seeds = (uniform((len(images_BCHW),), images_BCHW.float(), generator) * 2**24).long().tolist()
        corrupted = []
        for image_CHW, level, seed in zip(images_BCHW, level_B.round().long().tolist(), seeds, strict=True):
            if level == 0:
                corrupted.append(image_CHW)
                continue
            picture = image_CHW.permute(1, 2, 0).cpu().double().numpy()
            given = parameters[level - 1]
            found = corrupt(picture, np.random.default_rng(seed), *(given if isinstance(given, tuple) else (given,)))
            corrupted.append(torch.from_numpy(np.clip(found, 0, 1).copy()).permute(2, 0, 1).to(image_CHW))
        return torch.stack(corrupted)

    return distort_BCHW


CORRUPTIONS = tuple(
    Distortion(PREFIX + corrupt.__name__, category, by_level(corrupt, parameters), identity=0.0, levels=LEVELS)
    for category, corrupt, parameters in TABLE
)
IMAGENET_C: tuple[str, ...] = tuple(corruption.name for corruption in CORRUPTIONS)
"""The names under which `distort` knows them."""
