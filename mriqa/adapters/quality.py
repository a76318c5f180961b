"""What all adapters share: pictures in any form that trainers hand out, and their rewards in 0..1.

Shapes: N images, C = 3 channels, H × W pixels.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Score, Scorer, Source

Pictures = torch.Tensor | np.ndarray | Sequence[Any]
"""(N, 3, H, W) floats in 0..1 as a tensor, (N, H, W, 3) bytes or floats in 0..1 as an array, or a list of pictures,
each a Pillow image, a path, encoded bytes, one such tensor or array without N, or None."""


class QualityReward:
    """`reward(pictures)` → rewards (N,) in 0..1, and `reward.scores(pictures)` → the scores behind them.

    Safe to call from several threads, which take turns: trainers like to call rewards from a pool.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self._turn = threading.Lock()

    def __deepcopy__(self, memo: Any) -> QualityReward:
        """A copy, as metrics are copied, scores by the same model."""
        return QualityReward(self.scorer)

    def __call__(self, pictures: Pictures) -> np.ndarray:
        return self.of(self.scores(pictures))

    def scores(self, pictures: Pictures) -> list[Score | None]:
        """For each picture its score; None for None and for pixels that are not finite."""
        sources = [to_source(picture) for picture in pictures]
        with self._turn:
            scored = iter(self.scorer.score([source for source in sources if source is not None]))
        return [None if source is None else next(scored) for source in sources]

    @staticmethod
    def of(scores: Sequence[Score | None]) -> np.ndarray:
        """Rewards (N,), float64: (score − 1) / 4, and 0 where there is no score."""
        return np.array([0.0 if one is None or math.isnan(one.score) else (one.score - 1) / 4 for one in scores])


def to_source(picture: Any) -> Source | None:
    """A picture in the form that the scorer takes, or None where there is none. Raises ValueError for other shapes."""
    if isinstance(picture, torch.Tensor):
        if picture.ndim != 3 or picture.shape[0] != 3:
            raise ValueError(f"A picture as a tensor has the shape (3, H, W), not {tuple(picture.shape)}.")
        return _from_pixels(picture.detach().float().cpu().numpy().transpose(1, 2, 0))
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"A picture as an array has the shape (H, W, 3), not {picture.shape}.")
        return _from_pixels(picture)
    return picture


def _from_pixels(pixels_HWC: np.ndarray) -> Image.Image | None:
    """Bytes as they are, floats 0..1 rounded to 0..255; those beyond are clipped, as samplers overshoot."""
    if pixels_HWC.dtype != np.uint8:
        if not np.issubdtype(pixels_HWC.dtype, np.floating):
            raise ValueError(f"Pixels are bytes (uint8) or floats in 0..1, not {pixels_HWC.dtype}.")
        if not np.isfinite(pixels_HWC).all():
            return None
        pixels_HWC = (pixels_HWC * 255).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels_HWC))
