"""Plots of what an ordinal head has learnt: similarities in the order of ranks, t-SNE, heat maps, and its training.

After Figures 4, 13, 14 and 15 of "Contrastive order learning for ordinal regression" (ConOrd). As in `plots`,
figures are their own, and a file is replaced only once it is complete.

Legend: N items, D embedding width, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .metrics import FloatArray
from .plots import INK, PathLike, _dress, _figure, _running_mean, _save

HeatMap = tuple[npt.ArrayLike, npt.ArrayLike, str]
"""A picture (H, W, 3) of 0..255, its heat map (H, W) in 0..1, and what is written over it."""

Embedded = Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]
"""Name of a head -> embeddings (N, D) and scalar ranks (N,)."""


def sorted_similarity(embeddings: npt.ArrayLike, ranks: npt.ArrayLike) -> FloatArray:
    """-‖z_i - z_j‖₂ (N, N) of embeddings (N, D), rows and columns from the lowest rank to the highest.

    Raises:
        ValueError: lengths differ, fewer than two items, or a value is not finite.
    """
    z_ND, ranks_N = _checked(embeddings, ranks)
    z_ND = z_ND[np.argsort(ranks_N, kind="stable")]
    norms_N = np.square(z_ND).sum(axis=1)
    return -np.sqrt(np.maximum(norms_N[:, None] + norms_N[None, :] - 2 * z_ND @ z_ND.T, 0.0))


def similarity_matrices(heads: Embedded, path: PathLike, title: str = "") -> None:
    """`sorted_similarity` of each head as a picture: a bright band along the diagonal means that it orders by rank.

    Each picture has its own colour scale, from its smallest to its largest similarity.

    Raises:
        ValueError: no heads, or what `sorted_similarity` refuses.
    """
    figure, panels = _panels(heads, title)
    for axes, (name, (embeddings, ranks)) in zip(panels, heads.items()):
        image = axes.imshow(sorted_similarity(embeddings, ranks), cmap="viridis", interpolation="nearest")
        figure.colorbar(image, ax=axes, shrink=0.75)
        _dress(axes, name)
        axes.grid(False)
        axes.set(xlabel="items by rank", ylabel="items by rank")
    _save(figure, path)


def tsne(heads: Embedded, path: PathLike, title: str = "", perplexity: float = 30.0, seed: int = 0) -> None:
    """Embeddings of each head in two dimensions by t-SNE, coloured by rank. It keeps neighbours, not distances.

    Arguments:
        heads: name -> embeddings (N, D) and ranks (N,).
        path: file to write; its directory is made.
        title: above the panels.
        perplexity: of t-SNE, lowered to a third of N where that is less.
        seed: of t-SNE.

    Raises:
        ValueError: no heads, lengths differ, fewer than four items, or a value is not finite.
    """
    from sklearn.manifold import TSNE

    figure, panels = _panels(heads, title)
    for axes, (name, (embeddings, ranks)) in zip(panels, heads.items()):
        z_ND, ranks_N = _checked(embeddings, ranks, at_least=4)
        method = TSNE(perplexity=min(perplexity, len(z_ND) / 3), init="pca" if z_ND.shape[1] > 1 else "random",
                      random_state=seed)  # fmt: skip
        points_N2 = method.fit_transform(z_ND.astype(np.float32))
        drawn = axes.scatter(*points_N2.T, c=ranks_N, cmap="viridis", s=14, lw=0)
        figure.colorbar(drawn, ax=axes, shrink=0.75, label="rank")
        _dress(axes, name)
        axes.set(xticks=[], yticks=[])
    _save(figure, path)


def heat_map_grid(rows: Sequence[Sequence[HeatMap]], path: PathLike, title: str = "") -> None:
    """A row of pictures under their heat maps for each example: the picture itself, then its neighbours.

    Raises:
        ValueError: no rows, or rows of different lengths.
    """
    if not rows or len({len(row) for row in rows}) > 1:
        raise ValueError("Give at least one row of heat maps, and rows of one length.")
    columns = len(rows[0])
    figure = _figure(2.3 * columns, 2.5 * len(rows) + (0.4 if title else 0.0))
    _headline(figure, title)
    for place, (picture, heat, text) in enumerate([cell for row in rows for cell in row], start=1):
        axes = figure.add_subplot(len(rows), columns, place)
        axes.imshow(np.asarray(picture, dtype=np.uint8))
        axes.imshow(np.asarray(heat), cmap="jet", alpha=0.45, vmin=0, vmax=1)
        axes.set_title(text, fontsize=8)
        axes.axis("off")
    _save(figure, path)


def weighting_curves(runs: Mapping[str, Mapping[str, Sequence[float]]], path: PathLike, title: str = "") -> None:
    """Loss and gradient norm against the step, a curve for each weighting; over 30 steps, its running mean.

    Arguments:
        runs: name of a weighting -> {"loss": one value a step, "gradient_norm": likewise}.
        path: file to write; its directory is made.
        title: above the panels.

    Raises:
        ValueError: no runs, or one without both series.
    """
    if not runs:
        raise ValueError("There are no runs to draw.")
    for name, series in runs.items():
        if not (len(series.get("loss", ())) and len(series.get("gradient_norm", ()))):
            raise ValueError(f"Run {name!r} needs at least one value each of 'loss' and 'gradient_norm'.")

    from matplotlib import colormaps

    figure = _figure(10.0, 4.2 + (0.4 if title else 0.0))
    for place, (key, heading) in enumerate((("loss", "Loss"), ("gradient_norm", "Gradient norm")), start=1):
        axes = figure.add_subplot(1, 2, place)
        for index, (name, series) in enumerate(runs.items()):
            colour = colormaps["viridis"](index / max(1, len(runs) - 1))
            style = ("-", "--", ":")[index % 3]  # neighbours in colour differ in style
            values = np.asarray(series[key], dtype=np.float64)
            steps = np.arange(1, len(values) + 1, dtype=np.float64)
            if len(values) > 30:  # batches differ more than weightings do
                steps, values = _running_mean(steps, values)
            axes.plot(steps, values, color=colour, ls=style, lw=1.5, label=name)
        axes.set_xlabel("step")
        if key == "gradient_norm":
            axes.set_yscale("log")
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9, labelcolor=INK)
        _dress(axes, heading)
    _headline(figure, title)
    _save(figure, path)


def _panels(heads: Embedded, title: str):
    if not heads:
        raise ValueError("There are no embeddings to draw.")
    columns = min(len(heads), 3)
    rows = math.ceil(len(heads) / columns)
    figure = _figure(4.4 * columns, 3.9 * rows + (0.4 if title else 0.0))
    _headline(figure, title)
    return figure, [figure.add_subplot(rows, columns, place) for place in range(1, len(heads) + 1)]


def _headline(figure, title: str) -> None:
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold", color=INK, x=0.02, ha="left")


def _checked(embeddings: npt.ArrayLike, ranks: npt.ArrayLike, at_least: int = 2) -> tuple[FloatArray, FloatArray]:
    z_ND, ranks_N = np.asarray(embeddings, dtype=np.float64), np.asarray(ranks, dtype=np.float64)
    if z_ND.ndim != 2 or ranks_N.shape != (len(z_ND),) or len(z_ND) < at_least:
        raise ValueError(
            f"Give embeddings (N, D) and one rank to each, N at least {at_least}; their shapes are {z_ND.shape} and "
            f"{ranks_N.shape}."
        )
    if not (np.isfinite(z_ND).all() and np.isfinite(ranks_N).all()):
        raise ValueError("Some embeddings or ranks are NaN or infinite; leave those items out.")
    return z_ND, ranks_N
