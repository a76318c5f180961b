"""A quality map as a picture: laid over the grey picture, and beside the picture with a legend.

The colours are matplotlib's viridis, from dark violet (1, bad) over green to yellow (5, excellent): lighter at
every step, so that it is the same to people who don't tell red from green, and in print without colour. The scale is
always 1..5, so that maps of different pictures can be compared.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mriqa.scoring.quality_map import QualityMap

COLOURS = "viridis"
LONGEST, SHORTEST = 1024, 192  # pixels along a panel's longer side
STRENGTH = 0.66  # of the colours over the grey picture
GREYS = (24, 255)  # of the grey picture
UNKNOWN = (128, 128, 128)
MARGIN, BAR, TEXT = 16, 14, 15  # pixels
PAPER, INK = "white", "#1f2937"


def draw_map(picture: Image.Image, found: QualityMap, score: float) -> Image.Image:
    """The picture beside the picture under its map, and a legend: the scale, what of it the map covers, the score.

    `picture` is in mode RGB, `score` the whole picture's in 1..5 or NaN. At most 1,024 pixels a panel.
    """
    picture = _of_panel_size(picture)
    width, height = max(SHORTEST, picture.width), picture.height  # the legend needs room below a narrow one, too
    sheet = Image.new("RGB", (2 * width + 3 * MARGIN, height + 3 * MARGIN + BAR + TEXT + 6), PAPER)
    sheet.paste(picture, (MARGIN, MARGIN))
    sheet.paste(overlay(picture, found), (width + 2 * MARGIN, MARGIN))
    _draw_legend(sheet, found, score, (width + 2 * MARGIN, height + 2 * MARGIN), width)
    return sheet


def overlay(picture: Image.Image, found: QualityMap) -> Image.Image:
    """The picture in pale grey under the map's colours, in the picture's size."""
    low, high = GREYS
    grey_HW1 = np.asarray(picture.convert("L"), dtype=np.float32)[..., None] / 255 * (high - low) + low
    values = Image.fromarray(np.nan_to_num(found.values_HW, nan=0.0)).resize(picture.size, Image.Resampling.BILINEAR)
    mixed_HWC = (1 - STRENGTH) * grey_HW1 + STRENGTH * _coloured(np.asarray(values))
    return Image.fromarray(np.rint(mixed_HWC).astype(np.uint8))


def colour_bar(width: int, height: int) -> Image.Image:
    """The colours from 1 at the left to 5 at the right."""
    return Image.fromarray(np.tile(_coloured(np.linspace(1, 5, width))[None], (height, 1, 1)).astype(np.uint8))


def _of_panel_size(picture: Image.Image) -> Image.Image:
    scale = max(SHORTEST / max(picture.size), min(1.0, LONGEST / max(picture.size)))
    if scale == 1:
        return picture
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)


def _coloured(values: np.ndarray) -> np.ndarray:
    """Values in 1..5 of any shape to colours (..., 3) in 0..255; grey for those below, which stand for none."""
    places = np.rint((np.clip(values, 1, 5) - 1) / 4 * 255).astype(int)
    return np.where((values < 1)[..., None], np.array(UNKNOWN, dtype=np.float32), _table()[places])


@cache
def _table() -> np.ndarray:
    """The 256 colours as (256, 3) in 0..255."""
    from matplotlib import colormaps  # takes a while, and most who score want no map

    return (colormaps[COLOURS](np.arange(256))[:, :3] * 255).astype(np.float32)


def _draw_legend(sheet: Image.Image, found: QualityMap, score: float, at: tuple[int, int], width: int) -> None:
    """The colour bar with the grades below it, and above it a bracket from the map's lowest to its highest value."""
    left, top = at
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    grades = "bad  1", "5  excellent"
    before, after = (round(pen.textlength(text, font=font)) + 10 for text in grades)
    start, end = left + before, left + width - after
    sheet.paste(colour_bar(end - start, BAR), (start, top))
    middle = top + BAR / 2
    pen.text((start - 6, middle), grades[0], INK, font, anchor="rm")
    pen.text((end + 6, middle), grades[1], INK, font, anchor="lm")

    def x(value: float) -> float:
        return start + (value - 1) / 4 * (end - start)

    lowest, highest = float(np.nanmin(found.values_HW)), float(np.nanmax(found.values_HW))
    pen.line([(x(lowest), top - 4), (x(highest), top - 4)], INK, width=3)
    whole = "" if math.isnan(score) else f"whole {score:.2f}, "
    pen.text((left, top + BAR + 8), f"{whole}map {lowest:.2f} to {highest:.2f}", INK, font, anchor="la")
