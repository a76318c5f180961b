"""Pictures that are no photographs, drawn by code: what a calibration shows beside photographs, to know them apart.

Blank pages, noise, patches, gradients, pages of text, windows of programs, charts, line drawings and flat coloured
drawings, some of them compressed. That examples of what is strange help to find other strange things is from Hendrycks,
Mazeika and Dietterich, "Deep anomaly detection with outlier exposure", ICLR 2019.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 448  # pixels


def strange_pictures(count: int, seed: int = 0) -> list[Image.Image]:
    """So many pictures of 448 × 448 pixels, the kinds in turn; every third is compressed (JPEG)."""
    random = np.random.default_rng(seed)
    drawn = []
    for number in range(count):
        picture = KINDS[number % len(KINDS)](random)
        if random.random() < 1 / 3:
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=int(random.integers(30, 95)))
            picture = Image.open(file).convert("RGB")
        drawn.append(picture)
    return drawn


def _blank(random: np.random.Generator) -> Image.Image:
    """One colour, grey or white more often than not; or nearly so."""
    grey = int(random.choice([0, 255, int(random.integers(256))]))
    colour = _colour(random) if random.random() < 0.3 else (grey, grey, grey)
    picture = _page(colour)
    if random.random() < 0.3:  # a scanned page
        return _grained(picture, random, random.uniform(0.5, 3))
    return picture


def _noise(random: np.random.Generator) -> Image.Image:
    """Independent pixels, coloured or grey, uniform or normal; or the same enlarged."""
    small = SIDE // int(random.choice([1, 1, 2, 4]))
    channels = int(random.choice([1, 3]))
    if random.random() < 0.5:
        pixels = random.integers(0, 256, (small, small, channels))
    else:
        pixels = random.normal(random.uniform(60, 200), random.uniform(10, 80), (small, small, channels)).clip(0, 255)
    picture = Image.fromarray(np.broadcast_to(pixels, (small, small, 3)).astype(np.uint8))
    return picture.resize((SIDE, SIDE), Image.Resampling(int(random.choice([0, 2]))))


def _patches(random: np.random.Generator) -> Image.Image:
    """Noise of large patches, coloured or grey, sharp or smooth."""
    along = int(random.integers(6, 64))
    channels = int(random.choice([1, 3]))
    pixels = np.broadcast_to(random.integers(0, 256, (along, along, channels)), (along, along, 3)).astype(np.uint8)
    return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling(int(random.choice([0, 2, 3]))))


def _gradient(random: np.random.Generator) -> Image.Image:
    """From one colour to another, along any direction."""
    angle = random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    along_HW1 = ((np.cos(angle) * columns + np.sin(angle) * rows) / 2.9 + 0.5)[..., None]
    start, end = np.array(_colour(random)), np.array(_colour(random))
    return Image.fromarray((start + (end - start) * along_HW1).astype(np.uint8))


def _text(random: np.random.Generator) -> Image.Image:
    """A page or a terminal full of letters."""
    dark = random.random() < 0.4
    picture = _page((24, 24, 28) if dark else (255, 255, int(random.integers(235, 256))))
    _write(ImageDraw.Draw(picture), random, (12, 12, SIDE, SIDE), (220, 220, 220) if dark else (20, 20, 20))
    return picture


def _window(random: np.random.Generator) -> Image.Image:
    """A program's window: bars, panels, buttons and labels."""
    dark = random.random() < 0.4
    picture = _page((30, 32, 38) if dark else (246, 247, 249))
    pen, ink = ImageDraw.Draw(picture), (225, 228, 232) if dark else (30, 35, 45)
    bar, side = int(random.integers(20, 60)), int(random.integers(40, 180))
    pen.rectangle((0, 0, SIDE, bar), fill=_colour(random))
    pen.rectangle((0, bar, side, SIDE), fill=(44, 47, 54) if dark else (228, 231, 236))
    _write(pen, random, (8, bar + 8, side, SIDE), ink, lines=int(random.integers(3, 12)))
    top = bar + 10
    while top < SIDE - 30:
        height = int(random.integers(24, 130))
        panel = (side + 10, top, SIDE - 10, min(SIDE - 6, top + height))
        pen.rounded_rectangle(panel, 6, fill=(52, 56, 64) if dark else (255, 255, 255), outline=(150, 155, 165))
        _write(pen, random, (panel[0] + 8, panel[1] + 6, panel[2] - 70, panel[3] - 4), ink, lines=4)
        if random.random() < 0.5 and panel[3] - panel[1] > 20:
            pen.rounded_rectangle((panel[2] - 60, panel[1] + 4, panel[2] - 8, panel[1] + 20), 4, fill=_colour(random))
        top += height + 8
    return picture


