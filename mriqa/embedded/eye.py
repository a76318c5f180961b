"""How the embedded model sees a picture: a small picture of the whole, and crops at native scale, in one sequence.

The whole shows exposure, colours and composition; the crops show detail, which a smaller picture has lost. All are
square tiles of one side, below each other in one strip, which `LiteTower` takes apart again.

Legend: S side of a tile in pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor

from mriqa.views import enlarged, shrunk

CROPS_ALONG = 2  # crops along each side of the picture
TILES = 1 + CROPS_ALONG**2


def tiles(picture: Image.Image, side: int, limit: int) -> list[Image.Image]:
    """The whole picture at `side` × `side` pixels, and 2 × 2 crops of that size.

    Args:
        picture: RGB, of any size; one with a side shorter than `side` is enlarged to it.
        side: of a tile, in pixels.
        limit: crops are taken from the picture shrunk until its shorter side has at most so many pixels.
    """
    native = shrunk(enlarged(picture, side), limit)
    whole = picture.resize((side, side), Image.Resampling.BICUBIC)
    return [whole, *(native.crop((x, y, x + side, y + side)) for y in _places(native.height, side)
                     for x in _places(native.width, side))]  # fmt: skip


def _places(length: int, side: int) -> tuple[int, ...]:
    """Where crops begin along a side: equal gaps between and beside them, or overlapping from edge to edge."""
    gap = max(0, length - CROPS_ALONG * side) // (CROPS_ALONG + 1)
    last = length - side - gap
    return tuple(round(gap + (last - gap) * each / (CROPS_ALONG - 1)) for each in range(CROPS_ALONG))


class EyeImageProcessor(BaseImageProcessor):
    """Pictures to strips of tiles: `pixel_values` (B, 3, 5 S, S), 8-bit; the tower normalises them.

    Arguments:
        tile: S, a multiple of 32.
        limit: see `tiles`; at least the tile.
    """

    model_input_names = ["pixel_values"]

    def __init__(self, tile: int = 192, limit: int = 672, **kwargs: Any):
        super().__init__(**kwargs)
        self.tile, self.limit = tile, limit

    def preprocess(self, images: Any, *_: Any, return_tensors: str | None = None, **__: Any) -> BatchFeature:
        """The strips of pictures, PIL or arrays (H, W, 3) of 8 bits, in order."""
        pictures = images if isinstance(images, (list, tuple)) else [images]
        strips = [self._strip(_as_picture(each)) for picture in pictures for each in _flat(picture)]
        return BatchFeature({"pixel_values": torch.stack(strips)}, tensor_type=return_tensors)

    def _strip(self, picture: Image.Image) -> torch.Tensor:
        rows = [np.asarray(tile) for tile in tiles(picture, self.tile, self.limit)]
        return torch.from_numpy(np.concatenate(rows)).permute(2, 0, 1).contiguous()


def _flat(picture: Any) -> list[Any]:
    return list(picture) if isinstance(picture, (list, tuple)) else [picture]


def _as_picture(picture: Any) -> Image.Image:
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(np.asarray(picture, dtype=np.uint8))
    return picture.convert("RGB")
