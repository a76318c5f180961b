"""Damages by the project's own engine: the labelled distortions of KADID-10k, and SHAMISA's compositions of several."""

from __future__ import annotations

import numpy as np
import torch

from mriqa.broad.damage import Spoil, as_floats, as_pixels
from mriqa.distortions import distort
from mriqa.distortions.draws import ImageSeeds
from mriqa.pretrain.compositions import CompositionSettings, draw_compositions
from mriqa.pretrain.distortion_types import DISTORTION_NAMES, distort_at

LOWEST = 0.2  # level 1: milder than that nobody was asked
# At level 5 public copies of KADID-10k's generator disagree: compression ratio 170 or 400. The score belongs to 400.
HIGHEST = {"jpeg2000": 0.8}
SEVERAL = CompositionSettings(groups=1, levels=1, most=4)


def engine_severity(name: str, severity: float) -> float:
    """The engine's severity, from level 1 of KADID-10k on, of a damage's."""
    return LOWEST + (HIGHEST.get(name, 1.0) - LOWEST) * severity


def labelled(name: str) -> Spoil:
    """The labelled distortion of that name, from level 1 to level 5 (jpeg2000: 4)."""

    def function(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        return from_batch(distort(as_batch(pixels), name, engine_severity(name, severity), generator))

    return function


def composition(pixels: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Two to four distortions of different categories; SHAMISA's severities times twice the severity."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    drawn = draw_compositions(SEVERAL, 1, generator)
    while int(drawn.counts[0]) < 2:
        drawn = draw_compositions(SEVERAL, 1, generator)
    image_13HW = as_batch(pixels)
    for place in range(int(drawn.counts[0])):
        name = DISTORTION_NAMES[int(drawn.names_CM[0, place])]
        strength_1 = (2 * severity * drawn.severity_CLM[0, :, place]).clamp(max=1)
        image_13HW = distort_at(image_13HW, name, strength_1, ImageSeeds([int(drawn.seeds_RCM[0, 0, place])]))
    return from_batch(image_13HW)


def as_batch(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(as_floats(pixels)).permute(2, 0, 1)[None].contiguous()


def from_batch(image_13HW: torch.Tensor) -> np.ndarray:
    return as_pixels(image_13HW[0].permute(1, 2, 0).numpy())
