"""Features on a plane: t-SNE and UMAP with the settings of SHAMISA's figures 3, 4, 7 and 8 (arXiv 2603.13669).

Legend: N pictures, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mriqa.files import replacing
from mriqa.pretrain.graphs.layout import PretrainError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]

SEED = 123
COMPONENTS = 50
LEAST = 3  # pictures
TSNE = {
    "n_components": 2, "perplexity": 30.0, "learning_rate": 200.0, "max_iter": 2000, "init": "pca",
    "metric": "euclidean", "early_exaggeration": 12.0, "random_state": SEED,
}  # fmt: skip
UMAP = {"n_neighbors": 50, "min_dist": 0.99, "metric": "euclidean", "init": "spectral", "random_state": SEED}
LEVELS = 5
BLUR_SIGMAS = (0.1, 0.5, 1.0, 2.0, 5.0)
NOISE_VARIANCES = (0.001, 0.002, 0.003, 0.005, 0.01)


def tsne_map(features: npt.ArrayLike, **options: Any) -> FloatArray:
    """Places (N, 2) of features (N, F) by t-SNE behind a PCA to 50 dimensions.

    `options` replace those of `TSNE`; the perplexity is lowered where there are too few pictures for it.
    Raises PretrainError for fewer than three pictures.
    """
    from sklearn.manifold import TSNE as SklearnTSNE

    reduced_NF = _reduced(features)
    settings = {**TSNE, **options}
    settings["perplexity"] = min(settings["perplexity"], (len(reduced_NF) - 1) / 3)
    return SklearnTSNE(**settings).fit_transform(reduced_NF).astype(np.float64)


def umap_map(features: npt.ArrayLike, **options: Any) -> FloatArray:
    """Places (N, 2) of features (N, F) by UMAP behind a PCA to 50 dimensions; needs the extra mriqa[plots].

    `options` replace those of `UMAP`; the neighbours are fewer where there are too few pictures.
    Raises PretrainError for fewer than three pictures, or where umap-learn is not installed.
    """
    try:
        from umap import UMAP as Umap
    except ImportError as error:
        raise PretrainError('UMAP needs umap-learn: pip install "mriqa[plots]".') from error

    reduced_NF = _reduced(features)
    settings = {**UMAP, **options}
    settings["n_neighbors"] = max(2, min(settings["n_neighbors"], len(reduced_NF) - 1))
    if len(reduced_NF) <= 4:  # the spectral start needs more points than it has directions
        settings["init"] = "random"
    return np.asarray(Umap(n_components=2, n_jobs=1, **settings).fit_transform(reduced_NF), dtype=np.float64)


def _reduced(features: npt.ArrayLike) -> FloatArray:
    from sklearn.decomposition import PCA

    features_NF = np.asarray(features, dtype=np.float64)
    if features_NF.ndim != 2 or len(features_NF) < LEAST or not np.isfinite(features_NF).all():
        raise PretrainError(
            f"A map needs finite features (N, F) of at least {LEAST} pictures, not an array of shape "
            f"{features_NF.shape}."
        )
    components = min(COMPONENTS, *features_NF.shape)
    return PCA(components, svd_solver="auto", random_state=SEED).fit_transform(features_NF)


def blur_noise_grid() -> list[tuple[int, int]]:
    """The 35 pairs of levels (blur, noise) of figure 4, 0 being none: blur alone, noise alone, both."""
    one_to_five = range(1, LEVELS + 1)
    return [
        *((blur, 0) for blur in one_to_five),
        *((0, noise) for noise in one_to_five),
        *((blur, noise) for blur in one_to_five for noise in one_to_five),
    ]


def blur_noise_colours(levels: Sequence[tuple[int, int]]) -> FloatArray:
    """RGBA (N, 4) of pairs of levels: red for blur, yellow for noise, by their shares; opaque where both are strong."""
    strengths_N2 = np.array(levels, dtype=np.float64) / LEVELS
    totals_N1 = strengths_N2.sum(axis=1, keepdims=True)
    if (totals_N1 <= 0).any():
        raise PretrainError("A picture without blur and noise has no colour in the map.")
    red_yellow = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    return np.hstack([strengths_N2 @ red_yellow / totals_N1, 0.05 + 0.8 * totals_N1 / 2])


def plot_labelled(panels: Mapping[str, tuple[FloatArray, Sequence[str]]], path: str | Path) -> None:
    """Scatter plots of places (N, 2) with a label each, side by side; a label has the same colour in all of them."""
    labels = sorted({label for _, own in panels.values() for label in own})
    colour_of = {label: _palette(len(labels))[place] for place, label in enumerate(labels)}

    def draw(axes: Axes, places_N2: FloatArray, own: Sequence[str]) -> None:
        for label in sorted(set(own)):
            chosen_N = np.array([each == label for each in own])
            x_n, y_n = places_N2[chosen_N].T
            axes.scatter(x_n, y_n, s=4, color=colour_of[label], label=label, linewidths=0)
        axes.legend(fontsize=7, markerscale=3)

    _plot({title: lambda axes, own=own: draw(axes, *own) for title, own in panels.items()}, path)


def plot_blur_noise(panels: Mapping[str, tuple[FloatArray, Sequence[tuple[int, int]]]], path: str | Path) -> None:
    """Scatter plots of places (N, 2) coloured by levels of blur and noise, side by side."""

    def draw(axes: Axes, places_N2: FloatArray, levels: Sequence[tuple[int, int]]) -> None:
        axes.scatter(places_N2[:, 0], places_N2[:, 1], s=4, c=blur_noise_colours(levels), linewidths=0)

    _plot({title: lambda axes, own=own: draw(axes, *own) for title, own in panels.items()}, path)


def _palette(count: int) -> list[Any]:
    import matplotlib

    colours = matplotlib.colormaps["tab10" if count <= 10 else "tab20"].colors  # type: ignore[attr-defined]  # lists
    return [colours[place % len(colours)] for place in range(count)]


def _plot(panels: Mapping[str, Any], path: str | Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        1, len(panels), figsize=(6 * len(panels), 6), squeeze=False, constrained_layout=True
    )  # fmt: skip
    for axes, (title, draw) in zip(grid[0], panels.items(), strict=True):
        draw(axes)
        axes.set(title=title, xticks=[], yticks=[])
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    pyplot.close(figure)
