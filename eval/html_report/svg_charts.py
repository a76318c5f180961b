"""Charts as SVG text, drawn by hand: small, sharp on paper, coloured by the page's style sheet, a title on every point.

Each chart is a `<figure>`; its `<svg>` has a name and a description for those who hear the page. Classes `c0`…`c6` are
the models' colours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from ..metrics import FloatArray

WIDTH, HEIGHT = 360, 300
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 40
MOST_POINTS = 1500
LONGEST_NAME = 30
COLOURS = 7


@dataclass(frozen=True)
class Axes:
    """A plot area and the ranges that it shows."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str
    y_label: str

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def frame(self) -> str:
        parts = []
        for value in _ticks(*self.x):
            x, y = self.at(value, self.y[0])
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{x:.1f}" y="{y + 14:.1f}" text-anchor="middle">{value:g}</text>')
        for value in _ticks(*self.y):
            x, y = self.at(self.x[0], value)
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
        parts.append(f'<text x="{middle_x}" y="{HEIGHT - 6}" text-anchor="middle">{escape(self.x_label)}</text>')
        parts.append(
            f'<text x="12" y="{middle_y}" text-anchor="middle" transform="rotate(-90 12 {middle_y})">'
            f"{escape(self.y_label)}</text>"
        )
        return "".join(parts)

    def line(self, x_N: FloatArray, y_N: FloatArray, style: str) -> str:
        points = " ".join("{:.1f},{:.1f}".format(*self.at(x, y)) for x, y in zip(x_N, y_N))
        return f'<polyline class="{style}" points="{points}"/>'

    def points(self, x_N: FloatArray, y_N: FloatArray, titles: Sequence[str], style: str) -> str:
        circles = []
        for x, y, title in zip(x_N, y_N, titles):
            across, up = self.at(x, y)
            place = f'cx="{across:.1f}" cy="{up:.1f}" r="2.6"'
            circles.append(f'<circle class="{style}" {place}><title>{escape(title)}</title></circle>')
        return "".join(circles)


def scatter(
    name: str,
    colour: int,
    pred_N: FloatArray,
    mos_N: FloatArray,
    titles: Sequence[str],
    curve: tuple[FloatArray, FloatArray] | None,
) -> str:
    """Predicted against human scores, with the fitted logistic where there is one."""
    axes = Axes(_padded(pred_N), _padded(mos_N, 1, 5), "predicted", "human")
    shown = _some(len(pred_N))
    body = axes.points(pred_N[shown], mos_N[shown], [titles[k] for k in shown], f"dot c{colour}")
    if curve is not None:
        body += axes.line(*curve, "fit")
    note = "" if len(shown) == len(pred_N) else f" {len(shown)} of {len(pred_N)} pictures are drawn."
    fit = " The line is the fitted four-parameter logistic." if curve is not None else " No logistic could be fitted."
    return _figure(axes, body, f"{name}: predicted against human scores", f"{fit}{note}".strip())


