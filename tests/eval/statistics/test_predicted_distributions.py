"""Predicted distributions against scipy, closed forms and loops over pairs."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from mriqa.eval.statistics import calibration, distribution_distances, pair_probabilities
from mriqa.eval.statistics.predicted_distributions import human_shares

SCORES = np.linspace(1, 5, 401)


def normal_shares(mean, std):
    return human_shares(SCORES, mean, std)


def random_shares(n, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(9), size=n), np.linspace(1, 5, 9)


def test_distances_equal_scipy():
    shares, scores = random_shares(6)
    mos, std = np.linspace(1.5, 4.5, 6), np.linspace(0.3, 0.9, 6)
    human = human_shares(scores, mos, std)
    found = distribution_distances(scores, shares, mos, std)
    for k in range(6):
        assert found["kl"][k] == pytest.approx(stats.entropy(human[k], shares[k]), rel=1e-6)
        assert found["js"][k] == pytest.approx(jensenshannon(human[k], shares[k]) ** 2, rel=1e-9)
        expected = stats.wasserstein_distance(scores, scores, human[k], shares[k])
        assert found["wasserstein"][k] == pytest.approx(expected, rel=1e-9)


def test_the_right_normal_is_at_no_distance_and_a_shifted_one_at_its_closed_form():
    found = distribution_distances(SCORES, normal_shares([3.0], [0.4]), [3.0], [0.4])
    assert all(found[name][0] == pytest.approx(0, abs=1e-9) for name in found)
    shifted = distribution_distances(SCORES, normal_shares([3.3], [0.4]), [3.0], [0.4])
    assert shifted["wasserstein"][0] == pytest.approx(0.3, abs=1e-3)
    assert shifted["kl"][0] == pytest.approx(0.3**2 / (2 * 0.4**2), rel=1e-2)


def test_a_point_prediction_is_far_but_finite():
    point = np.zeros((1, 401))
    point[0, 200] = 1.0
    found = distribution_distances(SCORES, point, [3.0], [0.5])
    assert math.isfinite(found["kl"][0]) and found["js"][0] <= math.log(2)
    assert found["wasserstein"][0] == pytest.approx(0.5 * math.sqrt(2 / math.pi), abs=5e-3)  # E|X - mean|


def test_calibrated_and_overconfident_predictions():
    rng = np.random.default_rng(0)
    mean = rng.uniform(2.5, 3.5, 4000)
    mos = mean + rng.normal(0, 0.3, 4000)
    right = calibration(SCORES, normal_shares(mean, np.full(4000, 0.3)), mos)
    assert right["ece"] < 0.015
    narrow = calibration(SCORES, normal_shares(mean, np.full(4000, 0.15)), mos)
    for level, coverage in zip(narrow["levels"], narrow["coverage"], strict=True):
        expected = 2 * stats.norm.cdf(stats.norm.ppf((1 + level) / 2) / 2) - 1
        assert coverage == pytest.approx(expected, abs=0.03)


def test_pairs_equal_a_loop():
    shares, scores = random_shares(12, seed=1)
    mos = np.array([1.0, 1.0, 2.0, 2.5, 3.0, 3.2, 3.3, 3.9, 4.0, 4.1, 4.5, 5.0])
    std = np.full(12, 0.5)
    p, order, human = [], [], []
    for i in range(12):
        for j in range(i + 1, 12):
            if mos[i] != mos[j]:
                joint = np.outer(shares[i], shares[j])
                p.append(np.tril(joint, -1).sum() + np.trace(joint) / 2)
                order.append(float(mos[i] > mos[j]))
                human.append(stats.norm.cdf((mos[i] - mos[j]) / math.sqrt(0.5)))
    found = pair_probabilities(scores, shares, mos, std)
    assert found["pairs"] == len(p) == 65
    assert found["accuracy"] == pytest.approx(np.mean([(a > 0.5) == (b > 0.5) for a, b in zip(p, order, strict=True)]))
    assert found["brier"] == pytest.approx(np.mean((np.array(p) - order) ** 2))
    assert found["error"] == pytest.approx(np.mean(np.abs(np.array(p) - human)))
    assert pair_probabilities(scores, shares, mos, pairs=20)["pairs"] == 20
    assert pair_probabilities(scores, shares[:2], mos[:2])["accuracy"] is None


@pytest.mark.parametrize(
    "scores,shares,message",
    [
        ([1.0, 2.0], [[0.5, 0.4]], "sum to 1"),
        ([2.0, 1.0], [[0.5, 0.5]], "must ascend"),
        ([1.0, 2.0, 3.0], [[0.5, 0.5]], "must be"),
    ],
)
def test_what_is_no_distribution_is_refused(scores, shares, message):
    with pytest.raises(ValueError, match=message):
        calibration(scores, shares, [1.0])


def test_a_human_distribution_needs_a_deviation():
    with pytest.raises(ValueError, match="deviation above 0"):
        distribution_distances(SCORES, normal_shares([3.0], [0.4]), [3.0], [0.0])
