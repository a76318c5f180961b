"""The page's own HTML and SVG, as text: cards of scored pictures, distributions, and the curve of a distortion.

Drawn here and not as pictures, so that text stays text at every width, and colours follow the page's light or dark.
Whatever comes from outside is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from mriqa.distortions import mean_mos
from mriqa.page.judge import DISTORTIONS, Distorted, Judged, picture_uri
from mriqa.scoring.map_drawing import colour_bar
from mriqa.scoring.reading import Distribution
from mriqa.scoring.scorer import Score

WORDS = {1: "bad", 2: "poor", 3: "fair", 4: "good", 5: "excellent"}  # the five grades of ITU-R BT.500
BINS = 41  # of 0.1 on 1..5
STRANGE = 0.5  # from there on it is said


def cards(ordered: Sequence[Judged], judged: Sequence[Judged]) -> str:
    """The scored pictures in this order with their rank by quality; before them what was refused, and why.

    Pictures that have a map are shown under it.
    """
    refused = [one.score for one in judged if math.isnan(one.score.score)]
    ranked = sorted((one.score.score for one in ordered), reverse=True)
    reasons = "".join(f"<li><strong>{escape(one.image)}</strong>: {escape(one.error or '')}</li>" for one in refused)
    rows = "".join(_card(one, 1 + ranked.index(one.score.score), len(ranked)) for one in ordered)
    count = f"{len(ordered)} of {len(judged)} scored" if refused else f"{len(ordered)} scored"
    return (
        f'<p class="mq-count" role="status">{count}, from 1 (bad) to 5 (excellent)</p>'
        + (f'<ul class="mq-refused" role="alert">{reasons}</ul>' if refused else "")
        + (map_legend() if any(one.map for one in ordered) else "")
        + f'<ol class="mq-cards">{rows}</ol>'
    )


def _card(one: Judged, rank: int, of: int) -> str:
    name, score = escape(one.score.image, quote=True), one.score
    place = f'<span class="mq-rank" aria-label="Rank {rank} of {of}">{rank}</span>' if of > 1 else ""
    return f"""<li class="mq-card">
  <div class="mq-thumbnail">{_thumbnail(one, name)}{place}</div>
  <div class="mq-numbers"><p class="mq-name">{name}</p>{_number(score)}</div>
  {distribution_plot(score)}
</li>"""


def _thumbnail(one: Judged, name: str) -> str:
    """The small picture; under its map it is shown whole, since what is cut off may be what is bad."""
    if not one.map:
        return f'<img src="{one.thumbnail}" alt="{name}">'
    return f'<img class="mq-mapped" src="{one.map}" alt="{name}, where it is bad and good">'


def map_legend() -> str:
    """What the colours of the maps mean."""
    return (
        f'<p class="mq-scale"><span>1 bad</span><img src="{picture_uri(colour_bar(160, 12))}" alt="from dark violet '
        'over green to yellow"><span>5 excellent</span></p>'
    )


def _number(score: Score) -> str:
    """The score in a figure and in a word, and how sure it is: an interval, or else the model's own spread."""
    spread = "" if math.isnan(score.std) else f' <span class="mq-spread">± {score.std:.2f}</span>'
    sure = ""
    if score.interval is not None:
        spread, (low, high) = "", score.interval
        sure = f'<p class="mq-sure">{low:.1f} to {high:.1f} <span>with 80 % probability</span></p>'
    if (score.strangeness or 0) > STRANGE:
        sure += '<p class="mq-sure">Unlike the pictures that the model was checked on.</p>'
    word = WORDS[min(5, max(1, round(score.score)))]
    return f'<p class="mq-score"><b>{score.score:.2f}</b>{spread}</p><p class="mq-word">{word}</p>{sure}'


