"""Pillow's part in distortions: a batch as 8-bit pictures, through a function of one picture, and back.

A pixel goes to Pillow as one whole number, red + 256 green + 256² blue, which single precision holds exactly, and comes
back plane by plane: both take less than permuting an array of bytes. Pictures are worked on in as many threads as torch
has, as codecs release the interpreter lock.

Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from PIL import Image
from torch import Tensor


def through_pictures(
    images_BCHW: Tensor, function: Callable[[Image.Image, float], Image.Image], values_B: Tensor, is_changed_B: Tensor
) -> Tensor:
    """`function` of each image, as a picture, and its value; images that are not changed stay as they are."""
    pictures_BCHW = images_BCHW.cpu()
    made_BCHW = torch.empty_like(pictures_BCHW)

    def make(image_CHW: Tensor, made_CHW: Tensor, value: float, is_changed: bool) -> None:
        if is_changed:
            _from_picture(function(_to_picture(image_CHW), value), made_CHW)
        else:
            made_CHW.copy_(image_CHW)

    work = (pictures_BCHW, made_BCHW, values_B.tolist(), is_changed_B.tolist())
    threads = min(torch.get_num_threads(), len(images_BCHW))
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(make, *work))
    else:
        list(map(make, *work))
    return made_BCHW.to(images_BCHW.device)


def _to_picture(image_CHW: Tensor) -> Image.Image:
    red_HW, green_HW, blue_HW = (image_CHW * 255).round_()
    height, width = red_HW.shape
    pixels_HW = blue_HW.mul_(256).add_(green_HW).mul_(256).add_(red_HW).to(torch.int32).numpy()
    return Image.frombytes("RGB", (width, height), pixels_HW.astype("<i4", copy=False), "raw", "RGBX")


def _from_picture(picture: Image.Image, made_CHW: Tensor) -> None:
    picture = picture.convert("RGB")
    planes = bytearray().join(picture.tobytes("raw", name) for name in "RGB")
    made_CHW.copy_(torch.frombuffer(planes, dtype=torch.uint8).view_as(made_CHW)).div_(255)
