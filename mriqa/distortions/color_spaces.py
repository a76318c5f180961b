"""Colour spaces the distortions work in: CIE L*a*b* and studio-range YCbCr, on float tensors.

RGB is sRGB (IEC 61966-2-1) in [0, 1] under the D65 white point, 2° observer. L* lies in [0, 100]. YCbCr follows ITU-R
BT.601 with the 8-bit studio range divided by 255 (Y in [16, 235] / 255), as MATLAB, with which KADID-10k was made, and
scikit-image define it.

Legend: B batch, C channels, H height, W width.
"""

import numpy as np
import torch
from torch import Tensor

LINEAR_RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
WHITE_XYZ = (0.95047, 1.0, 1.08883)

RGB_TO_YCBCR = (
    (65.481, 128.553, 24.966),
    (-37.797, -74.203, 112.0),
    (112.0, -93.786, -18.214),
)
YCBCR_OFFSET = (16.0, 128.0, 128.0)

CBRT_TO_LAB = ((0.0, 116.0, 0.0), (500.0, -500.0, 0.0), (0.0, 200.0, -200.0))


def rgb_to_lab(rgb_BCHW: Tensor) -> Tensor:
    """(B, 3, H, W) sRGB in [0, 1] to L* in [0, 100], a*, b*."""
    matrix = _matrix(LINEAR_RGB_TO_XYZ, rgb_BCHW) / _vector(WHITE_XYZ, rgb_BCHW)[:, None]
    xyz = _mix(matrix, _gamma_expand(rgb_BCHW))
    knee = 0.008856
    roots = _power(xyz.clamp(min=knee), 1 / 3).add_(xyz.clamp_(max=knee).sub_(knee), alpha=7.787)
    return _mix(_matrix(CBRT_TO_LAB, roots), roots) - _vector((16.0, 0.0, 0.0), roots)[:, None, None]


def lab_to_rgb(lab_BCHW: Tensor) -> Tensor:
    """(B, 3, H, W) L*a*b* to sRGB; values of colours outside the gamut exceed 1 or are cut at 0."""
    offset = _vector((16.0, 0.0, 0.0), lab_BCHW)[:, None, None]
    roots = _mix(torch.linalg.inv(_matrix(CBRT_TO_LAB, lab_BCHW)), lab_BCHW + offset)
    knee = 0.2068966
    cubes = roots.clamp(min=knee)
    xyz = cubes.square().mul_(cubes).add_(roots.clamp_(max=knee).sub_(knee), alpha=1 / 7.787)
    matrix = torch.linalg.inv(_matrix(LINEAR_RGB_TO_XYZ, lab_BCHW)) * _vector(WHITE_XYZ, lab_BCHW)
    return _gamma_compress(_mix(matrix, xyz))


def rgb_to_ycbcr(rgb_BCHW: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in [0, 1] to studio-range YCbCr in [0, 1] (8-bit codes divided by 255)."""
    offset = _vector(YCBCR_OFFSET, rgb_BCHW)[:, None, None] / 255
    return _mix(_matrix(RGB_TO_YCBCR, rgb_BCHW) / 255, rgb_BCHW) + offset


def ycbcr_to_rgb(ycbcr_BCHW: Tensor) -> Tensor:
    """Inverse of `rgb_to_ycbcr`, unclamped."""
    offset = _vector(YCBCR_OFFSET, ycbcr_BCHW)[:, None, None] / 255
    return _mix(torch.linalg.inv(_matrix(RGB_TO_YCBCR, ycbcr_BCHW) / 255), ycbcr_BCHW - offset)


def rgb_to_gray(rgb_BCHW: Tensor) -> Tensor:
    """(B, 3, H, W) RGB to (B, 1, H, W) BT.601 luma in [0, 1]."""
    return _mix(_vector((0.2989, 0.5870, 0.1140), rgb_BCHW)[None], rgb_BCHW)


# Each curve here is a power beyond a knee and a line before it. As the two meet there, the power of the value cut from
# below plus the line's rise up to the value cut from above is the curve: a third of the time of two full branches and a
# choice, together with working in place on our own intermediate results.


def _gamma_expand(rgb: Tensor) -> Tensor:
    knee = 0.04045
    curve = _power(rgb.clamp(min=knee).add_(0.055).div_(1.055), 2.4)
    return curve.add_(rgb.clamp(max=knee).sub_(knee), alpha=1 / 12.92)


def _gamma_compress(linear: Tensor) -> Tensor:
    knee = 0.0031308
    curve = _power(linear.clamp(min=knee), 1 / 2.4).mul_(1.055).sub_(0.055)
    return curve.add_(linear.clamp_(min=0, max=knee).sub_(knee), alpha=12.92)


def _power(positive: Tensor, exponent: float) -> Tensor:
    """positive ** exponent, in place, as exact as float32 needs; NumPy's logarithm takes half as long as torch's."""
    if positive.device.type != "cpu":
        return positive.log_().mul_(exponent).exp_()
    values = positive.numpy()
    np.log(values, out=values)
    values *= exponent
    np.exp(values, out=values)
    return positive


def _mix(matrix: Tensor, images_BCHW: Tensor) -> Tensor:
    # A matrix product, as convolutions on NVIDIA GPUs default to the coarse TF32 format.
    return (matrix @ images_BCHW.flatten(2)).unflatten(2, images_BCHW.shape[2:])


def _matrix(rows: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def _vector(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)
