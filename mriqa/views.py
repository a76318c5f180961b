"""Which parts of a picture a model looks at: the whole of it, its centre, or a few crops whose scores are averaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from mriqa.errors import UserError

COUNTS = (1, 5)
LONGEST = 8  # times as long as wide, of a picture that has to be enlarged


class ViewError(UserError, ValueError):
    """View settings that no picture can be looked at with, as one sentence naming the setting."""


@dataclass(frozen=True)
class ViewSettings:
    """How to look at a picture; saved with a model as the "views" of its `mriqa.json`.

    Attributes:
        size: resize the picture to size × size pixels first (bicubic); None keeps its shape.
        limit: shrink the picture until its shorter side has at most this many pixels (Lanczos); None never shrinks.
        crop: side of the square crops in pixels; a side shorter than that is taken whole. None is the whole picture.
        count: 1 for the crop at the centre, 5 for the four corners and the centre.
    """

    size: int | None = None
    limit: int | None = None
    crop: int | None = None
    count: int = 1

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("limit", self.limit), ("crop", self.crop)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ViewError(f"View setting {name} must be a number of pixels of at least 1, not {value!r}.")
        if self.count not in COUNTS:
            raise ViewError(f"View setting count must be 1 (centre) or 5 (corners and centre), not {self.count}.")
        if self.count == 5 and self.crop is None:
            raise ViewError("Five views need a crop size: set crop to a number of pixels.")

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any] | None) -> ViewSettings:
        """Settings as `mriqa.json` holds them; None is the whole picture. Raises ViewError for unknown names."""
        unknown = set(settings or {}) - {"size", "limit", "crop", "count"}
        if unknown:
            raise ViewError(f"Unknown view setting {min(unknown)!r}; there are size, limit, crop and count.")
        return cls(**(settings or {}))


def views(image: Image.Image, settings: ViewSettings) -> list[Image.Image]:
    """The views of a picture: itself, its centre, or its four corners and the centre; crops that coincide come once."""
    for size, resample in resizings(image.size, settings):
        image = image.resize(size, resample)
    return [image.crop(box) for box in boxes(image.size, settings)] if settings.crop is not None else [image]


def resizings(size: tuple[int, int], settings: ViewSettings) -> list[tuple[tuple[int, int], Image.Resampling]]:
    """How a picture of this width and height is resized, one after the other: new width and height, and the filter."""
    steps = []
    if settings.size is not None:
        size = (settings.size, settings.size)
        steps.append((size, Image.Resampling.BICUBIC))
    if settings.limit is not None and min(size) > settings.limit:
        scale = settings.limit / min(size)
        smaller = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        steps.append((smaller, Image.Resampling.LANCZOS))
    return steps


def boxes(size: tuple[int, int], settings: ViewSettings) -> list[tuple[int, int, int, int]]:
    """The parts of a resized picture of this width and height that are looked at: left, top, right, bottom."""
    if settings.crop is None:
        return [(0, 0, *size)]
    width, height = min(settings.crop, size[0]), min(settings.crop, size[1])
    right, bottom = size[0] - width, size[1] - height
    centre, corners = (right // 2, bottom // 2), [(0, 0), (right, 0), (0, bottom), (right, bottom)]
    places = [centre] if settings.count == 1 else dict.fromkeys([*corners, centre])
    return [(left, top, left + width, top + height) for left, top in places]


def enlarged(image: Image.Image, side: int) -> Image.Image:
    """The picture, enlarged (bicubic) until no side is shorter than `side`: a black border would be seen as a fault.

    Of a strip more than eight times as long as wide only the middle is, as 1 × 60,000 pixels would become gigabytes.
    """
    box, size = enlarging(image.size, side)
    return image if size == image.size else image.crop(box).resize(size, Image.Resampling.BICUBIC)


def enlarging(size: tuple[int, int], side: int) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """What `enlarged` makes of a picture of this width and height: the part it takes, and its new width and height."""
    if min(size) >= side:
        return (0, 0, *size), size
    longest = LONGEST * min(size)
    left, top = (max(0, (length - longest) // 2) for length in size)
    width, height = min(longest, size[0]), min(longest, size[1])
    scale = side / min(size)
    enlarged = (max(side, round(width * scale)), max(side, round(height * scale)))
    return (left, top, left + width, top + height), enlarged
