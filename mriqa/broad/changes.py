"""What has changed between a picture and its original, in plain statistics: they tell damages apart that people mind
differently at the same distance (darker or blurred, all over or in one place, grey values or colours).

Legend: H, W pixels; b blocks along a side.
"""

from __future__ import annotations

import numpy as np

NAMES = (
    "brightness",  # difference of the mean grey, in [-1, 1]
    "contrast",  # logarithm of the ratio of standard deviations of grey
    "detail",  # logarithm of the ratio of mean absolute differences of neighbours, which blur lowers and noise raises
    "colour",  # logarithm of the ratio of mean distances from grey
    "colour_error",  # root mean square difference of the distances from grey, in [0, 1]
    "clipped",  # difference of the shares of pixels that are all but black or white, in [-1, 1]
    "worst_place",  # the largest root mean square error of a block over the median one, as a logarithm
)
BLOCK = 24
SMALLEST = 0.003  # about one step of 8 bits: under it a ratio says nothing


def changes(original_HW3: np.ndarray, spoiled_HW3: np.ndarray) -> list[float]:
    """The statistics in the order of `NAMES`, of two pictures of 8 bits of at least `BLOCK` pixels a side."""
    before, after = (pixels.astype(np.float32) / 255 for pixels in (original_HW3, spoiled_HW3))
    grey_before, grey_after = before.mean(axis=2), after.mean(axis=2)
    colour_before, colour_after = before - grey_before[..., None], after - grey_after[..., None]
    return [
        float(grey_after.mean() - grey_before.mean()),
        _log_ratio(grey_after.std(), grey_before.std()),
        _log_ratio(_detail(grey_after), _detail(grey_before)),
        _log_ratio(np.abs(colour_after).mean(), np.abs(colour_before).mean()),
        float(np.sqrt(((colour_after - colour_before) ** 2).mean())),
        float(_clipped(grey_after) - _clipped(grey_before)),
        _unevenness(((after - before) ** 2).mean(axis=2)),
    ]


def _log_ratio(after: float, before: float) -> float:
    return float(np.log((after + SMALLEST) / (before + SMALLEST)))


def _detail(grey_HW: np.ndarray) -> float:
    return float(np.abs(np.diff(grey_HW, axis=0)).mean() + np.abs(np.diff(grey_HW, axis=1)).mean())


def _clipped(grey_HW: np.ndarray) -> float:
    return float(((grey_HW < 0.02) | (grey_HW > 0.98)).mean())


def _unevenness(error_HW: np.ndarray) -> float:
    rows, columns = (side // BLOCK for side in error_HW.shape)
    blocks = error_HW[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    root_bb = np.sqrt(blocks.mean(axis=(1, 3)))
    return _log_ratio(float(root_bb.max()), float(np.median(root_bb)))