def distribution_plot(score: Score) -> str:
    """How likely each score is, in bins of 0.1, and a line at the mean; the line alone where that isn't known."""
    width, height, left, top = 320, 84, 12, 8
    base, step = height - 20, (width - 2 * left) / (BINS - 1)

    def x(value: float) -> float:
        return left + (value - 1) / 0.1 * step

    interval, within = "", ""
    if score.interval is not None:
        low, high = score.interval
        interval = f'<path class="mq-interval" d="M{x(low):.1f} {base}H{x(high):.1f}"/>'
        within = f", {low:.1f} to {high:.1f} with 80 % probability"
    shares = np.zeros(BINS) if score.distribution is None else _binned(score.distribution)
    tallest = shares.max() or 1.0
    bars = "".join(
        f"M{x(1 + 0.1 * number) - 0.4 * step:.1f} {base}v{-(base - top) * share / tallest:.1f}h{0.8 * step:.1f}V{base}z"
        for number, share in enumerate(shares)
        if share / tallest > 0.004
    )
    ticks = "".join(f'<text x="{x(grade):.1f}" y="{height - 4}">{grade}</text>' for grade in WORDS)
    likely = "" if score.distribution is None else f", most likely about {1 + 0.1 * shares.argmax():.1f}"
    return f"""<svg class="mq-plot mq-distribution" viewBox="0 0 {width} {height}" role="img"
  aria-label="Distribution of the score from 1 to 5: mean {score.score:.2f}{likely}{within}">
  <path class="mq-bars" d="{bars}"/><path class="mq-axis" d="M{left} {base}H{width - left}"/>{interval}
  <path class="mq-mean" d="M{x(score.score):.1f} {top - 4}V{base + 4}"/>{ticks}</svg>"""


def _binned(distribution: Distribution) -> np.ndarray:
    return np.bincount(np.rint((distribution.scores_S - 1) * 10).astype(int), distribution.shares_S, BINS)


def picture(distorted: Distorted, distortion: str, severity: float, undistorted: float) -> str:
    """The distorted picture, its score and by how much that moved."""
    score = distorted.score
    if math.isnan(score.score):
        return f'<ul class="mq-refused" role="alert"><li>{escape(score.error or "")}</li></ul>'
    moved = score.score - undistorted
    change = "as undistorted" if abs(moved) < 0.005 else f"{moved:+.2f} against undistorted".replace("-", "−")
    width, height = distorted.size
    return f"""<figure class="mq-figure">
  <img src="{distorted.picture}" width="{width}" height="{height}" alt="{escape(distortion)}, severity {severity:.2f}">
  <figcaption role="status"><p class="mq-score"><b>{score.score:.2f}</b>
    <span class="mq-spread">{"" if math.isnan(moved) else change}</span></p></figcaption>
</figure>"""


def curve_plot(curve: Sequence[tuple[float, float]], severity: float, score: float, distortion: str) -> str:
    """The score over severity, a dot where the slider stands, and what people said of this distortion on average."""
    width, height, left, right, top, bottom = 360, 216, 24, 12, 12, 28

    def point(at: float, value: float) -> tuple[float, float]:
        return left + at * (width - left - right), top + (5 - value) / 4 * (height - top - bottom)

    def line(values: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in (point(*pair) for pair in values))

    # The slider's own score lies on the line.
    known = sorted((at, value) for at, value in {*curve, (severity, score)} if not math.isnan(value))
    people = [(level / 5, mean_mos(DISTORTIONS[distortion], level / 5)) for level in range(1, 6)]
    grades = "".join(
        f'<path class="mq-rule" d="M{left} {point(0, grade)[1]:.1f}H{width - right}"/>'
        f'<text x="{left - 12}" y="{point(0, grade)[1] + 4.5:.1f}">{grade}</text>'
        for grade in WORDS
    )
    ticks = "".join(f'<text x="{point(at, 1)[0]:.1f}" y="{height - bottom + 20}">{at:g}</text>' for at, _ in curve)
    dot = (
        ""
        if math.isnan(score)
        else '<circle class="mq-dot" cx="{:.1f}" cy="{:.1f}" r="7"/>'.format(*point(severity, score))
    )
    said = ", ".join(f"{value:.2f} at {at:g}" for at, value in known)
    return f"""<figure class="mq-figure"><svg class="mq-plot" viewBox="0 0 {width} {height}" role="img"
  aria-label="Score over severity of {escape(distortion)}: {said}">
  {grades}<path class="mq-here" d="M{point(severity, 5)[0]:.1f} {top}V{height - bottom}"/>
  <polyline class="mq-people" points="{line(people)}"/><polyline class="mq-line" points="{line(known)}"/>{dot}
  {ticks}</svg>
  <figcaption class="mq-legend"><span class="mq-key"></span>this picture’s score by severity<br>
  <span class="mq-key mq-key-people"></span>what people said of 81 others (KADID-10k’s mean)</figcaption></figure>"""
