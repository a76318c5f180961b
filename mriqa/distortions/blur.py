"""Blurs of KADID-10k (Lin, Hosu, Saupe, QoMEX 2019): Gaussian, lens (disk) and motion (line).

Every function takes images (B, 3, H, W) in [0, 1], one parameter per image (B,) and a generator, and returns images of
the same shape and dtype in [0, 1]. Lengths are in pixels.

Legend: B batch, C channels, H height, W width, K kernel side, S strips of a pixel.
"""

import math

import torch
from torch import Tensor

from mriqa.distortions.draws import uniform
from mriqa.distortions.filters import correlate_even, correlate_few, gaussian_smooth


def gaussian_blur(images_BCHW: Tensor, sigma_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Gaussian blur with standard deviation sigma; 0 is the identity."""
    return gaussian_smooth(images_BCHW, sigma_B).clamp_(0, 1)


def lens_blur(images_BCHW: Tensor, radius_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Mean over a disk of the given radius; the disk lies within one pixel, and is the identity, up to radius 0.5."""
    return correlate_even(images_BCHW, disk_kernels(radius_B.clamp(min=0.5))).clamp_(0, 1)


def motion_blur(images_BCHW: Tensor, length_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Blur along a line of the given length in a random direction; length 1 is the identity."""
    angle_B = math.pi * uniform((len(images_BCHW),), images_BCHW, generator)
    return correlate_few(images_BCHW, line_kernels(length_B, angle_B)).clamp_(0, 1)


def disk_kernels(radius_B: Tensor) -> Tensor:
    """(B, K, K) kernels: the share of each pixel's area inside a disk, exact in y, midpoint rule in x; sums are 1."""
    strips = 32
    reach = math.ceil(float(radius_B.max()) - 0.5)
    centres_K = torch.arange(-reach, reach + 1, dtype=radius_B.dtype, device=radius_B.device)
    offsets_S = (torch.arange(strips, dtype=radius_B.dtype, device=radius_B.device) + 0.5) / strips - 0.5
    x_KS = centres_K[:, None] + offsets_S
    half_chord_BKS = (radius_B[:, None, None] ** 2 - x_KS**2).clamp(min=0).sqrt()
    top_K11, bottom_K11 = centres_K[:, None, None] + 0.5, centres_K[:, None, None] - 0.5
    covered_BKKS = torch.minimum(half_chord_BKS[:, None], top_K11) - torch.maximum(-half_chord_BKS[:, None], bottom_K11)
    kernels_BKK = covered_BKKS.clamp(min=0).mean(dim=-1)
    return kernels_BKK / kernels_BKK.sum(dim=(1, 2), keepdim=True)


def line_kernels(length_B: Tensor, angle_B: Tensor) -> Tensor:
    """(B, K, K) kernels of a one pixel wide line through the centre; sums are 1.

    As in MATLAB's fspecial("motion"), a pixel weighs 1 minus its distance to a segment of `length - 1` pixels. Angles
    are in radians, counter-clockwise.
    """
    half_B11 = ((length_B - 1) / 2).clamp(min=0)[:, None, None]
    reach = math.ceil(float(half_B11.max()))
    centres_K = torch.arange(-reach, reach + 1, dtype=length_B.dtype, device=length_B.device)
    cos_B11, sin_B11 = angle_B.cos()[:, None, None], angle_B.sin()[:, None, None]
    x_1K, y_K1 = centres_K[None, :], -centres_K[:, None]
    along_BKK = x_1K * cos_B11 + y_K1 * sin_B11
    across_BKK = y_K1 * cos_B11 - x_1K * sin_B11
    beyond_BKK = (along_BKK.abs() - half_B11).clamp(min=0)
    kernels_BKK = (1 - torch.hypot(across_BKK, beyond_BKK)).clamp(min=0)
    return kernels_BKK / kernels_BKK.sum(dim=(1, 2), keepdim=True)
