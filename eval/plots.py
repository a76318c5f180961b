"""Plots of an evaluation and of a training run, written as PNG (or whatever the file's ending says).

They draw on figures of their own (Agg), touch no global matplotlib state, and replace the file only once it is
complete. Colours are those of Okabe and Ito, told apart under every common colour blindness (the yellow darkened for
white paper).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mriqa.files import replacing

from . import metrics
from .metrics import FloatArray
from .report import mean_and_std

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PathLike = str | os.PathLike[str]

BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, YELLOW = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#BFA900",
)  # fmt: skip
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, YELLOW)
MARKERS = "osD^vPX"
INK, FAINT = "#222222", "#8A8A8A"
NARROWEST = 0.05  # of an axis of correlations: what a thousandth more is should look like a thousandth

PANELS: dict[str, tuple[str, ...]] = {
    "Validation": ("*srcc", "*plcc"),
    "Reward": ("reward", "rewards/*/mean"),
    "Answers": ("*parse_rate", "*unique_ratio", "*zero_advantage_share"),
    "Spread of scores": ("*predicted_std", "*human_std"),
    "KL": ("kl",),
    "Loss": ("loss", "eval_loss"),
    "Auxiliary loss": ("aux/loss",),
}
"""Default panels of a training curve: heading -> shell patterns of the logged names it shows."""


def scatter(
    pred: npt.ArrayLike,
    mos: npt.ArrayLike,
    path: PathLike,
    title: str = "",
    hue: Sequence[Any] | None = None,
    limits: tuple[float, float] = (1.0, 5.0),
) -> None:
    """Predicted against human scores, with the identity, the fitted logistic, SRCC and PLCC.

    Arguments:
        pred: predicted scores (n,); NaN (nothing parsed) is left out, and counted in the corner.
        mos: human scores (n,).
        path: file to write; its directory is made.
        title: above the axes.
        hue: name of each point's group (n), one colour and marker each; the seven most common, the rest as "other".
        limits: range of both scales.

    Raises:
        ValueError: lengths differ, or fewer than two predictions parsed.
    """
    pred_N, mos_N = metrics.as_vectors(pred, mos)
    if hue is not None and len(hue) != len(pred_N):
        raise ValueError(f"There are {len(hue)} group names for {len(pred_N)} predictions; give one each.")
    parsed_N = ~np.isnan(pred_N)
    hue_N = None if hue is None else np.array([str(h) for h in hue])[parsed_N]
    n_lost = int((~parsed_N).sum())
    pred_N, mos_N = metrics.checked(pred_N[parsed_N], mos_N[parsed_N])

    from matplotlib.collections import PathCollection
    from matplotlib.ticker import MultipleLocator

    figure = _figure(5.6, 5.6)
    axes = figure.add_subplot()
    low, high = min(limits[0], pred_N.min(), mos_N.min()), max(limits[1], pred_N.max(), mos_N.max())
    pad = 0.03 * (high - low)
    axes.plot([low - pad, high + pad], [low - pad, high + pad], color=FAINT, lw=1, ls=(0, (4, 3)), zorder=1)

    crowded = len(pred_N) > 1000
    for colour, marker, name, own in _hue_groups(hue_N, len(pred_N)):
        axes.scatter(pred_N[own], mos_N[own], s=9 if crowded else 26, c=colour, marker=marker, label=name,
                     alpha=0.4 if crowded else 0.75, ec="none" if crowded else "white", lw=0.4)  # fmt: skip
    beta = metrics.fit_logistic(pred_N, mos_N) if len(pred_N) >= metrics.LOGISTIC_PARAMETERS else None
    if beta is not None:
        x = np.linspace(pred_N.min(), pred_N.max(), 200)
        axes.plot(x, metrics.logistic(x, *beta), color=INK, lw=1.8, label="logistic fit", zorder=3)

    figures = f"SRCC  {metrics.srcc(pred_N, mos_N):.3f}\nPLCC  {metrics.plcc(pred_N, mos_N):.3f}\nn = {len(pred_N):,}"
    figures += f"\n({n_lost:,} without a score)" if n_lost else ""
    axes.text(0.03, 0.97, figures, transform=axes.transAxes, va="top", color=INK, fontsize=10.5, linespacing=1.45)
    axes.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad), aspect="equal")
    axes.set(xlabel="predicted score", ylabel="human score (MOS)")
    if high - low <= 10:
        axes.xaxis.set_major_locator(MultipleLocator(1))
        axes.yaxis.set_major_locator(MultipleLocator(1))
    _dress(axes, title)
    if hue_N is not None or beta is not None:
        legend = axes.legend(loc="lower right", frameon=False, fontsize=9, handletextpad=0.5, labelcolor=INK)
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1.0)
            if isinstance(handle, PathCollection):
                handle.set_sizes([34])
    _save(figure, path)


def training_curve(
    log_history: Sequence[Mapping[str, Any]] | Mapping[str, Any],
    path: PathLike,
    title: str = "",
    panels: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Logged numbers against the training step, one panel for each kind.

    A busy series (over 30 points) is drawn faintly, with its running mean on top.

    Arguments:
        log_history: a trainer's `state.log_history` (dicts that hold "step"), or series by name, each a list of values
            or a pair (steps, values).
        path: file to write; its directory is made.
        title: above the panels.
        panels: heading -> shell patterns of the logged names it shows; `PANELS` by default. Empty ones are left out.

    Raises:
        ValueError: no panel has anything to show.
    """
    series = _as_series(log_history)
    shown = {
        heading: {name: xy for name, xy in series.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}
        for heading, patterns in (panels or PANELS).items()
    }
    shown = {heading: members for heading, members in shown.items() if members}
    if not shown:
        raise ValueError(f"Nothing to plot for panels {list(panels or PANELS)}; logged: {sorted(series) or 'nothing'}.")

    from matplotlib.ticker import MaxNLocator

    columns = min(len(shown), 3) if len(shown) != 4 else 2
    rows = math.ceil(len(shown) / columns)
    figure = _figure(4.3 * columns, 3.2 * rows + (0.4 if title else 0.0))
    first: Axes | None = None
    for place, (heading, members) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(rows, columns, place, sharex=first)
        first = first or axes
        for colour, (name, (steps, values)) in zip(cycle(COLOURS), members.items(), strict=False):
            busy = len(values) > 30
            axes.plot(steps, values, color=colour, lw=0.8 if busy else 1.8, alpha=0.25 if busy else 1.0,
                      marker="" if busy else "o", ms=4, label=None if busy else _short(name))  # fmt: skip
            if busy:
                axes.plot(*_running_mean(steps, values), color=colour, lw=1.8, label=_short(name))
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
        _dress(axes, heading)
        if len(members) > 1 or _short(next(iter(members))).lower() != heading.lower():
            axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.2), ncols=3, frameon=False, fontsize=8.5,
                        handlelength=1.4, columnspacing=1.2, labelcolor=INK)  # fmt: skip
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold", color=INK, x=0.02, ha="left")
    _save(figure, path)


