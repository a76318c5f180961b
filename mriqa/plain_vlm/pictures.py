"""Pictures to pixels: one resized square, as transformers' CLIPImageProcessor makes it, or the eye's strip of tiles.

Legend: H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mriqa.embedded.eye import TILES, smooth_strip, strip
from mriqa.embedded.lite_network import normalised
from mriqa.tensor_views import resized

BICUBIC = 3  # Pillow's number, which settings files have

# Settings that are read, and others that change nothing here. With any other a folder is not for this module.
_SQUARE_KEYS = {
    *("do_convert_rgb", "do_normalize", "do_rescale", "do_resize", "do_center_crop", "crop_size", "size", "resample"),
    *("image_mean", "image_std", "rescale_factor", "image_processor_type"),
}
_STRIP_KEYS = {"tile", "limit", "image_processor_type"}


class Squares:
    """Pictures resized to one size (bicubic, with anti-aliasing), 8-bit or normalised as the settings say.

    Raises ValueError or KeyError for settings that ask for what this class lacks, as `Strips` does.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if other := set(settings) - _SQUARE_KEYS:
            raise ValueError(f"its pictures have the setting {min(other)}")
        if not (settings["do_resize"] and set(settings["size"]) == {"height", "width"}) or settings["do_center_crop"]:
            raise ValueError("its pictures have another shape")
        if settings["resample"] != BICUBIC or settings["do_rescale"] != settings["do_normalize"]:
            raise ValueError("its pictures are resampled or normalised in another way")
        self.size = settings["size"]["height"], settings["size"]["width"]
        self.mean_311, self.std_311 = (
            None if not settings["do_normalize"] else _in_grey_levels(settings[name], settings["rescale_factor"])
            for name in ("image_mean", "image_std")
        )

    def smooth(self, image_3HW: Tensor) -> Tensor:
        """What the tower makes of pixels 0..255, as a differentiable function of them and without rounding to bytes."""
        image_3HW = resized(image_3HW, self.size[::-1], Image.Resampling.BICUBIC)
        if self.mean_311 is None or self.std_311 is None:
            return normalised(image_3HW)
        return (image_3HW - self.mean_311) / self.std_311

    def __call__(self, picture: Image.Image) -> Tensor:
        """The picture's pixels (3, H, W)."""
        pixels_3HW = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
        if pixels_3HW.shape[1:] != self.size:
            pixels_3HW = F.interpolate(pixels_3HW[None], self.size, mode="bicubic", antialias=True)[0]
        if self.mean_311 is None or self.std_311 is None:
            return pixels_3HW
        return (pixels_3HW.float() - self.mean_311).div_(self.std_311)


class Strips:
    """The eye's tiles, below each other."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if other := set(settings) - _STRIP_KEYS:
            raise ValueError(f"its strips have the setting {min(other)}")
        self.tile, self.limit = settings["tile"], settings["limit"]
        self.size = TILES * self.tile, self.tile

    def __call__(self, picture: Image.Image) -> Tensor:
        """The picture's strip (3, 5 S, S) of 8 bits."""
        return strip(picture, self.tile, self.limit)

    def smooth(self, image_3HW: Tensor) -> Tensor:
        """As `Squares.smooth`."""
        return normalised(smooth_strip(image_3HW, self.tile, self.limit))


LOOKS: dict[str, type[Squares] | type[Strips]] = {"CLIPImageProcessor": Squares, "EyeImageProcessor": Strips}
"""What becomes of pictures, by the `image_processor_type` of the settings."""


def _in_grey_levels(values: Sequence[float], rescale_factor: float) -> Tensor:
    """Means or deviations (3, 1, 1) of values 0..1 as those of values 0..255."""
    return (torch.tensor(values) * (1.0 / rescale_factor))[:, None, None]
