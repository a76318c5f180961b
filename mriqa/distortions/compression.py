"""Compression distortions of KADID-10k (Lin, Hosu, Saupe, QoMEX 2019): JPEG and JPEG 2000, through Pillow.

Images pass through 8-bit integers, one at a time, on the CPU. Every function takes images (B, 3, H, W) in [0, 1], one
parameter per image (B,) and a generator (unused), and returns images of the same shape and dtype in [0, 1].
"""

import io
import math
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mriqa.distortions.eight_bits import through_pictures


def jpeg2000(images_BCHW: Tensor, ratio_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Compress to 1 / ratio of the raw 24-bit size (irreversible 9/7 wavelet); a ratio of 1 or less is the identity."""
    height, width = images_BCHW.shape[2:]
    # OpenJPEG refuses more resolutions than the image has halvings.
    resolutions = min(6, 1 + int(math.log2(min(height, width))))

    def recode(picture: Image.Image, ratio: float) -> Image.Image:
        return _recode(
            picture,
            format="JPEG2000",
            quality_mode="rates",
            quality_layers=[ratio],
            num_resolutions=resolutions,
            irreversible=True,
        )

    return through_pictures(images_BCHW, recode, ratio_B, ratio_B > 1)


def jpeg(images_BCHW: Tensor, quality_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Compress with the given quality, rounded, at least 1, chroma halved (4:2:0); 100 is the identity."""

    def recode(picture: Image.Image, quality: float) -> Image.Image:
        return _recode(picture, format="JPEG", quality=max(round(quality), 1), subsampling="4:2:0")

    return through_pictures(images_BCHW, recode, quality_B, quality_B < 100)


def _recode(picture: Image.Image, **options: Any) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return Image.open(buffer)