def reward_comparison(
    results: Mapping[str, Mapping[str, Sequence[float]]],
    path: PathLike,
    title: str = "",
    baseline: Mapping[str, float] | None = None,
) -> None:
    """SRCC and PLCC of each reward: every seed as a dot, mean ± one standard deviation (ddof 1) beside them.

    Arguments:
        results: reward name -> {"srcc": one value per seed, "plcc": likewise}, drawn from top to bottom.
        path: file to write; its directory is made.
        title: above the panels.
        baseline: {"srcc": …, "plcc": …} that all runs started from, drawn as a dashed line.

    Raises:
        ValueError: no results, or a reward without a measure.
    """
    for name, measures in results.items():
        if not all(len(measures.get(key, ())) for key in ("srcc", "plcc")):
            raise ValueError(f"Reward {name!r} needs at least one value each of 'srcc' and 'plcc'.")
    if not results:
        raise ValueError("There are no results to compare.")

    from matplotlib.ticker import MaxNLocator

    figure = _figure(9.0, 1.4 + 0.5 * len(results) + (0.3 if title else 0.0))
    first: Axes | None = None
    for column, key in enumerate(("srcc", "plcc"), start=1):
        axes = figure.add_subplot(1, 2, column, sharey=first)
        first = first or axes
        for row, (colour, measures) in enumerate(zip(cycle(COLOURS), results.values(), strict=False)):
            mean, spread = mean_and_std(measures[key])
            axes.scatter(measures[key], [row + 0.16] * len(measures[key]), s=20, color=colour, alpha=0.5, lw=0)
            axes.errorbar(mean, row - 0.1, xerr=None if math.isnan(spread) else spread, fmt="o", ms=7, color=colour,
                          capsize=4, lw=2, capthick=2)  # fmt: skip
            axes.annotate(f"{mean:.3f}", (mean, row - 0.1), (0, 7), textcoords="offset points", ha="center", fontsize=9,
                          color=INK)  # fmt: skip
        if baseline is not None:
            axes.axvline(baseline[key], color=FAINT, lw=1.2, ls=(0, (4, 3)), zorder=0, label="warm start")
        axes.set_ylim(len(results) - 0.5, -0.65)
        axes.set_yticks(range(len(results)), list(results))
        axes.margins(x=0.12)
        low, high = axes.get_xlim()
        if (lacking := NARROWEST - (high - low)) > 0:
            axes.set_xlim(low - lacking / 2, high + lacking / 2)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        _dress(axes, key.upper(), grid="x")
        axes.tick_params(axis="y", labelsize=10.5, labelleft=column == 1, length=0)
    if baseline is not None:
        figure.axes[1].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9, labelcolor=FAINT)
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold", color=INK, x=0.02, ha="left")
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)  # inches
    figure = Figure(figsize=(width, height), dpi=150, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: PathLike) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary)


