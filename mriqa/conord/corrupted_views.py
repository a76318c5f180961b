"""Views of corrupted test pictures: ImageNet-C's corruptions at a level (ConOrd, Table 19 and Fig. 12).

A picture is corrupted as large as the encoder's crops are cut from it, after it was shrunk and before it is cropped, as
ImageNet-C is made of pictures of 224 pixels: radii and grains are counted in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch.utils.data import Dataset

from mriqa.conord.crops import CropSettings, as_pixels, cut, resized
from mriqa.conord.model import View
from mriqa.distortions import distort
from mriqa.images import load_image
from mriqa.manifest import RatedImage

LEVELS = 5


class CorruptedViewDataset(Dataset[list[View]]):
    """The views of rows after a corruption.

    Arguments:
        rows: pictures.
        views: how they are shrunk and cropped.
        corruption: a name of `mriqa.distortions.IMAGENET_C`.
        level: 1 to 5.
        seed: of the corruption's randomness; each picture has its own.
    """

    def __init__(self, rows: Sequence[RatedImage], views: CropSettings, corruption: str, level: int, seed: int = 0):
        self.paths = [row.image for row in rows]
        self.views, self.corruption, self.level, self.seed = views, corruption, level, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> list[View]:
        pixels_3HW = as_pixels(resized(load_image(self.paths[place]), self.views))
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + place)
        corrupted_13HW = distort(pixels_3HW[None] / 255, self.corruption, self.level / LEVELS, generator)
        bytes_HW3 = (corrupted_13HW[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        return [as_pixels(crop) for crop in cut(Image.fromarray(bytes_HW3), self.views)]
