"""Sharpness and contrast distortions of KADID-10k (Lin, Hosu, Saupe, QoMEX 2019).

Every function takes images (B, 3, H, W) in [0, 1], one parameter per image (B,) and a generator (unused), and returns
images of the same shape and dtype in [0, 1].
"""

import torch
from torch import Tensor

from mriqa.distortions.color_spaces import lab_to_rgb, rgb_to_lab
from mriqa.distortions.filters import gaussian_smooth
from mriqa.distortions.pieces import in_pieces

LINEAR_CONTRAST = -0.2


@in_pieces
def high_sharpen(images_BCHW: Tensor, amount_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Unsharp masking of L* with a Gaussian of 3 pixels; amount 0 is the identity."""
    lab = rgb_to_lab(images_BCHW)
    lightness = lab[:, :1]
    detail = lightness - gaussian_smooth(lightness, lab.new_full((len(lab),), 3.0))
    lightness += detail.mul_(amount_B[:, None, None, None])
    return lab_to_rgb(lab)


@in_pieces
def contrast_change(images_BCHW: Tensor, amount_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Cubic tone curve: steeper in the middle for amounts above -0.2 (the identity), flatter below.

    KADID-10k takes the not-a-knot spline through (0, 0), (0.3, 0.25 - amount / 4), (0.5, 0.5), (0.7, 0.75 + amount / 4)
    and (1, 1). It is odd about the middle, which leaves one cubic, written out here.
    """
    from_middle = images_BCHW - 0.5
    bump = from_middle.square().neg_().add_(0.25).mul_(from_middle)
    return bump.mul_(125 / 21 * (amount_B - LINEAR_CONTRAST)[:, None, None, None]).add_(images_BCHW)


def contrast_up(images_BCHW: Tensor, amount_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The half of `contrast_change` with amounts above -0.2, where the middle grows steeper with the amount."""
    return contrast_change(images_BCHW, amount_B)


def contrast_down(images_BCHW: Tensor, amount_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The half of `contrast_change` with amounts below -0.2, where the middle grows flatter as the amount falls."""
    return contrast_change(images_BCHW, amount_B)


@in_pieces
def nonlinear_contrast(images_BCHW: Tensor, slope_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Values pulled towards the middle, ½ + 2 a (x − ½); the slope a = ½ is the identity, 0 is grey."""
    slope_B111 = 2 * slope_B[:, None, None, None]
    return (images_BCHW * slope_B111).add_(0.5 - 0.5 * slope_B111)
