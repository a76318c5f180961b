"""Several readings of one image to one score."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mriqa.scoring.reading import Reading, distribution, summarise


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


def test_distribution_pools_views_score_by_score():
    """Two views by hand: 2.0 and 3.0 at even odds, and 3.0 and 1.0 at three to one."""
    views = [Reading(np.array(s), np.array(w), exact=True) for s, w in (([2.0, 3.0], [0.5, 0.5]), ([3.0, 1.0], [3, 1]))]
    pooled = distribution([views[0], Reading(views[1].scores_S, views[1].weights_S / 4, exact=True)])
    assert pooled.scores_S.tolist() == [1.0, 2.0, 3.0]
    assert pooled.shares_S.tolist() == pytest.approx([0.125, 0.25, 0.625])
    assert distribution([sampled(4.0, 4.0, 2.0), sampled()]).shares_S.tolist() == pytest.approx([1 / 3, 2 / 3])
    assert distribution([sampled()]) is None
