"""Simulations with known truth: intervals hold it in 93 to 97 % of cases, and tests reject a true null in 3 to 7 %.

Scores are bivariate normal, of which every correlation is known: SRCC = 6/π asin(ρ/2), KRCC = 2/π asin(ρ). With 800
simulations, a true rate of 95 % is measured with a standard error of 0.8 %; the seeds are fixed, so a test that passes
passes always.
"""

import math

import numpy as np
import pytest
from scipy.stats import rankdata

from mriqa.eval.statistics import paired_difference, steiger, williams
from mriqa.eval.statistics.intervals import expanded_percentiles, mean_acceleration
from mriqa.eval.statistics.resampling import resampled

SIMULATIONS = 800
RESAMPLES = 400


def normal_scores(rng, n, rho):
    mos = rng.normal(size=n)
    return rho * mos + math.sqrt(1 - rho**2) * rng.normal(size=n), mos


@pytest.mark.parametrize(
    "n,rho,names,seed",
    [
        (80, 0.8, ["srcc", "krcc", "plcc"], 0),
        (60, 0.4, ["srcc", "krcc", "plcc"], 1),
        (60, 0.8, ["rmse", "mae"], 2),
        (200, 0.8, ["rmse", "mae"], 2),
    ],
)
def test_intervals_hold_the_truth(n, rho, names, seed):
    """RMSE and MAE are of the predictions as they are: the mapping is fitted once, so it is given here."""
    rng = np.random.default_rng(seed)
    spread = math.sqrt(2 - 2 * rho)  # of pred − mos
    truth = {
        "srcc": 6 / math.pi * math.asin(rho / 2),
        "krcc": 2 / math.pi * math.asin(rho),
        "plcc": rho,
        "rmse": spread,
        "mae": spread * math.sqrt(2 / math.pi),
    }
    inside = dict.fromkeys(names, 0)
    for simulation in range(SIMULATIONS):
        pred, mos = normal_scores(rng, n, rho)
        drawn = resampled(pred, mos, pred, names, resamples=RESAMPLES, seed=simulation)
        for name in names:
            errors = np.abs(pred - mos)
            skew = {"rmse": mean_acceleration(errors**2), "mae": mean_acceleration(errors)}.get(name, 0.0)
            low, high = expanded_percentiles(drawn[name], n, 0.95, skew)
            inside[name] += low <= truth[name] <= high
    shares = {name: count / SIMULATIONS for name, count in inside.items()}
    assert all(0.93 <= share <= 0.97 for share in shares.values()), shares


def clustered_scores(rng, contents, versions, rho):
    """Each content shifts prediction and human score of all its versions, together: images are not independent."""
    shared = np.repeat(np.stack(normal_scores(rng, contents, rho)), versions, axis=1)
    alone = np.stack(normal_scores(rng, contents * versions, rho))
    return (shared + alone) / math.sqrt(2)


def test_intervals_by_content_hold_the_truth_where_those_by_image_do_not():
    rng = np.random.default_rng(2)
    contents = np.repeat(np.arange(40), 6).tolist()
    truth, by_content, by_image = 0.7, 0, 0
    for simulation in range(SIMULATIONS):
        pred, mos = clustered_scores(rng, 40, 6, truth)
        for units, own, count in ((40, contents, "content"), (240, None, "image")):
            drawn = resampled(pred, mos, None, ["plcc"], resamples=RESAMPLES, seed=simulation, contents=own)
            low, high = expanded_percentiles(drawn["plcc"], units, 0.95)
            if count == "content":
                by_content += low <= truth <= high
            else:
                by_image += low <= truth <= high
    assert 0.93 <= by_content / SIMULATIONS <= 0.97, by_content
    assert by_image / SIMULATIONS < 0.90, by_image


def test_paired_tests_reject_a_true_null_as_often_as_they_say():
    """Two models, equally good, whose errors have something in common."""
    rng = np.random.default_rng(3)
    tests = ("bootstrap srcc", "bootstrap plcc", "williams srcc", "williams plcc", "steiger srcc", "steiger plcc")
    rejected = dict.fromkeys(tests, 0)
    for simulation in range(SIMULATIONS):
        mos, shared, a, b = rng.normal(size=(4, 80))
        a, b = mos + 0.5 * (shared + a), mos + 0.5 * (shared + b)
        for measure in ("srcc", "plcc"):
            found = paired_difference(a, b, mos, measure=measure, resamples=RESAMPLES, seed=simulation)
            rejected[f"bootstrap {measure}"] += found.p < 0.05
            rejected[f"williams {measure}"] += found.p_williams < 0.05
            rejected[f"steiger {measure}"] += found.p_steiger < 0.05
    shares = {name: count / SIMULATIONS for name, count in rejected.items()}
    assert all(0.03 <= share <= 0.07 for share in shares.values()), shares


def test_paired_test_by_content_rejects_a_true_null_as_often_as_it_says():
    rng = np.random.default_rng(4)
    contents = np.repeat(np.arange(30), 5).tolist()
    rejected = 0
    for simulation in range(SIMULATIONS):
        mos, a, b = np.repeat(rng.normal(size=(3, 30)), 5, axis=1) + rng.normal(size=(3, 150))
        found = paired_difference(
            mos + a, mos + b, mos, contents, measure="plcc", resamples=RESAMPLES, seed=simulation
        )  # fmt: skip
        rejected += found.p < 0.05
    assert 0.03 <= rejected / SIMULATIONS <= 0.07, rejected


def test_williams_and_steiger_on_ranks_find_a_real_difference():
    """Power, so that a test that never rejects does not pass: errors of .5 against .7, 150 images."""
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(200):
        mos, a, b = rng.normal(size=(3, 150))
        a, b, mos = rankdata(mos + 0.5 * a), rankdata(mos + 0.7 * b), rankdata(mos)
        r = (np.corrcoef(a, mos)[0, 1], np.corrcoef(b, mos)[0, 1], np.corrcoef(a, b)[0, 1])
        found += williams(*r, 150)[1] < 0.05 and steiger(*r, 150)[1] < 0.05
    assert found > 150
