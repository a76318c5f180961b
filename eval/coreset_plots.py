"""Plots of coresets: how a measure grows with the budget, and how the scores of a coreset spread beside the whole.

After Fig. 1 of the supplement of Q-Diverse and, as curves, its Table 2. As in `plots`, a file is replaced only once it
is complete.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .plots import BLUE, COLOURS, FAINT, INK, MARKERS, PathLike, _dress, _figure, _save
from .report import mean_and_std


def fraction_curves(
    values: Mapping[str, Mapping[float, Sequence[float]]],
    whole: Sequence[float],
    path: PathLike,
    measure: str,
    title: str = "",
) -> None:
    """A measure against the share of the training set, mean ± one standard deviation (ddof 1) for each selector.

    Arguments:
        values: selector -> share, above 0 -> one value for each seed.
        whole: what the whole training set gives, likewise; a dashed line.
        path: file to write; its directory is made.
        measure: name of the measure.
        title: above the axes.

    Raises:
        ValueError: nothing to draw.
    """
    if not values or not all(values.values()) or not whole:
        raise ValueError("There are no curves to draw; give every selector a value at some share, and the whole's.")
    figure = _figure(6.8, 4.6)
    axes = figure.add_subplot()
    for place, (name, by_share) in enumerate(values.items()):
        shares = sorted(by_share)
        means, spreads = zip(*(mean_and_std(by_share[share]) for share in shares))
        axes.errorbar(
            [100 * share for share in shares],
            means,
            yerr=[0.0 if math.isnan(spread) else spread for spread in spreads],
            color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)],
            ms=5,
            lw=1.6,
            capsize=2,
            label=name,
        )
    axes.axhline(float(np.mean(whole)), color=FAINT, lw=1.2, ls=(0, (4, 3)), zorder=0, label="all images")
    ticks = sorted({share for by_share in values.values() for share in by_share})
    axes.set_xticks([100 * share for share in ticks], [f"{100 * share:g}" for share in ticks])
    axes.set(xlabel="images selected, %", ylabel=measure.upper() if len(measure) == 4 else measure)
    axes.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK)
    _dress(axes, title)
    _save(figure, path)


def coverage_panels(spreads: Mapping[str, Mapping[str, Any]], path: PathLike, title: str = "") -> None:
    """Histograms of the scores of each coreset over that of the whole set, a panel for each selector.

    Arguments:
        spreads: selector -> the "score" of `mriqa.eval.coverage.coverage`.
        path: file to write; its directory is made.
        title: above the panels.

    Raises:
        ValueError: nothing to draw.
    """
    if not spreads:
        raise ValueError("There are no coresets to draw.")
    columns = min(3, len(spreads))
    rows = -(-len(spreads) // columns)
    figure = _figure(3.6 * columns, 2.8 * rows + (0.4 if title else 0.0))
    for place, (name, spread) in enumerate(spreads.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        for part, colour in (("all", FAINT), ("selected", BLUE)):
            counts = np.array(spread[part]["counts"], dtype=float)
            shares = counts / max(counts.sum(), 1.0)
            fill = part == "all"
            axes.stairs(shares, spread["edges"], fill=fill, color=colour, alpha=0.45 if fill else 1.0,
                        lw=0 if fill else 2, label="all" if fill else "coreset")  # fmt: skip
        axes.set(xlabel="human score (MOS)", ylabel="share of images")
        _dress(axes, f"{name} ({spread['largest_difference']:.2f})", grid="y")
        if place == 1:
            axes.legend(loc="upper left", frameon=False, fontsize=8.5, labelcolor=INK)
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold", color=INK, x=0.02, ha="left")
    _save(figure, path)
