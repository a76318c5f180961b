"""The interval of a mean over repeated splits, against the formula of Nadeau and Bengio by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mriqa.eval.statistics.repeated_splits import over_splits


def test_the_interval_is_that_of_the_corrected_resampled_t_test():
    values = [0.91, 0.93, 0.88, 0.95, 0.90, 0.92, 0.87, 0.94, 0.93, 0.89]
    mean = sum(values) / 10
    variance = sum((value - mean) ** 2 for value in values) / 9
    half = 2.2621571628 * math.sqrt(variance * (1 / 10 + 0.2 / 0.8))  # t of nine degrees of freedom, 97.5 %
    found = over_splits(values, 0.2)
    assert (found.value, found.low, found.high) == pytest.approx((mean, mean - half, mean + half), rel=1e-9)
    assert over_splits(values, 0.2, 0.5).high < found.high


def test_it_covers_a_constant_shift_where_the_plain_interval_does_not():
    """Means of ten overlapping test draws from one sample: the truth lies in about 95 % of these intervals."""
    rng = np.random.default_rng(0)
    inside = plain = 0
    for _ in range(400):
        sample = rng.normal(0.0, 1.0, 100)
        values = [float(rng.choice(sample, 20, replace=False).mean()) for _ in range(10)]
        found = over_splits(values, 0.2)
        assert found.low is not None and found.high is not None and found.value is not None
        half = (found.high - found.low) / 2
        inside += found.low <= 0 <= found.high
        plain += abs(found.value) <= half * math.sqrt((1 / 10) / (1 / 10 + 0.25))
    assert 0.90 < inside / 400 < 0.985 and plain / 400 < 0.86


def test_what_has_no_interval_says_why():
    assert over_splits([0.9], 0.2).reason == "No interval: there is only one split."
    assert over_splits([0.9, math.nan], 0.2).reason == "The measure is undefined in a split."
    with pytest.raises(ValueError, match="no split"):
        over_splits([], 0.2)
    with pytest.raises(ValueError, match="test_share"):
        over_splits([0.5, 0.6], 1.0)
