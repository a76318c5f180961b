"""The embedded model's eye as an image processor of transformers.

Legend: B pictures, S side of a tile in pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor

from mriqa.embedded.eye import LIMIT, TILE, smooth_strip, strip
from mriqa.embedded.lite_network import normalised


class EyeImageProcessor(BaseImageProcessor):
    """Pictures to strips of tiles: `pixel_values` (B, 3, 5 S, S), 8-bit; the tower normalises them.

    Arguments:
        tile: S, a multiple of 32.
        limit: see `mriqa.embedded.eye.tiles`; at least the tile.
    """

    model_input_names = ["pixel_values"]

    def __init__(self, tile: int = TILE, limit: int = LIMIT, **kwargs: Any):
        super().__init__(**kwargs)
        self.tile, self.limit = tile, limit

    def preprocess(
        self, images: Any, *_: Any, return_tensors: str | None = None, do_normalize: bool = False, **__: Any
    ) -> BatchFeature:
        """The strips of pictures, PIL or arrays (H, W, 3) of 8 bits, in order; lists in the list are flattened.

        Floating-point tensors (3, H, W) of 0..255 keep their gradient. With `do_normalize` strips are normalised here,
        as the tower would do it.
        """
        strips = torch.stack([self._strip(image) for image in _flat(images)])
        return BatchFeature(
            {"pixel_values": normalised(strips) if do_normalize else strips}, tensor_type=return_tensors
        )

    def _strip(self, image: Any) -> torch.Tensor:
        if isinstance(image, torch.Tensor) and image.is_floating_point():
            return smooth_strip(image, self.tile, self.limit)
        return strip(_as_picture(image), self.tile, self.limit)


def _flat(images: Any) -> list[Any]:
    return [one for image in images for one in _flat(image)] if isinstance(images, (list, tuple)) else [images]


def _as_picture(image: Any) -> Image.Image:
    return image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image, dtype=np.uint8))
