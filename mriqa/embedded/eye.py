"""How the embedded model sees a picture: a small picture of the whole, and crops at native scale, in one strip.

The whole shows exposure, colours and composition; the crops show detail, which a smaller picture has lost. All are
square tiles of one side, below each other in one strip, which `LiteTower` takes apart again.

Legend: S side of a tile in pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mriqa.tensor_views import resized, tensor_views
from mriqa.views import ViewSettings, enlarged, enlarging, views

TILE = 192  # pixels
LIMIT = 672  # KADID-10k's raters saw 512 x 384: much larger pictures are shrunk to about that scale
CROPS_ALONG = 2  # crops along each side of the picture
TILES = 1 + CROPS_ALONG**2


def tiles(picture: Image.Image, side: int, limit: int) -> list[Image.Image]:
    """The whole picture at `side` × `side` pixels, and 2 × 2 crops of that size.

    Args:
        picture: RGB, of any size; one with a side shorter than `side` is enlarged to it.
        side: of a tile, in pixels.
        limit: crops are taken from the picture shrunk until its shorter side has at most so many pixels.
    """
    (native,) = views(enlarged(picture, side), ViewSettings(limit=limit))
    whole = picture.resize((side, side), Image.Resampling.BICUBIC)
    return [whole, *(native.crop((x, y, x + side, y + side)) for x, y in corners(*native.size, side))]


def corners(width: int, height: int, side: int) -> list[tuple[int, int]]:
    """Left and top of each crop out of a picture of this size, row by row."""
    return [(x, y) for y in _places(height, side) for x in _places(width, side)]


def _places(length: int, side: int) -> tuple[int, ...]:
    """Where crops begin along a side: equal gaps between and beside them, or overlapping from edge to edge."""
    gap = max(0, length - CROPS_ALONG * side) // (CROPS_ALONG + 1)
    last = length - side - gap
    return tuple(round(gap + (last - gap) * each / (CROPS_ALONG - 1)) for each in range(CROPS_ALONG))


def strip(picture: Image.Image, side: int, limit: int) -> Tensor:
    """The tiles below each other: (3, 5 S, S) of 8 bits."""
    rows = [np.asarray(tile) for tile in tiles(picture.convert("RGB"), side, limit)]
    return torch.from_numpy(np.concatenate(rows)).permute(2, 0, 1).contiguous()


def smooth_strip(image_3HW: Tensor, side: int, limit: int) -> Tensor:
    """`strip` of pixels 0..255, as a differentiable function of them and without rounding to bytes."""
    (left, top, right, bottom), size = enlarging((image_3HW.shape[2], image_3HW.shape[1]), side)
    native = resized(image_3HW[:, top:bottom, left:right], size, Image.Resampling.BICUBIC)
    (native,) = tensor_views(native, ViewSettings(limit=limit))
    whole = resized(image_3HW, (side, side), Image.Resampling.BICUBIC)
    crops = [native[:, y : y + side, x : x + side] for x, y in corners(native.shape[2], native.shape[1], side)]
    return torch.cat([whole, *crops], dim=1)
