"""A sheet of pictures with what was estimated of each and what is true, after Figures 8, 9 and 16 to 18 of ConOrd.

Every picture is shown whole, shrunk to exactly the pixels that it takes on the sheet, so that drawing blurs nothing
further. As in `plots`, the figure is its own, and a file is replaced only once it is complete.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .plots import FAINT, GREEN, INK, VERMILION, PathLike, _figure, _save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4
MARGIN, GAP, CELL = 0.35, 0.2, 2.4  # inches
TITLE, HEADING, LINE = 0.75, 0.5, 0.21
ASPECTS = 0.6, 1.8
"""Height and width of a cell differ by no more than this; pictures beyond it keep their shape within the cell."""


@dataclass(frozen=True)
class Example:
    """A picture and, for each number of its rank, what stands to the left and to the right below it."""

    picture: Image.Image
    numbers: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """Examples under a heading, with a few words of what they have in common."""

    heading: str
    words: str
    examples: Sequence[Example] = field(default_factory=list)


def example_sheet(sections: Sequence[Section], path: PathLike, title: str, words: str) -> None:
    """Draw sections below each other, four pictures a row.

    Arguments:
        sections: those without examples are left out.
        path: file to write; its directory is made.
        title, words: above all, the words smaller than the title.

    Raises:
        ValueError: there are no examples.
    """
    shown = [section for section in sections if section.examples]
    pictures = [example.picture for section in shown for example in section.examples]
    if not pictures:
        raise ValueError("There are no examples to draw.")
    columns = min(COLUMNS, max(len(section.examples) for section in shown))
    aspect = statistics.median(picture.width / picture.height for picture in pictures)
    cell_height = CELL / min(max(aspect, ASPECTS[0]), ASPECTS[1])
    lines = max(len(example.numbers) for section in shown for example in section.examples)
    row_height = cell_height + LINE * lines + GAP
    rows = sum(math.ceil(len(section.examples) / columns) for section in shown)
    width = 2 * MARGIN + max(columns, 2) * (CELL + GAP) - GAP
    height = 2 * MARGIN + TITLE + HEADING * len(shown) + row_height * rows

    figure = _figure(width, height)
    figure.set_layout_engine("none")
    _write(figure, MARGIN, MARGIN, title, size=14, weight="bold")
    _write(figure, MARGIN, MARGIN + 0.28, words, size=9.5, colour=FAINT)
    top = MARGIN + TITLE
    for section, colour in zip(shown, (GREEN, VERMILION) * len(shown), strict=False):
        _write(figure, MARGIN, top, section.heading, size=11.5, weight="bold", colour=colour)
        _write(figure, width - MARGIN, top + 0.02, section.words, size=9.5, colour=FAINT, align="right")
        top += HEADING - 0.18
        _rule(figure, top - 0.08, colour)
        top += 0.06
        for place, example in enumerate(section.examples):
            row, column = divmod(place, columns)
            _draw(figure, example, MARGIN + column * (CELL + GAP), top + row * row_height, cell_height)
        top += 0.12 + row_height * math.ceil(len(section.examples) / columns)
    _save(figure, path)


def _draw(figure: Figure, example: Example, left: float, top: float, height: float) -> None:
    """A picture in the middle of its cell, whole, and its numbers below the cell."""
    figure_width, figure_height = figure.get_size_inches()
    picture = example.picture
    scale = min(CELL / picture.width, height / picture.height)
    size = [max(1, round(side * scale * figure.dpi)) for side in picture.size]
    wide, high = (side / figure.dpi for side in size)
    x, y = left + (CELL - wide) / 2, top + (height - high) / 2
    place = (x / figure_width, 1 - (y + high) / figure_height, wide / figure_width, high / figure_height)
    axes = figure.add_axes(place)
    axes.imshow(np.asarray(picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)), aspect="auto")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color="#D0D0D0", linewidth=0.6)
    middle = left + CELL / 2
    for line, (before, after) in enumerate(example.numbers):
        below = top + height + 0.07 + line * LINE
        _write(figure, middle - 0.03, below, before, size=10, weight="bold", align="right")
        _write(figure, middle + 0.03, below, after, size=10, colour=FAINT)


def _write(
    figure: Figure,
    left: float,
    top: float,
    text: str,
    *,
    size: float,
    weight: str = "normal",
    colour: str = INK,
    align: str = "left",
) -> None:
    """Text whose upper corner lies so many inches from the left and from the top."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - top / height, text, size=size, weight=weight, color=colour, ha=align, va="top")


def _rule(figure: Figure, top: float, colour: str) -> None:
    """A thin line from margin to margin."""
    from matplotlib.lines import Line2D

    width, height = figure.get_size_inches()
    x = [MARGIN / width, 1 - MARGIN / width]
    figure.add_artist(Line2D(x, [1 - top / height] * 2, color=colour, lw=0.9, transform=figure.transFigure))
