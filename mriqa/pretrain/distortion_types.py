"""The 24 types of distortion in seven categories, and their severity λ in [0, 1].

λ = 0 is level 1 of KADID-10k and λ = 1 is level 5, linear in the parameter between the levels, so λ = 0 is not the
pristine image. Two types have a sign and so two names: `mean_shift_up` and `mean_shift_down`, `contrast_up` and
`contrast_down`, each of which grows with its severity.

Legend: B images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mriqa.distortions import DISTORTIONS, distort
from mriqa.distortions.draws import ImageSeeds

CATEGORIES: dict[str, tuple[tuple[str, ...], ...]] = {
    "blur": (("gaussian_blur",), ("lens_blur",), ("motion_blur",)),
    "color": (("color_diffusion",), ("color_shift",), ("color_saturation_hsv",), ("color_saturation_lab",)),
    "compression": (("jpeg2000",), ("jpeg",)),
    "noise": (("white_noise",), ("white_noise_color_component",), ("impulse_noise",), ("multiplicative_noise",)),
    "brightness": (("brighten",), ("darken",), ("mean_shift_up", "mean_shift_down")),
    "spatial": (("jitter",), ("non_eccentricity_patch",), ("pixelate",), ("quantization",), ("color_block",)),
    "sharpness_contrast": (("high_sharpen",), ("contrast_up", "contrast_down"), ("nonlinear_contrast",)),
}
"""Category to its types, a type to its signs."""

DISTORTION_NAMES = tuple(name for types in CATEGORIES.values() for signs in types for name in signs)
CATEGORY_OF = {name: category for category, types in CATEGORIES.items() for signs in types for name in signs}

ROUNDED = ("jpeg", "quantization")
"""Distortions that round their parameter: two severities may give the same image."""


def level_parameters(name: str) -> tuple[float, ...]:
    """The distortion's own parameter at levels 1 to 5."""
    return DISTORTIONS[name].levels


def parameter_at(name: str, severity_B: Tensor) -> Tensor:
    """The distortion's own parameter (B,) at severities λ (B,) in [0, 1]."""
    knots = severity_B.new_tensor(level_parameters(name))
    below_B = (severity_B * 4).floor().clamp(0, 3)
    index_B = below_B.long()
    return torch.lerp(knots[index_B], knots[index_B + 1], severity_B * 4 - below_B)


def effective_severity(name: str, severity_B: Tensor) -> Tensor:
    """λ (B,) of the image that really comes out: where a parameter is rounded, equal images get equal severities."""
    if name not in ROUNDED:
        return severity_B
    knots = severity_B.new_tensor(level_parameters(name))  # falling, as are all that are rounded
    rounded_B = parameter_at(name, severity_B).round()
    index_B = (rounded_B[:, None] <= knots[1:-1]).sum(dim=1)
    return (index_B + (rounded_B - knots[index_B]) / (knots[index_B + 1] - knots[index_B])) / 4


def distort_at(images_B3HW: Tensor, name: str, severity_B: Tensor, seeds: ImageSeeds) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] after the distortion at severities λ (B,)."""
    return distort(images_B3HW, name, (0.2 + 0.8 * severity_B).clamp(max=1).to(images_B3HW), seeds)
