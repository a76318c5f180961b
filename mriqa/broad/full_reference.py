"""Seven full-reference measures of how far a spoiled picture is from its original, by the package piq.

GMSD (Xue et al., 2014), HaarPSI (Reisenhofer et al., 2018), VIFp (Sheikh and Bovik, 2006), MDSI (Nafchi et al., 2016),
VSI (Zhang et al., 2014), MS-SSIM (Wang et al., 2003) and PSNR. They are taken at `SIDE` pixels a side, to which larger
pictures are averaged down: a quarter of the time of 384, and no less agreement with people (docs/broad_set.md).

Legend: H, W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mriqa.errors import UserError

SIDE = 192  # MS-SSIM needs 161 at least
HIGHEST_PSNR = 60.0  # of equal pictures, where it would be infinite; rounding to 8 bits gives 59
NAMES = ("gmsd", "haarpsi", "vif", "mdsi", "vsi", "ms_ssim", "psnr")
RISING = (-1, 1, 1, -1, 1, 1, 1)
"""1 where a higher value is better, in the order of `NAMES`."""


class FullReferenceError(UserError, ImportError):
    """The package that computes the measures is missing."""


@torch.no_grad()
def measure(original_HW3: np.ndarray, spoiled_HW3: np.ndarray) -> list[float]:
    """The seven measures in the order of `NAMES`, of two pictures of 8 bits.

    Raises:
        FullReferenceError: piq is not installed.
    """
    original_13HW, spoiled_13HW = _at_side(original_HW3), _at_side(spoiled_HW3)
    return [float(function(spoiled_13HW, original_13HW)) for function in _functions().values()]


def _functions() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    try:
        import piq
    except ImportError as error:
        raise FullReferenceError(
            'Labels of the broad data set need the package piq: pip install "mriqa[recipes]"'
        ) from error

    def psnr(spoiled: Tensor, original: Tensor) -> Tensor:
        return piq.psnr(spoiled, original, data_range=1.0).clamp(max=HIGHEST_PSNR)

    def ms_ssim(spoiled: Tensor, original: Tensor) -> Tensor:
        return piq.multi_scale_ssim(_grey(spoiled), _grey(original), data_range=1.0)

    functions = (piq.gmsd, piq.haarpsi, piq.vif_p, piq.mdsi, piq.vsi)
    return dict(zip(NAMES, (*(partial(function, data_range=1.0) for function in functions), ms_ssim, psnr)))


def _at_side(pixels_HW3: np.ndarray) -> Tensor:
    image_13HW = torch.from_numpy(pixels_HW3.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()
    if image_13HW.shape[-2:] == (SIDE, SIDE):
        return image_13HW
    return interpolate(image_13HW, (SIDE, SIDE), mode="area")


def _grey(image_13HW: Tensor) -> Tensor:
    return (image_13HW * image_13HW.new_tensor((0.299, 0.587, 0.114))[:, None, None]).sum(dim=1, keepdim=True)
