"""Where a picture is bad: the scores of overlapping windows, laid together to a smooth map.

Each window is a piece of the picture at its own scale, which the model scores as it scores any picture; so this works
with every `Scorer`. A pixel's value is the mean of the windows over it, each weighted by a raised cosine that is
highest at the window's centre. A window is less than most models look at. Enlarged, it would look blurred; so it is
continued by its own mirror images until it fills the crop that the scorer's views ask for, at its own scale and without
seams.

Legend: H, W rows and columns of the map, K windows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mriqa.images import load_image
from mriqa.scoring.scorer import Scorer

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Source
    from mriqa.views import ViewSettings

SMALLEST_WINDOW = 64  # pixels: in less, a model sees no content
SHARE_OF_SIDE = 3 / 8  # of the shorter side of a small picture, so that half of it holds windows of its own
LONGEST_MAP = 1024  # values along its longer side


@dataclass(frozen=True)
class MapSettings:
    """How finely a picture is looked at.

    Attributes:
        window: side of the square windows in pixels. Small pictures get smaller ones, down to 64 pixels, and pictures
            with room for more than `most` get larger ones. Neighbours overlap by half or more.
        most: windows at most, which is what a map costs: each is a picture to score.

    Raises ValueError for less than 16 pixels or no window.
    """

    window: int = 192
    most: int = 64

    def __post_init__(self) -> None:
        if self.window < 16 or self.most < 1:
            raise ValueError(
                f"A map needs at least one window, of at least 16 pixels, not {self.most} of {self.window} pixels."
            )


@dataclass(frozen=True)
class Window:
    """A window's place in pixels, and its score in 1..5, NaN where the model gave none."""

    left: int
    top: int
    width: int
    height: int
    score: float = math.nan


@dataclass(frozen=True)
class QualityMap:
    """A picture's quality from place to place.

    Attributes:
        values_HW: in 1..5 as float32, NaN where no window has a score. The picture's own height and width where its
            longer side has at most 1,024 pixels; else as many times fewer as brings it there.
        windows: what they were made of.
    """

    values_HW: np.ndarray
    windows: tuple[Window, ...]

    @property
    def scored(self) -> bool:
        """Whether any window has a score."""
        return not all(math.isnan(window.score) for window in self.windows)


def quality_map(scorer: Scorer, image: Source, settings: MapSettings | None = None) -> QualityMap:
    """The map of a path, encoded bytes or a PIL image. Raises ImageError where that can't be read, BackendError.

    Where the scorer resizes every picture first (`ViewSettings.size`), the map is of the resized picture.
    """
    picture = load_image(image)
    if scorer.views.size is not None:
        picture = picture.resize((scorer.views.size, scorer.views.size), Image.Resampling.BICUBIC)
    places = place_windows(*picture.size, settings or MapSettings())
    scores = scorer.without_views().score([_filled(_cut(picture, place), scorer.views) for place in places])
    windows = tuple(replace(place, score=one.score) for place, one in zip(places, scores, strict=True))
    return QualityMap(lay_together(windows, *picture.size), windows)


def place_windows(width: int, height: int, settings: MapSettings) -> list[Window]:
    """Where the windows of a picture lie, row by row: evenly, from edge to edge, each over half of the next or more."""
    side = min(settings.window, max(SMALLEST_WINDOW, int(min(width, height) * SHARE_OF_SIDE)))
    while _count(width, side) * _count(height, side) > settings.most:
        side += max(1, side // 16)
    across, down = min(side, width), min(side, height)
    return [Window(left, top, across, down) for top in _starts(height, down) for left in _starts(width, across)]


def lay_together(windows: Sequence[Window], width: int, height: int) -> np.ndarray:
    """The map (H, W) of a picture of this size, from windows that cover it."""
    scored = [window for window in windows if not math.isnan(window.score)]
    scale = min(1.0, LONGEST_MAP / max(width, height))
    across_KW = _cosines([(window.left, window.width) for window in scored], max(1, round(width * scale)), width)
    down_KH = _cosines([(window.top, window.height) for window in scored], max(1, round(height * scale)), height)
    scores_K = np.array([window.score for window in scored])
    weights_HW = down_KH.T @ across_KW
    with np.errstate(invalid="ignore"):  # 0 / 0 where there is no window
        return ((down_KH.T * scores_K) @ across_KW / weights_HW).astype(np.float32)


def _cosines(spans: Sequence[tuple[int, int]], n_values: int, length: int) -> np.ndarray:
    """The raised cosine (K, n_values) of each window along one side of `length` pixels, 0 outside the window."""
    centres = (np.arange(n_values) + 0.5) * length / n_values
    starts_K1, lengths_K1 = np.array(spans, dtype=np.float64).reshape(-1, 2, 1).swapaxes(0, 1)
    inside = (centres - starts_K1) / lengths_K1
    return np.where((inside > 0) & (inside < 1), np.sin(np.pi * inside) ** 2, 0.0)


def _count(length: int, side: int) -> int:
    return 1 if length <= side else math.ceil((length - side) / (side / 2)) + 1


def _starts(length: int, side: int) -> list[int]:
    count = _count(length, side)
    return [0] if count == 1 else [round(k * (length - side) / (count - 1)) for k in range(count)]


def _cut(picture: Image.Image, place: Window) -> Image.Image:
    return picture.crop((place.left, place.top, place.left + place.width, place.top + place.height))


def _filled(window: Image.Image, views: ViewSettings) -> Image.Image:
    """The window, continued by its mirror images to the side of the crops that the views ask for."""
    missing = [max(0, (views.crop or 0) - length) for length in (window.height, window.width)]
    if not any(missing):
        return window
    return Image.fromarray(np.pad(np.asarray(window), [(0, missing[0]), (0, missing[1]), (0, 0)], mode="symmetric"))
