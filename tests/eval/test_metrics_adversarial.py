"""Metrics on vectors that break careless code, against scipy and a direct fit of the logistic."""

import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import least_squares
from scipy.special import expit

from mriqa.eval.metrics import fit_logistic, krcc, logistic, logistic_map, mae, plcc, rmse, srcc

RNG = np.random.default_rng(0)
MOS = RNG.uniform(1, 5, 50)
PRED = MOS + RNG.normal(0, 0.5, 50)

CASES = {
    "two images": ([1.0, 2.0], [4.0, 3.0]),
    "coarse ties": (PRED.round(), MOS.round()),
    "two values": ((PRED > 3) * 1.0, MOS),
    "all tied but one": (np.r_[np.zeros(49), 1.0], np.r_[1.0, np.zeros(49)]),
    "one far outlier": (np.r_[PRED[:49], 1e9], MOS),
    "offset": (PRED + 1e6, MOS),
    "reversed": (-PRED, MOS),
    "integers": (np.arange(50), np.arange(50) ** 2),
    "infinities of rounding": (np.r_[PRED[:48], 1e15, 1e15 + 1], MOS),
}


@pytest.mark.parametrize("case", CASES)
def test_correlations_equal_scipy(case):
    pred, mos = CASES[case]
    assert srcc(pred, mos) == pytest.approx(stats.spearmanr(pred, mos).statistic, abs=1e-9)
    assert krcc(pred, mos) == pytest.approx(stats.kendalltau(pred, mos).statistic, abs=1e-9)
    assert plcc(pred, mos) == pytest.approx(stats.pearsonr(pred, mos).statistic, abs=1e-9)


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e-5, 1e200])
def test_the_size_of_predictions_changes_nothing(scale):
    exact = np.round(PRED * 2**20) * 2.0**-10  # few digits, so that tiny ones stay exact as far as they can
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plcc(exact * scale, MOS) == pytest.approx(plcc(exact, MOS), abs=1e-6)
        assert rmse(exact * scale, MOS) == pytest.approx(rmse(exact, MOS), abs=1e-6)
        assert mae(exact * scale, MOS) == pytest.approx(mae(exact, MOS), abs=1e-5)


def test_the_largest_numbers_do_not_overflow():
    pred = np.array([1.7e308, -1.7e308, 0.0, 1e308])
    assert plcc(pred, [1.0, 2.0, 3.0, 4.0]) == pytest.approx(plcc([1.7, -1.7, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0]))


@pytest.mark.parametrize("case", ["coarse ties", "reversed", "offset", "one far outlier"])
def test_the_mapping_is_the_best_of_a_direct_fit_from_many_starts(case):
    """No start of a direct least-squares fit of the four parameters ends clearly below the one that is stated."""
    pred, mos = CASES[case]
    low, median, high = np.quantile(pred, (0.25, 0.5, 0.75))  # a deviation would be the outlier's
    z = (pred - median) / (high - low)

    def residuals(b):
        return (b[0] - b[1]) * expit((z - b[2]) / b[3]) + b[1] - mos

    starts = [(mos.max(), mos.min(), c, w) for c in (-0.5, 0.0, 0.5) for w in (-0.5, 0.25, 1.0)]
    best = min(np.sqrt(np.mean(least_squares(residuals, start).fun ** 2)) for start in starts)
    assert rmse(pred, mos) <= best * (1 + 1e-5)


def test_the_parameters_map_as_the_mapping_does():
    assert logistic(PRED * 20 - 7, *fit_logistic(PRED * 20 - 7, MOS)) == pytest.approx(
        logistic_map(PRED * 20 - 7, MOS), abs=1e-9
    )


def test_mean_absolute_error():
    assert mae([1.0, 2.0, 4.0], [2.0, 2.0, 2.0], mapped=False) == pytest.approx(1.0)
    assert mae(PRED, MOS) == pytest.approx(np.mean(np.abs(logistic_map(PRED, MOS) - MOS)))


def test_many_images_equal_a_fit_begun_from_the_stated_start():
    """100,000 images take the way through a thinned part; the result is that of the whole."""
    rng = np.random.default_rng(1)
    mos = rng.uniform(1, 5, 100_000)
    pred = mos + rng.normal(0, 0.7, 100_000)
    z = (pred - pred.mean()) / pred.std()

    def residuals(b):
        return (b[0] - b[1]) * expit((z - b[2]) / b[3]) + b[1] - mos

    direct = least_squares(residuals, (mos.max(), mos.min(), 0.0, 0.25))
    assert rmse(pred, mos) == pytest.approx(np.sqrt(np.mean(direct.fun**2)), rel=1e-7)
