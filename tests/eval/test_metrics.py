"""Metrics against definitions written out as loops, a curve whose parameters are known, and by-hand cases."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

from mriqa.eval import evaluate_scores
from mriqa.eval.metrics import fit_logistic, krcc, logistic, plcc, rmse, srcc


def pearson(a, b):
    ma, mb = math.fsum(a) / len(a), math.fsum(b) / len(b)
    covariance = math.fsum((x - ma) * (y - mb) for x, y in zip(a, b, strict=True))
    return covariance / math.sqrt(math.fsum((x - ma) ** 2 for x in a) * math.fsum((y - mb) ** 2 for y in b))


def mean_ranks(values):
    return [sum(o < v for o in values) + (1 + sum(o == v for o in values)) / 2 for v in values]


def tau_b(a, b):
    pairs = list(itertools.combinations(range(len(a)), 2))
    signs = [(np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i, j in pairs]
    untied_a, untied_b = sum(s != 0 for s, _ in signs), sum(t != 0 for _, t in signs)
    return sum(s * t for s, t in signs) / math.sqrt(untied_a * untied_b)


def noisy(seed, n=60):
    """Scores with ties on both sides and a bent relation."""
    rng = np.random.default_rng(seed)
    mos = rng.uniform(1, 5, n).round(1)
    return (1 + 4 / (1 + np.exp(-(mos - 3) / 0.7)) + rng.normal(0, 0.4, n)).round(1), mos


@pytest.mark.parametrize("seed", range(3))
def test_correlations_equal_the_definitions(seed):
    pred, mos = noisy(seed)
    assert plcc(pred, mos) == pytest.approx(pearson(pred, mos), abs=1e-12)
    assert srcc(pred, mos) == pytest.approx(pearson(mean_ranks(pred), mean_ranks(mos)), abs=1e-12)
    assert krcc(pred, mos) == pytest.approx(tau_b(pred, mos), abs=1e-12)
    assert rmse(pred, mos, mapped=False) == pytest.approx(math.sqrt(np.mean((pred - mos) ** 2)), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_mapped_metrics_equal_the_formula_fitted_from_the_stated_start(seed):
    pred, mos = noisy(seed)

    def f(x, b1, b2, b3, b4):
        return (b1 - b2) / (1 + np.exp(-(x - b3) / b4)) + b2

    beta, _ = curve_fit(f, pred, mos, p0=[mos.max(), mos.min(), pred.mean(), pred.std() / 4], maxfev=20_000)
    assert plcc(pred, mos, mapped=True) == pytest.approx(pearson(f(pred, *beta), mos), abs=1e-6)
    assert rmse(pred, mos) == pytest.approx(math.sqrt(np.mean((f(pred, *beta) - mos) ** 2)), abs=1e-6)


def test_the_fit_finds_a_known_curve():
    x = np.linspace(0, 100, 50)
    y = logistic(x, 4.8, 1.2, 55.0, 9.0)
    assert fit_logistic(x, y) == pytest.approx((4.8, 1.2, 55.0, 9.0), rel=1e-5)
    assert rmse(x, y) == pytest.approx(0.0, abs=1e-6)
    assert plcc(x, y, mapped=True) == pytest.approx(1.0, abs=1e-9)


def test_huge_predictions_do_not_overflow():
    pred = np.array([-1e6, -1e3, 0.0, 1e3, 1e6, 2e6])
    assert math.isfinite(rmse(pred, np.array([1.0, 2.0, 3.0, 3.5, 4.0, 5.0])))


@pytest.mark.parametrize("metric", [srcc, krcc, plcc, rmse])
@pytest.mark.parametrize(
    "pred,mos,message",
    [
        ([1.0, 2.0], [1.0, 2.0, 3.0], "2 predictions but 3 human scores"),
        ([1.0], [1.0], "at least two images, got 1"),
        ([], [], "at least two images, got 0"),
        ([1.0, math.nan, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], "1 of 4 predictions are NaN"),
        ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, math.inf, math.nan], "2 of 4 human scores are NaN"),
    ],
)
def test_impossible_input_is_one_clear_sentence(metric, pred, mos, message):
    with pytest.raises(ValueError, match=message):
        metric(pred, mos)


@pytest.mark.parametrize("metric", [srcc, krcc, plcc])
def test_constants_have_no_correlation(metric):
    varied, constant = [1.0, 2.0, 3.0, 4.0], [3.1, 3.1, 3.1, 3.1]
    for pred, mos in ((varied, constant), (constant, varied)):
        with pytest.warns(UserWarning, match="undefined for constant scores"):
            assert math.isnan(metric(pred, mos))
    with pytest.warns(UserWarning, match="logistic mapping is undefined for constant scores"):
        assert math.isnan(rmse(constant, varied))


def test_too_few_for_the_mapping():
    with pytest.raises(ValueError, match="at least 4 images, got 3; use mapped=False"):
        rmse([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])


def test_evaluation_leaves_out_and_counts_what_did_not_parse():
    pred, mos = noisy(0)
    lost = np.concatenate([pred, [math.nan] * 20])
    result = evaluate_scores(lost, np.concatenate([mos, [3.0] * 20]), resamples=50)
    assert (result["n"], result["n_parsed"], result["parse_rate"]) == (80, 60, 0.75)
    assert result["srcc"] == srcc(pred, mos)
    assert result["rmse"] == pytest.approx(rmse(pred, mos), abs=1e-12)
    assert "outlier_ratio" not in result


def test_evaluation_by_group():
    pred, mos = noisy(1)
    names = ["koniq"] * 25 + ["spaq"] * 35
    result = evaluate_scores(pred, mos, groups=names, resamples=0)
    assert list(result["groups"]) == ["koniq", "spaq"]
    assert result["groups"]["spaq"]["plcc"] == plcc(pred[25:], mos[25:])
    assert result["mean"]["srcc"] == pytest.approx((srcc(pred[:25], mos[:25]) + srcc(pred[25:], mos[25:])) / 2)


def test_outlier_ratio():
    x = np.linspace(0, 100, 50)
    mos = logistic(x, 4.8, 1.2, 55.0, 9.0)
    mos[10] += 1.0
    assert evaluate_scores(x, mos, std=np.full(50, 0.4), resamples=0)["outlier_ratio"] == pytest.approx(1 / 50)
    assert evaluate_scores(x, mos, std=[None] * 10 + [0.4] * 40, resamples=0)["outlier_ratio"] == pytest.approx(1 / 40)


def test_bootstrap_is_seeded_and_has_the_textbook_width():
    rng = np.random.default_rng(0)
    mos = rng.normal(0, 1, 400)
    pred = 0.8 * mos + 0.6 * rng.normal(0, 1, 400)
    result = evaluate_scores(pred, mos, resamples=1000, seed=3)
    assert result == evaluate_scores(pred, mos, resamples=1000, seed=3)
    z, half = math.atanh(result["plcc"]), 1.96 / math.sqrt(400 - 3)  # Fisher's interval for a bivariate normal
    assert result["plcc_ci"] == pytest.approx([math.tanh(z - half), math.tanh(z + half)], abs=0.012)
    assert result["srcc_ci"][0] < result["srcc"] < result["srcc_ci"][1]


@pytest.mark.parametrize("pred", [[math.nan] * 3, [1.0, math.nan, math.nan], [1.0, 2.0, math.nan]])
def test_too_few_parsed_is_nan_not_an_error(pred):
    result = evaluate_scores(pred, [1.0, 2.0, 3.0], std=[0.5] * 3, resamples=20)
    assert math.isnan(result["rmse"]) and math.isnan(result["outlier_ratio"])


@pytest.mark.parametrize(
    "arguments,message",
    [
        (([], []), "no image to evaluate"),
        (([1.0], [1.0, 2.0]), "1 predictions but 2 human scores"),
        (([1.0, 2.0], [1.0, math.nan]), "Human scores must be finite"),
        (([1.0, 2.0], [1.0, 2.0], None, ["a"]), "1 groups but 2"),
    ],
)
def test_evaluation_refuses_impossible_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate_scores(*arguments)
