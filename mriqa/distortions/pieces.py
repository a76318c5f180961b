"""Work on a batch in pieces that stay in a CPU's cache.

A photograph of 224 x 224 pixels has 0.6 MB. What a distortion computes from 32 of them on its way leaves the cache
between one operation and the next, and takes two to three times as long as 32 times one. An accelerator is the other
way about, so there a batch stays whole.

Legend: B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from mriqa.distortions.draws import Draws

VALUES_AT_ONCE = 2**18

Function = Callable[..., Tensor]


def in_pieces(function: Function) -> Function:
    """`function(images_BCHW, …)`, cut to [0, 1], of a few images at a time on a CPU and of all elsewhere.

    It keeps the images' shape, and its result for an image depends on no other. Further tensors, and draws, have one
    row for each image; anything else is handed on as it is.
    """

    @wraps(function)
    def run(images_BCHW: Tensor, *more: Any) -> Tensor:
        step = max(1, VALUES_AT_ONCE // images_BCHW[0].numel())
        if images_BCHW.device.type != "cpu" or len(images_BCHW) <= step:
            return function(images_BCHW, *_rows_of(more, slice(None))).clamp_(0, 1)
        made_BCHW = torch.empty_like(images_BCHW)
        for start in range(0, len(images_BCHW), step):
            rows = slice(start, start + step)
            torch.clamp(function(images_BCHW[rows], *_rows_of(more, rows)), 0, 1, out=made_BCHW[rows])
        return made_BCHW

    return run


def _rows_of(values: tuple[Any, ...], rows: slice) -> list[Any]:
    return [each[rows] if isinstance(each, (Tensor, Draws)) else each for each in values]
