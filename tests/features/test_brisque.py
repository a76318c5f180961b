"""BRISQUE's fits find the shapes of known distributions, and its coefficients are those of a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.stats import gennorm

from mriqa.features import extract, load_encoder
from mriqa.features.brisque import brisque_features, contrast_normalised, fit_asymmetric, fit_symmetric


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0, 4.0])
def test_known_shapes_are_found(shape):
    values = gennorm.rvs(shape, scale=2.0, size=200_000, random_state=0)
    found, variance = fit_symmetric(values)
    assert found == pytest.approx(shape, rel=0.03)
    assert variance == pytest.approx(gennorm.var(shape, scale=2.0), rel=0.03)


@pytest.mark.parametrize("shape, left, right", [(0.9, 1.0, 1.0), (2.0, 0.5, 1.5), (1.4, 2.0, 0.7)])
def test_asymmetric_shapes_are_found(shape, left, right):
    """Each side a half generalised Gaussian of its own scale, with mass in proportion to it."""
    rng = np.random.default_rng(0)
    sizes = np.abs(gennorm.rvs(shape, size=400_000, random_state=1))
    negative = rng.random(400_000) < left / (left + right)
    values = np.where(negative, -left * sizes, right * sizes)
    found, mean, left_variance, right_variance = fit_asymmetric(values)
    assert found == pytest.approx(shape, rel=0.05)
    assert mean == pytest.approx(values.mean(), abs=0.02)
    assert left_variance == pytest.approx(left**2 * gennorm.var(shape), rel=0.03)
    assert right_variance == pytest.approx(right**2 * gennorm.var(shape), rel=0.03)


def test_coefficients_by_a_plain_loop():
    grey = np.random.default_rng(0).integers(0, 256, (20, 24)).astype(float)
    found = contrast_normalised(grey)
    taps = np.exp(-0.5 * (np.arange(-3, 4) / (7 / 6)) ** 2)
    window = np.outer(taps, taps) / taps.sum() ** 2
    for row, column in ((8, 9), (3, 3), (16, 20)):
        patch = grey[row - 3 : row + 4, column - 3 : column + 4]
        mean = (window * patch).sum()
        deviation = np.sqrt((window * (patch - mean) ** 2).sum())
        assert found[row, column] == pytest.approx((grey[row, column] - mean) / (deviation + 1), abs=1e-9)


def test_neighbours_by_a_plain_loop():
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (18, 22), dtype=np.uint8)).convert("RGB")
    mscn = contrast_normalised(np.asarray(picture.convert("L"), dtype=float))
    features = brisque_features(picture)
    for place, (down, right) in enumerate([(0, 1), (1, 0), (1, 1), (1, -1)]):
        products = [
            mscn[y, x] * mscn[y + down, x + right]
            for y in range(18 - down) for x in range(22) if 0 <= x + right < 22
        ]  # fmt: skip
        wanted = fit_asymmetric(np.array(products))
        assert features[2 + 4 * place : 6 + 4 * place] == pytest.approx(np.array(wanted))


def test_any_picture_has_36_finite_features():
    pictures = [Image.new("RGB", (1, 1)), Image.new("L", (64, 48), 200), Image.new("RGB", (5, 300), "red")]
    assert np.isfinite(extract(pictures, load_encoder("brisque"))).all()
    assert load_encoder("brisque").encode([brisque_features(pictures[1])]).shape == (1, 36)
