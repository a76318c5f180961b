"""Measures with intervals: what cannot be had is said, and intervals follow from the stated formula."""

import math

import numpy as np
import pytest
from scipy import stats

from mriqa.eval import metrics
from mriqa.eval.statistics import agreement
from mriqa.eval.statistics.intervals import expanded_percentiles, expanded_tail, mean_acceleration

MOS = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 2.5])


def test_values_are_the_metrics_of_what_parsed():
    pred = np.array([1.1, 2.3, math.nan, 3.6, 4.9, 2.2])
    kept = ~np.isnan(pred)
    found = agreement(pred, MOS, std=np.full(6, 0.1), resamples=100)
    assert found["parse_rate"].value == pytest.approx(5 / 6)
    assert found["srcc"].value == metrics.srcc(pred[kept], MOS[kept])
    assert found["mae"].value == pytest.approx(metrics.mae(pred[kept], MOS[kept]))
    assert found["srcc"].low <= found["srcc"].value <= found["srcc"].high
    errors = np.abs(metrics.logistic_map(pred[kept], MOS[kept]) - MOS[kept])
    assert found["outlier_ratio"].value == pytest.approx((errors > 0.2).mean())


@pytest.mark.parametrize(
    "pred,mos,measure,words",
    [
        ([3.0] * 6, MOS, "srcc", "All predictions are 3"),
        (MOS, [2.0] * 6, "krcc", "All human scores are 2"),
        ([math.nan] * 6, MOS, "plcc", "No prediction parsed"),
        ([math.nan] * 5 + [3.0], MOS, "rmse", "Only one prediction parsed"),
        ([1.0, 2.0, 3.0], [1.0, 3.0, 2.0], "mae", "needs four images, not 3"),
    ],
)
def test_what_cannot_be_had_is_said_in_a_sentence(pred, mos, measure, words):
    found = agreement(pred, mos, resamples=50)[measure]
    assert found.value is None and found.low is None
    assert words in found.reason and found.reason.endswith(".")


def test_a_fit_that_fails_is_said(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no convergence")

    monkeypatch.setattr(metrics, "curve_fit", fail)
    found = agreement(MOS[::-1], MOS, resamples=50)
    assert found["srcc"].value == pytest.approx(stats.spearmanr(MOS[::-1], MOS).statistic)
    for name in ("plcc_mapped", "rmse", "mae"):
        assert found[name].value is None and "did not converge" in found[name].reason


def test_one_content_gives_a_value_and_says_why_there_is_no_interval():
    found = agreement(MOS**2, MOS, contents=["same"] * 6, resamples=50)["srcc"]
    assert found.value == pytest.approx(1.0) and found.low is None and "No interval" in found.reason


def test_expanded_percentiles_by_their_formula():
    # Hesterberg 2015: alpha' / 2 = Phi(-sqrt(n / (n - 1)) t_{alpha/2, n-1}); for n = 20 that is 0.0159.
    expected = stats.norm.cdf(-math.sqrt(20 / 19) * stats.t.ppf(0.975, 19))
    assert expanded_tail(0.025, 20) == pytest.approx(expected) and expected == pytest.approx(0.0159, abs=5e-5)
    values = np.arange(10_001) / 10_000
    assert expanded_percentiles(values, 20, 0.95) == pytest.approx((expected, 1 - expected), abs=1e-4)
    assert all(math.isnan(end) for end in expanded_percentiles([math.nan], 20, 0.95))


def test_the_acceleration_of_a_mean_by_its_definition():
    errors = np.array([1.0, 2.0, 4.0, 9.0])
    assert mean_acceleration(errors) == pytest.approx(stats.skew(errors) / (6 * math.sqrt(4)))
    sums = np.array([3.0 - 8, 13.0 - 8])  # of contents of two images, less twice the mean
    assert mean_acceleration(errors, ["a", "a", "b", "b"]) == pytest.approx(
        (sums**3).sum() / 6 / (sums**2).sum() ** 1.5
    )
    assert mean_acceleration(np.ones(4)) == 0.0


@pytest.mark.parametrize(
    "arguments,message",
    [
        (([], []), "no image to evaluate"),
        (([1.0, 2.0], [1.0, 2.0], None, ["a"]), "1 contents but 2"),
        (([1.0, math.inf], [1.0, 2.0]), "finite or NaN"),
    ],
)
def test_impossible_input_is_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        agreement(*arguments)