def residuals(name: str, colour: int, mapped_N: FloatArray, mos_N: FloatArray, titles: Sequence[str]) -> str:
    """Mapped prediction less human score by human score, with the mean in eight equal-count parts."""
    error_N = mapped_N - mos_N
    most = max(0.5, float(np.abs(error_N).max()) * 1.05)
    axes = Axes(_padded(mos_N, 1, 5), (-most, most), "human", "mapped prediction − human")
    shown = _some(len(mos_N))
    body = axes.points(mos_N[shown], error_N[shown], [titles[k] for k in shown], f"dot c{colour}")
    parts = np.array_split(np.argsort(mos_N, kind="stable"), min(8, max(1, len(mos_N) // 5)))
    centres = np.array([mos_N[part].mean() for part in parts])
    means = np.array([error_N[part].mean() for part in parts])
    body += axes.line(np.array(axes.x), np.zeros(2), "zero") + axes.line(centres, means, "fit")
    caption = "The line is the mean error of eight parts of equal size; above zero the model is too kind."
    return _figure(axes, body, f"{name}: residuals by quality", caption)


def calibration_curve(name: str, colour: int, calibration: Mapping[str, Sequence[float]]) -> str:
    """Coverage of the predicted intervals against their level."""
    axes = Axes((0.0, 1.0), (0.0, 1.0), "level of the interval", "share of human scores inside")
    levels, coverage = np.array(calibration["levels"]), np.array(calibration["coverage"])
    titles = [f"{level:.0%} interval: holds {share:.0%}" for level, share in zip(levels, coverage)]
    body = axes.line(np.array([0.0, 1.0]), np.array([0.0, 1.0]), "zero") + axes.line(
        levels, coverage, f"curve c{colour}"
    )
    body += axes.points(levels, coverage, titles, f"dot c{colour}")
    caption = "On the diagonal a model is as sure as it should be; below it, too sure."
    return _figure(axes, body, f"{name}: calibration", caption)


def interval_chart(measure: str, rows: Sequence[tuple[str, int, float, float | None, float | None]]) -> str:
    """Values with intervals, a line each: (name, colour, value, low, high)."""
    ends = [end for _, _, value, low, high in rows for end in (value, low, high) if end is not None]
    low, high = min(ends), max(ends)
    margin = max(0.02, 0.08 * (high - low))
    low, high = low - margin, high + margin
    names = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name, *_ in rows]
    left = 16 + 6.5 * max(map(len, names))  # 11 px letters are about 6 wide
    width, step = left + 280, 24
    height = TOP + step * len(rows) + 34

    def at(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - 20)

    parts = []
    for value in _ticks(low, high):
        parts.append(f'<line class="grid" x1="{at(value):.1f}" x2="{at(value):.1f}" y1="{TOP}" y2="{height - 32}"/>')
        parts.append(f'<text x="{at(value):.1f}" y="{height - 18}" text-anchor="middle">{value:g}</text>')
    for place, (name, colour, value, least, most) in enumerate(rows):
        y = TOP + step * (place + 0.5)
        parts.append(f'<text x="{left - 8:g}" y="{y + 4}" text-anchor="end">{escape(names[place])}</text>')
        title = f"{name}: {value:.3f}" + ("" if least is None or most is None else f" ({least:.3f} to {most:.3f})")
        if least is not None and most is not None:
            parts.append(f'<line class="bar c{colour}" x1="{at(least):.1f}" x2="{at(most):.1f}" y1="{y}" y2="{y}"/>')
        spot = f'cx="{at(value):.1f}" cy="{y}" r="5"'
        parts.append(f'<circle class="mark c{colour}" {spot}><title>{escape(title)}</title></circle>')
    parts.append(f'<text x="{(left + width) / 2:g}" y="{height - 3}" text-anchor="middle">{escape(measure)}</text>')
    label = escape(f"{measure} of each model with its interval; the same numbers stand in the table below.")
    return (
        f'<figure class="wide"><svg viewBox="0 0 {width:g} {height}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _figure(axes: Axes, body: str, title: str, caption: str) -> str:
    label = escape(f"{title}. {caption}")
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{axes.frame()}{body}</svg>'
        f"<figcaption><strong>{escape(title)}</strong> {escape(caption)}</figcaption></figure>"
    )


def _padded(values_N: FloatArray, low: float = math.inf, high: float = -math.inf) -> tuple[float, float]:
    """The range of the values, at least from `low` to `high`, with a little room."""
    low, high = min(low, float(values_N.min())), max(high, float(values_N.max()))
    room = 0.04 * (high - low) or 0.5
    return low - room, high + room


def _some(n: int) -> np.ndarray:
    """The pictures to draw: all, or a seeded part of them."""
    return np.arange(n) if n <= MOST_POINTS else np.sort(np.random.default_rng(0).choice(n, MOST_POINTS, replace=False))


def _ticks(low: float, high: float) -> list[float]:
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    first = math.ceil(low / step)
    return [round(place * step, 10) for place in range(first, math.floor(high / step) + 1)]
