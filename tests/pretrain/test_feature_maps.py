"""Maps keep what is near near, come out the same each time, and are coloured as the paper's figure is."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mriqa.errors import UserError
from mriqa.pretrain.feature_maps import (
    blur_noise_colours,
    blur_noise_grid,
    plot_blur_noise,
    plot_labelled,
    tsne_map,
    umap_map,
)


@pytest.fixture(scope="module")
def clusters():
    """Three far clusters of 20 points in 60 dimensions."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(20 * place, 1, (20, 60)) for place in range(3)])


@pytest.mark.parametrize("make, options", [(tsne_map, {}), (umap_map, {"n_epochs": 100})])
def test_neighbours_stay_neighbours(make, options, clusters):
    places = make(clusters, **options)
    assert places.shape == (60, 2) and np.isfinite(places).all()
    labels = np.arange(60) // 20
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).mean() > 0.9
    assert np.array_equal(places, make(clusters, **options))


@pytest.mark.parametrize("make", [tsne_map, umap_map])
def test_few_points_and_none(make):
    assert make(np.random.default_rng(0).normal(size=(4, 8))).shape == (4, 2)
    for features in (np.ones((2, 8)), np.ones(8), np.full((9, 3), np.nan)):
        with pytest.raises(UserError, match="at least 3 pictures"):
            make(features)


def test_without_umap_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UserError, match=r"mriqa\[plots\]"):
        umap_map(np.ones((9, 3)))


def test_35_versions_and_their_colours():
    grid = blur_noise_grid()
    assert len(grid) == len(set(grid)) == 35 and (0, 0) not in grid
    found = blur_noise_colours([(5, 0), (0, 5), (5, 5), (1, 3)])
    # (b · red + n · yellow) / (b + n), opacity .05 + .8 (level b + level n) / 10
    wanted = [[1, 0, 0, 0.45], [1, 1, 0, 0.45], [1, 0.5, 0, 0.85], [1, 0.75, 0, 0.37]]
    assert found == pytest.approx(np.array(wanted))
    with pytest.raises(UserError):
        blur_noise_colours([(0, 0)])


def test_figures_are_written(tmp_path):
    places = np.random.default_rng(0).normal(size=(35, 2))
    plot_labelled({"a": (places, ["x", "y", "z", "x", "y"] * 7), "b": (places[:2], ["y", "y"])}, tmp_path / "l.png")
    plot_blur_noise({"a": (places, blur_noise_grid())}, tmp_path / "m.png")
    for name in ("l.png", "m.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
