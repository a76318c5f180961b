"""Pillow's resizing as a differentiable function of a picture's pixels, and `mriqa.views` of tensors by it.

Legend: C = 3 channels, H × W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from mriqa.views import ViewSettings, boxes, resizings


def tensor_views(image_CHW: torch.Tensor, settings: ViewSettings) -> list[torch.Tensor]:
    """`mriqa.views.views` of pixels 0..255, as a differentiable function of them and without rounding to bytes."""
    for size, resample in resizings((image_CHW.shape[2], image_CHW.shape[1]), settings):
        image_CHW = resized(image_CHW, size, resample)
    found = boxes((image_CHW.shape[2], image_CHW.shape[1]), settings)
    return [image_CHW[:, top:bottom, left:right] for left, top, right, bottom in found]


def resized(image_CHW: torch.Tensor, size: tuple[int, int], resample: Image.Resampling) -> torch.Tensor:
    """The picture at this width and height, clipped to 0..255."""
    down_HH = _along_one_axis(image_CHW.shape[1], size[1], resample).to(image_CHW)
    across_WW = _along_one_axis(image_CHW.shape[2], size[0], resample).to(image_CHW)
    return (down_HH @ image_CHW @ across_WW.T).clamp(0, 255)


def _along_one_axis(before: int, after: int, resample: Image.Resampling) -> torch.Tensor:
    """Pillow's resizing of one axis as a matrix (after, before): what it makes of each unit vector."""
    units = Image.fromarray(np.eye(before, dtype=np.float32))
    return torch.from_numpy(np.array(units.resize((before, after), resample)))
