"""Each baseline against its definition written out plainly, and KMM against scipy's general solver."""

import numpy as np
import pytest
from scipy import optimize
from scipy.spatial.distance import cdist, pdist
from scipy.special import log_softmax, rel_entr, softmax

from mriqa.selection import SelectionError
from mriqa.selection import load as load_selector
from mriqa.selection.kmm import kmm_weights

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(60, 5)) + 3).astype(np.float32)
SCORES = RNG.uniform(1, 5, 60)


def test_herding_follows_the_mean():
    chosen = []
    for _ in range(20):
        gaps = [np.linalg.norm(X[[*chosen, i]].astype(np.float64).mean(axis=0) - X.mean(axis=0, dtype=np.float64))
                if i not in chosen else np.inf for i in range(60)]  # fmt: skip
        chosen.append(int(np.argmin(gaps)))
    assert load_selector("herding")(X, 20).tolist() == chosen


@pytest.mark.parametrize("seed", [0, 1])
def test_k_center_takes_the_farthest(seed):
    distances = cdist(X.astype(np.float64), X.astype(np.float64))
    found = load_selector("k_center")(X, 20, seed=seed).tolist()
    for step in range(1, 20):
        assert found[step] == np.argmax(distances[:, found[:step]].min(axis=1))


def test_contextual_diversity_takes_the_most_unlike_distribution():
    p = softmax(X.astype(np.float64), axis=1)
    divergence = np.array([[rel_entr(a, b).sum() + rel_entr(b, a).sum() for b in p] for a in p])
    found = load_selector("contextual_diversity")(X, 20, seed=2).tolist()
    for step in range(1, 20):
        assert found[step] == np.argmax(divergence[:, found[:step]].min(axis=1))
    far = load_selector("contextual_diversity")(1000 * X, 20)  # probabilities that round to 0
    assert len(set(far)) == 20 and np.isfinite(log_softmax(1000 * X, axis=1)).all()


def test_moderate_takes_the_median_distance_to_the_centre_of_the_bin():
    width = (SCORES.max() - SCORES.min()) / 4
    own = np.minimum(((SCORES - SCORES.min()) // width).astype(int), 3)
    distances = np.array([np.linalg.norm(x - X[own == bin].mean(axis=0)) for x, bin in zip(X.astype(np.float64), own)])
    expected = np.argsort(abs(distances - np.median(distances)))
    assert load_selector("moderate")(X, 20, scores=SCORES, bins=4).tolist() == expected[:20].tolist()


def test_pgcs_covers_every_partition_and_samples_spread_ones_more():
    rng = np.random.default_rng(1)
    tight, wide = rng.normal(0, 0.1, (100, 3)), rng.normal(0, 1, (100, 3)) + 20
    found = load_selector("pgcs")(np.concatenate([tight, wide]), 22, partitions=2)
    assert (found < 100).sum() == 2 and (found >= 100).sum() == 20  # a spread of 1 to 10
    assert {bool(row < 100) for row in found[:2]} == {True, False}


def test_kmm_equals_scipys_solution():
    source, target = X[:25].astype(np.float64), X[25:45].astype(np.float64) + 0.5
    sigma = np.median(pdist(np.concatenate([source, target])))
    kernel = np.exp(-cdist(source, source, "sqeuclidean") / (2 * sigma**2))
    towards = np.exp(-cdist(source, target, "sqeuclidean") / (2 * sigma**2)).mean(axis=1)

    def distance(weights):
        return weights @ kernel @ weights / 25**2 - 2 * weights @ towards / 25

    def slope(weights):
        return 2 * kernel @ weights / 25**2 - 2 * towards / 25

    best = optimize.minimize(distance, np.ones(25), jac=slope, bounds=[(0, 4)] * 25, method="SLSQP",
                             constraints={"type": "eq", "fun": lambda w: w.mean() - 1},
                             options={"maxiter": 1000, "ftol": 1e-14})  # fmt: skip
    weights = kmm_weights(source, target, bound=4)
    assert weights.mean() == pytest.approx(1) and weights.min() >= 0 and weights.max() <= 4
    assert distance(weights) == pytest.approx(best.fun, abs=1e-7)
    np.testing.assert_allclose(kmm_weights(source, target, bound=4, landmarks=20).mean(), 1)


def test_kmm_prefers_what_lies_in_the_target_and_draws_by_weight():
    source = np.concatenate([np.zeros((50, 2)), np.full((50, 2), 5.0)]) + RNG.normal(size=(100, 2))
    target = RNG.normal(size=(40, 2))
    select = load_selector("kmm")
    assert select(source, 20, target=target).max() < 50
    weighted = [select(source, 20, target=target, draw="weighted", seed=seed) for seed in (0, 0, 1)]
    assert weighted[0].tolist() == weighted[1].tolist() != weighted[2].tolist()
    assert np.mean(weighted[2] < 50) > 0.9


@pytest.mark.parametrize("call, sentence", [
    (lambda: load_selector("kmm")(X, 5), "KMM needs target"),
    (lambda: load_selector("kmm")(X, 5, target=X[:, :4]), "Source features have width 5 but target features 4"),
    (lambda: load_selector("kmm")(X, 5, target=X, draw="best"), "way to draw 'best'"),
    (lambda: kmm_weights(X, X, bound=0.5), "bound must be a number"),
    (lambda: kmm_weights(X, X, bandwidth=0), "bandwidth must be a finite number above 0"),
    (lambda: load_selector("moderate")(X, 5), "Scores are needed"),
    (lambda: load_selector("moderate")(X, 5, scores=SCORES, bins=0), "number of bins"),
    (lambda: load_selector("contextual_diversity")(X[:, :1], 5), "at least two levels"),
    (lambda: load_selector("pgcs")(X, 5, partitions=0), "number of partitions"),
])  # fmt: skip
def test_bad_input_is_one_sentence(call, sentence):
    with pytest.raises(SelectionError, match=sentence):
        call()
