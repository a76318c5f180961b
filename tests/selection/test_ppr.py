"""PPR against scipy's correlations, PPC against its cosine, and their documented choices."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cosine

from mriqa.selection import SelectionError, ppc, ppc_matrix, ppr, ppr_stability

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(50, 300)).astype(np.float32), RNG.normal(size=50)


def test_ppr_is_the_correlation_of_each_feature():
    expected = [stats.pearsonr(X[:, d].astype(np.float64), Y).statistic for d in range(300)]
    np.testing.assert_allclose(ppr(X, Y), expected, atol=1e-13)
    np.testing.assert_allclose(ppr(1e-30 * X.astype(np.float64), 1e-200 * Y), expected, atol=1e-13)


def test_constant_features_have_correlation_exactly_0():
    x = X.copy()
    x[:, 5] = np.float32(0.1)  # whose mean is one rounding off
    found = ppr(x, Y)
    assert found[5] == 0.0 and (found != 0).sum() == 299


def test_ppc_is_the_cosine():
    a, b = ppr(X, Y), ppr(X, np.abs(Y))
    assert ppc(a, b) == pytest.approx(1 - cosine(a, b), abs=1e-14)
    assert ppc(a, np.zeros(300)) == 0.0
    names, matrix = ppc_matrix({"one": a, "two": b, "none": np.zeros(300)})
    assert names == ["one", "two", "none"]
    np.testing.assert_allclose(matrix, [[1, ppc(a, b), 0], [ppc(a, b), 1, 0], [0, 0, 0]], atol=1e-14)


def test_stability_rises_to_1_and_is_repeatable():
    y = X[:, :5].sum(axis=1)
    fractions = (0.1, 0.3, 1.0)
    mean, std = ppr_stability(X, y, fractions, draws=20, seed=3)
    assert mean[0] < mean[1] < mean[2] and mean[2] == pytest.approx(1)
    assert std[1] > std[2] and std[2] == pytest.approx(0, abs=1e-12)
    np.testing.assert_array_equal(ppr_stability(X, y, fractions, draws=20, seed=3), (mean, std))
    rng, found = np.random.default_rng(3), []
    for _ in range(20):
        rows = rng.choice(50, 5, replace=False)
        found.append(1 - cosine(ppr(X[rows], y[rows]), ppr(X, y)))
    assert (mean[0], std[0]) == (pytest.approx(np.mean(found)), pytest.approx(np.std(found)))


@pytest.mark.parametrize("call, sentence", [
    (lambda: ppr(X[:1], Y[:1]), "at least 2 samples"),
    (lambda: ppr(X, np.ones(50)), "all 1, so nothing correlates"),
    (lambda: ppr(X, np.full(50, math.nan)), "50 of 50 scores are NaN"),
    (lambda: ppr(X[0], Y), r"shape \(N, D\)"),
    (lambda: ppr([["a"]], Y), "real numbers"),
    (lambda: ppc(np.ones(3), np.ones(4)), "widths 3 and 4"),
    (lambda: ppc([math.inf], [1.0]), "finite numbers"),
    (lambda: ppc_matrix({}), "no sets"),
    (lambda: ppr_stability(X, Y, (0.0,)), "fraction 0.0 of labels"),
    (lambda: ppr_stability(X, Y, draws=0), "number of draws"),
])  # fmt: skip
def test_bad_input_is_one_sentence(call, sentence):
    with pytest.raises(SelectionError, match=sentence):
        call()
