"""Several readings of one image to one score."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mriqa.scoring.reading import Reading, summarise


def sampled(*scores: float) -> Reading:
    return Reading(np.array(scores), np.ones(len(scores)), exact=False)


def test_views_of_an_exact_distribution_are_averaged_as_distributions():
    grid = np.array([1.0, 3.0, 5.0])
    views = [Reading(grid, np.array(weights), exact=True) for weights in ([1.0, 0.0, 0.0], [0.0, 0.5, 0.5])]
    mean, std = summarise(views)
    assert mean == pytest.approx(0.5 * 1 + 0.25 * 3 + 0.25 * 5)
    assert std == pytest.approx(math.sqrt(0.5 * (1 - mean) ** 2 + 0.25 * (3 - mean) ** 2 + 0.25 * (5 - mean) ** 2))


def test_samples_are_pooled_with_the_sample_deviation():
    mean, std = summarise([sampled(2.0, 3.0), sampled(4.5), sampled()])
    assert (mean, std) == (pytest.approx(9.5 / 3), pytest.approx(np.std([2.0, 3.0, 4.5], ddof=1)))
    mean, std = summarise([sampled(2.0)])
    assert mean == 2.0 and math.isnan(std)
    assert all(map(math.isnan, summarise([sampled(), sampled()])))