def _dress(axes: Axes, title: str, grid: str = "both") -> None:
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=8)
    axes.grid(axis=grid, color="#E6E6E6", lw=0.8)  # type: ignore[arg-type]  # a literal in its stubs
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#BBBBBB")
    axes.tick_params(color="#BBBBBB", labelcolor=INK, labelsize=9)
    axes.xaxis.label.set(color=INK, fontsize=10)
    axes.yaxis.label.set(color=INK, fontsize=10)


def _hue_groups(hue_N: npt.NDArray[Any] | None, n: int) -> list[tuple[str, str, str | None, npt.NDArray[np.bool_]]]:
    """(colour, marker, name, mask) of each group; past seven, the smallest share one faint colour."""
    if hue_N is None:
        return [(BLUE, "o", None, np.ones(n, dtype=bool))]
    names, counts = np.unique(hue_N, return_counts=True)
    names = names[np.argsort(-counts, kind="stable")]
    kept = names if len(names) <= len(COLOURS) else names[: len(COLOURS) - 1]
    groups: list[tuple[str, str, str | None, npt.NDArray[np.bool_]]] = [
        (colour, marker, str(name), hue_N == name) for colour, marker, name in zip(COLOURS, MARKERS, kept, strict=False)
    ]
    if len(kept) < len(names):
        groups.append((FAINT, ".", "other", ~np.isin(hue_N, kept)))
    return groups


def _as_series(
    log_history: Sequence[Mapping[str, Any]] | Mapping[str, Any],
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Logged numbers as name -> (steps, values), finite values only."""
    points: dict[str, list[tuple[float, float]]] = {}
    if isinstance(log_history, Mapping):
        for name, values in log_history.items():
            paired = len(values) == 2 and np.ndim(values[0]) == 1
            steps, ys = values if paired else (range(1, len(values) + 1), values)
            points[name] = list(zip(steps, ys, strict=True))
    else:
        for index, entry in enumerate(log_history):
            for name, value in entry.items():
                if name not in ("step", "epoch") and isinstance(value, (int, float)):
                    points.setdefault(name, []).append((entry.get("step", index), value))
    arrays = {name: np.array(xy, dtype=np.float64).reshape(-1, 2) for name, xy in points.items()}
    finite = {name: xy[np.isfinite(xy[:, 1])] for name, xy in arrays.items()}
    return {name: (xy[:, 0], xy[:, 1]) for name, xy in finite.items() if len(xy)}


def _short(name: str) -> str:
    """A logged name as a legend has it: "rewards/margin_unit/mean" -> "margin unit", "eval_srcc" -> "SRCC"."""
    words = name.removeprefix("rewards/").removesuffix("/mean").split("/")[-1].replace("_", " ")
    measure = words.removeprefix("eval ")
    if measure in ("srcc", "plcc", "krcc", "kl"):
        return measure.upper()
    return f"validation {measure}" if words.startswith("eval ") else words


def _running_mean(steps: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Means over a centred window of a tenth of the series, where it fits, with their steps."""
    half = max(1, len(values) // 20)
    return steps[half:-half], np.convolve(values, np.full(2 * half + 1, 1 / (2 * half + 1)), mode="valid")