def _chart(random: np.random.Generator) -> Image.Image:
    """Axes with bars or lines."""
    picture = _page((255, 255, 255))
    pen = ImageDraw.Draw(picture)
    left, base = int(random.integers(30, 70)), SIDE - int(random.integers(30, 60))
    for level in range(20, base, int(random.integers(30, 70))):
        pen.line((left, level, SIDE - 15, level), (220, 220, 220))
        pen.text((6, level - 6), f"{random.integers(100)}", (60, 60, 60), ImageFont.load_default(11))
    if random.random() < 0.5:
        wide = int(random.integers(10, 40))
        for start in range(left + 8, SIDE - 20 - wide, wide + 8):
            pen.rectangle((start, int(random.integers(20, base)), start + wide, base), fill=_colour(random))
    else:
        for _ in range(int(random.integers(1, 5))):
            heights = (base - 60 + np.cumsum(random.normal(-3, 14, 30))).clip(20, base)
            points = list(zip(np.linspace(left, SIDE - 20, 30).tolist(), heights.tolist(), strict=True))
            pen.line(points, fill=_colour(random), width=int(random.integers(1, 4)))
    pen.line([(left, 15), (left, base), (SIDE - 15, base)], (0, 0, 0), width=2)
    return picture


def _line_drawing(random: np.random.Generator) -> Image.Image:
    """Strokes and outlines on paper, sharp or smoothed, clean or scanned."""
    scale = int(random.choice([1, 2]))
    picture = _page((255, 255, 255), scale * SIDE)
    pen = ImageDraw.Draw(picture)
    for _ in range(int(random.integers(8, 60))):
        place = _box(random, scale * SIDE)
        wide, ink = int(random.integers(1, 4 * scale)), (int(random.integers(0, 90)),) * 3
        if random.random() < 0.5:
            pen.line([tuple(point) for point in random.integers(0, scale * SIDE, (3, 2)).tolist()], ink, width=wide)
        else:
            pen.ellipse(place, outline=ink, width=wide)
    picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return _grained(picture, random, random.uniform(1, 6)) if random.random() < 0.4 else picture


def _flat_drawing(random: np.random.Generator) -> Image.Image:
    """Shapes in flat colours, with outlines or without, sharp or smoothed."""
    scale = int(random.choice([1, 2]))
    picture = _page(_colour(random), scale * SIDE)
    pen = ImageDraw.Draw(picture)
    outline = (0, 0, 0) if random.random() < 0.5 else None
    for _ in range(int(random.integers(5, 40))):
        shape = (pen.ellipse, pen.rectangle, pen.polygon)[random.integers(3)]
        corners = [tuple(point) for point in random.integers(0, scale * SIDE, (3, 2)).tolist()]
        shape(corners if shape == pen.polygon else _box(random, scale * SIDE), fill=_colour(random), outline=outline)
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


KINDS: tuple[Callable[[np.random.Generator], Image.Image], ...] = (
    _blank, _noise, _text, _window, _chart, _line_drawing, _flat_drawing, _gradient, _patches,
)  # fmt: skip


def _page(colour: tuple[int, ...], side: int = SIDE) -> Image.Image:
    return Image.new("RGB", (side, side), colour)


def _colour(random: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(level) for level in random.integers(0, 256, 3))


def _box(random: np.random.Generator, side: int) -> tuple[int, int, int, int]:
    left, top = (int(place) for place in random.integers(-side // 8, side, 2))
    width, height = (int(length) for length in random.integers(8, side // 2, 2))
    return left, top, left + width, top + height


def _grained(picture: Image.Image, random: np.random.Generator, deviation: float) -> Image.Image:
    pixels = np.asarray(picture, dtype=np.float32) * 0.96
    return Image.fromarray((pixels + random.normal(0, deviation, pixels.shape)).clip(0, 255).astype(np.uint8))


def _write(
    pen: ImageDraw.ImageDraw,
    random: np.random.Generator,
    box: tuple[int, int, int, int],
    ink: tuple[int, int, int],
    lines: int = 99,
) -> None:
    """Lines of made-up words in one size, inside a box."""
    size = int(random.integers(9, 26))
    font = ImageFont.load_default(size)
    for number in range(lines):
        top = box[1] + int(number * 1.4 * size)
        if top + size > box[3]:
            return
        letters = random.integers(97, 123, max(1, int((box[2] - box[0]) / (0.62 * size))))
        spaced = np.where(random.random(len(letters)) < 0.17, 32, letters)
        pen.text((box[0], top), "".join(map(chr, spaced)), ink, font)
