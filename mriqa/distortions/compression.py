"""Compression distortions of KADID-10k (Lin, Hosu, Saupe, QoMEX 2019): JPEG and JPEG 2000, through Pillow.

Images pass through 8-bit integers, one at a time, on the CPU. Every function takes images (B, 3, H, W) in [0, 1], one
parameter per image (B,) and a generator (unused), and returns images of the same shape and dtype in [0, 1].
"""

import io
import math
from typing import Any

import numpy
import torch
from PIL import Image
from torch import Tensor


def jpeg2000(images_BCHW: Tensor, ratio_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Compress to 1 / ratio of the raw 24-bit size (irreversible 9/7 wavelet); a ratio of 1 or less is the identity."""
    height, width = images_BCHW.shape[2:]
    # OpenJPEG refuses more resolutions than the image has halvings.
    resolutions = min(6, 1 + int(math.log2(min(height, width))))
    return torch.stack(
        [
            image
            if ratio <= 1
            else _recode(
                image,
                format="JPEG2000",
                quality_mode="rates",
                quality_layers=[ratio],
                num_resolutions=resolutions,
                irreversible=True,
            )
            for image, ratio in zip(images_BCHW, ratio_B.tolist(), strict=True)
        ]
    )


def jpeg(images_BCHW: Tensor, quality_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Compress with the given quality, rounded, at least 1, chroma halved (4:2:0); 100 is the identity."""
    return torch.stack(
        [
            image
            if quality >= 100
            else _recode(image, format="JPEG", quality=max(round(quality), 1), subsampling="4:2:0")
            for image, quality in zip(images_BCHW, quality_B.tolist(), strict=True)
        ]
    )


def _recode(image_CHW: Tensor, **options: Any) -> Tensor:
    pixels = (image_CHW.permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **options)
    decoded = numpy.array(Image.open(buffer).convert("RGB"))
    return torch.from_numpy(decoded).permute(2, 0, 1).to(image_CHW) / 255
