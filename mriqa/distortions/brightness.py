"""Brightness distortions of KADID-10k (Lin, Hosu, Saupe, QoMEX 2019).

Every function takes images (B, 3, H, W) in [0, 1], one parameter per image (B,) and a generator (unused), and returns
images of the same shape and dtype in [0, 1]. The amount 0 is the identity.
"""

import torch
from torch import Tensor

from mriqa.distortions.color_spaces import lab_to_rgb, rgb_to_lab
from mriqa.distortions.pieces import in_pieces


@in_pieces
def brighten(images_BCHW: Tensor, amount_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Bend R, G, B and L* upwards: two parts of the bent RGB image, one part of the image with bent lightness."""
    lab = rgb_to_lab(images_BCHW)
    lab[:, :1] = 100 * bend(lab[:, :1] / 100, amount_B)
    brighter = lab_to_rgb(lab).clamp_(0, 1)
    return bend(images_BCHW, amount_B).mul_(2).add_(brighter).div_(3)


@in_pieces
def darken(images_BCHW: Tensor, amount_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Bend R, G and B downwards."""
    return bend(images_BCHW, -amount_B)


def mean_shift(images_BCHW: Tensor, shift_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Add a constant, of either sign, to all values."""
    return (images_BCHW + shift_B[:, None, None, None]).clamp_(0, 1)


def mean_shift_up(images_BCHW: Tensor, amount_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Add a constant to all values: the lighter half of `mean_shift`, which grows with the amount."""
    return mean_shift(images_BCHW, amount_B)


def mean_shift_down(images_BCHW: Tensor, amount_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Take a constant from all values: the darker half of `mean_shift`."""
    return mean_shift(images_BCHW, -amount_B)


def bend(values_BCHW: Tensor, amount_B: Tensor) -> Tensor:
    """The parabola through (0, 0), (1/2, 1/2 + amount / 2) and (1, 1), clamped to [0, 1]."""
    rise_BCHW = (1 - values_BCHW).mul_(values_BCHW).mul_(2 * amount_B[:, None, None, None])
    return rise_BCHW.add_(values_BCHW).clamp_(0, 1)
