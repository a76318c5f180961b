"""Which parts of a picture an encoder sees: ConOrd's three crops (Appendix B.2), or the middle alone.

Every picture gives the same number of crops of the same size, so that batches can be stacked.

Legend: H W pixels, 3 colours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mriqa.heads.inputs import HeadError

COUNTS = (1, 3)


@dataclass(frozen=True)
class CropSettings:
    """How a picture becomes crops.

    Attributes:
        crop: side of the square crops in pixels.
        count: 3 for the top left, the bottom right and the centre; 1 for the centre.
        size: resize the picture to size × size first (bicubic), whatever its shape; None keeps the shape.
        limit: shrink the picture until its shorter side has at most this many pixels (Lanczos); None never shrinks.
            A picture with a side shorter than the crop is enlarged, shape kept, until the crop fits.
    """

    crop: int = 224
    count: int = 3
    size: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        for name in ("crop", "size", "limit"):
            value = getattr(self, name)
            if value is None and name != "crop":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise HeadError(f"{name} must be a number of pixels of at least 1, not {value!r}.")
        if self.count not in COUNTS:
            raise HeadError(f"There are 3 crops of a picture, or 1, not {self.count!r}.")


def crops(image: Image.Image, settings: CropSettings) -> list[Image.Image]:
    """`settings.count` crops of crop × crop pixels: top left, bottom right, centre; or the centre."""
    return cut(resized(image, settings), settings)


def cut(image: Image.Image, settings: CropSettings) -> list[Image.Image]:
    """The crops of a picture that `resized` gave."""
    right, bottom = image.width - settings.crop, image.height - settings.crop
    corners = [(0, 0), (right, bottom), (right // 2, bottom // 2)]
    chosen = corners if settings.count == 3 else corners[2:]
    return [image.crop((left, top, left + settings.crop, top + settings.crop)) for left, top in chosen]


def as_pixels(image: Image.Image) -> Tensor:
    """An RGB picture as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def resized(image: Image.Image, settings: CropSettings) -> Image.Image:
    """The picture as large as the settings want it, and at least as large as a crop."""
    if settings.size is not None:
        image = image.resize((settings.size, settings.size), Image.Resampling.BICUBIC)
    if settings.limit is not None and min(image.size) > settings.limit:
        image = _scaled(image, settings.limit, Image.Resampling.LANCZOS)
    if min(image.size) < settings.crop:
        image = _scaled(_middle(image), settings.crop, Image.Resampling.BICUBIC)
    return image


def _middle(image: Image.Image) -> Image.Image:
    """The middle part, at most four times as long as wide: 1 × 60,000 pixels would be enlarged to gigabytes."""
    longest = 4 * min(image.size)
    left, top = (max(0, side - longest) // 2 for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top))


def _scaled(image: Image.Image, shorter: int, method: Image.Resampling) -> Image.Image:
    """The picture with a shorter side of `shorter` pixels."""
    scale = shorter / min(image.size)
    return image.resize((max(shorter, round(image.width * scale)), max(shorter, round(image.height * scale))), method)
