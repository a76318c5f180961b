"""What a selection covers of the set it was selected from: scores, feature space, distortions; as PNG and JSON.

Legend: N rows of the whole set, M selected ones, D features, K bins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mriqa.files import write_json

from .plots import BLUE, FAINT, INK, VERMILION, PathLike, _dress, _figure, _save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 16
MOST_SHOWN = 5000  # points of the t-SNE; more are drawn from, the selected ones always among them
MOST_DISTORTIONS = 30


def coverage(
    scores: npt.ArrayLike, chosen: npt.ArrayLike, distortions: Sequence[str | None] | None = None,
    limits: tuple[float, float] = (1.0, 5.0),
) -> dict[str, Any]:  # fmt: skip
    """Numbers of the report: histograms of the scores, their mean and spread, and counts by distortion.

    Arguments:
        scores: of the whole set (N,).
        chosen: places of the selected rows (M,), none twice.
        distortions: name of each row's distortion (N,), None where it has none.
        limits: range of the histogram.

    Returns:
        {"rows", "selected", "score": {"edges" (K + 1,), "all" and "selected": {"counts" (K,), "mean", "std"},
        "largest_difference"}, "distortions": {name: {"all", "selected"}}}. The largest difference is that of the two
        cumulative distributions (Kolmogorov and Smirnov's statistic): 0 where the selection is spread as the whole set.

    Raises:
        ValueError: lengths differ, nothing is selected, or a place occurs twice or isn't there.
    """
    scores_N, chosen_M = _checked(scores, chosen, distortions)
    edges = np.linspace(*limits, BINS + 1)
    numbers: dict[str, Any] = {"rows": len(scores_N), "selected": len(chosen_M), "score": {"edges": edges.tolist()}}
    selected_M = scores_N[chosen_M]
    for name, part in (("all", scores_N), ("selected", selected_M)):
        counts = np.histogram(part, edges)[0].tolist()
        numbers["score"][name] = {"counts": counts, "mean": float(part.mean()), "std": float(part.std())}
    steps = np.unique(scores_N)
    shares = [np.searchsorted(np.sort(part), steps, side="right") / len(part) for part in (scores_N, selected_M)]
    numbers["score"]["largest_difference"] = float(np.abs(shares[0] - shares[1]).max())
    if distortions is not None:
        names = [name or "none" for name in distortions]
        everything, selected = Counter(names), Counter(names[place] for place in chosen_M)
        numbers["distortions"] = {
            name: {"all": count, "selected": selected[name]} for name, count in everything.most_common()
        }
    return numbers


def coverage_report(
    scores: npt.ArrayLike, chosen: npt.ArrayLike, path: PathLike, features: npt.ArrayLike | None = None,
    distortions: Sequence[str | None] | None = None, title: str = "", more: dict[str, Any] | None = None, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Draw the report to `path` (PNG) and write its numbers beside it (.json); returns them.

    Arguments:
        scores, chosen, distortions: as of `coverage`.
        path: picture to write; its folder is made.
        features: (N, D) for the t-SNE with the selection marked; without them there is none.
        title: above the panels.
        more: further entries of the JSON file.
        seed: of t-SNE, and of which 5,000 points it shows of a larger set.

    Raises:
        ValueError: what `coverage` refuses, or features of another length.
    """
    numbers = {**coverage(scores, chosen, distortions), **(more or {})}
    scores_N, chosen_M = _checked(scores, chosen, distortions)
    panels = [lambda axes: _histogram(axes, numbers)]
    if features is not None and len(scores_N) >= 4:
        features_ND = np.asarray(features, dtype=np.float32)
        if len(features_ND) != len(scores_N):
            raise ValueError(f"There are features of {len(features_ND)} rows for {len(scores_N)} scores.")
        panels.append(lambda axes: _tsne(axes, features_ND, chosen_M, seed))
    if distortions is not None:
        panels.append(lambda axes: _by_distortion(axes, numbers["distortions"]))
    figure = _figure(5.2 * len(panels), 4.4 + (0.4 if title else 0.0))
    for place, draw in enumerate(panels, start=1):
        draw(figure.add_subplot(1, len(panels), place))
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold", color=INK, x=0.02, ha="left")
    _save(figure, path)
    write_json(numbers, Path(path).with_suffix(".json"))
    return numbers


def _checked(
    scores: npt.ArrayLike, chosen: npt.ArrayLike, distortions: Sequence[str | None] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    scores_N, chosen_M = np.asarray(scores, dtype=np.float64), np.asarray(chosen, dtype=np.int64)
    if scores_N.ndim != 1 or not np.isfinite(scores_N).all():
        raise ValueError("Scores must be one finite number to each row.")
    if chosen_M.ndim != 1 or len(chosen_M) == 0:
        raise ValueError("Nothing is selected, so there is nothing to report.")
    if len(np.unique(chosen_M)) < len(chosen_M) or chosen_M.min() < 0 or chosen_M.max() >= len(scores_N):
        raise ValueError(f"The selection must be different places in 0..{len(scores_N) - 1}.")
    if distortions is not None and len(distortions) != len(scores_N):
        raise ValueError(f"There are {len(distortions)} distortions for {len(scores_N)} scores; give one to each.")
    return scores_N, chosen_M


def _histogram(axes: Axes, numbers: dict[str, Any]) -> None:
    edges = numbers["score"]["edges"]
    for name, colour, count in (("all", FAINT, numbers["rows"]), ("selected", BLUE, numbers["selected"])):
        shares = np.array(numbers["score"][name]["counts"]) / count
        fill = name == "all"
        axes.stairs(shares, edges, fill=fill, color=colour, alpha=0.45 if fill else 1.0, lw=0 if fill else 2,
                    label=f"{name} ({count:,})")  # fmt: skip
    axes.set(xlabel="human score (MOS)", ylabel="share of rows")
    _dress(axes, "Scores", grid="y")
    _legend(axes)


def _tsne(axes: Axes, features_ND: npt.NDArray[np.float32], chosen_M: npt.NDArray[np.int64], seed: int) -> None:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    others = np.setdiff1d(np.arange(len(features_ND)), chosen_M)
    rng = np.random.default_rng(seed)
    marked = chosen_M if len(chosen_M) <= MOST_SHOWN else rng.choice(chosen_M, MOST_SHOWN, replace=False)
    others = rng.permutation(others)[: MOST_SHOWN - len(marked)]
    rows = np.concatenate([others, marked])
    spread_D = np.ptp(features_ND[rows], axis=0)
    if not spread_D.any():  # t-SNE's start would be NaN
        axes.text(0.5, 0.5, "the features of all rows are the same", ha="center", color=INK, transform=axes.transAxes)
        _dress(axes, "Feature space")
        return
    x_ND = features_ND[rows] - features_ND[rows].mean(axis=0)
    x_ND /= np.where(spread_D > 0, x_ND.std(axis=0), 1.0)
    if min(x_ND.shape) > 50:  # as t-SNE's authors do: fewer dimensions first, for speed and less noise
        x_ND = PCA(50, random_state=seed).fit_transform(x_ND)
    start = "pca" if x_ND.shape[1] > 1 else "random"
    points_N2 = TSNE(perplexity=min(30.0, len(rows) / 4), init=start, random_state=seed).fit_transform(x_ND)
    crowded = len(rows) > 1000
    first, size = len(others), 6 if crowded else 14
    axes.scatter(points_N2[:first, 0], points_N2[:first, 1], s=size, color=FAINT, alpha=0.5, lw=0, label="not selected")
    axes.scatter(points_N2[first:, 0], points_N2[first:, 1], s=1.6 * size, color=VERMILION, lw=0, label="selected")
    axes.set(xticks=[], yticks=[])
    _dress(axes, "Feature space (t-SNE)")
    _legend(axes)


def _by_distortion(axes: Axes, counts: dict[str, dict[str, int]]) -> None:
    shown = list(counts.items())[:MOST_DISTORTIONS]
    names = [name for name, _ in shown]
    places = np.arange(len(shown))
    axes.barh(places, [count["all"] for _, count in shown], color=FAINT, alpha=0.45, height=0.8, label="all")
    axes.barh(places, [count["selected"] for _, count in shown], color=BLUE, height=0.45, label="selected")
    for place, (_, count) in enumerate(shown):
        axes.annotate(f"{count['selected'] / count['all']:.0%}", (count["all"], place), (4, 0),
                      textcoords="offset points", va="center", fontsize=8, color=INK)  # fmt: skip
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("rows")
    left_out = len(counts) - len(shown)
    _dress(axes, "Distortions" + (f" (the {len(shown)} most common of {len(counts)})" if left_out else ""), grid="x")
    axes.tick_params(axis="y", length=0)
    _legend(axes)


def _legend(axes: Axes) -> None:
    """Below the panel, where it hides no data."""
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.14), ncols=2, frameon=False, fontsize=9, labelcolor=INK,
                handletextpad=0.5)  # fmt: skip
