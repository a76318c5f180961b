"""Each baseline against its definition written out plainly, and KMM against scipy's general solver."""

import math

import numpy as np
import pytest
from scipy import optimize
from scipy.spatial.distance import cdist, pdist
from scipy.special import rel_entr, softmax
from scipy.stats import entropy
from sklearn.cluster import KMeans
from sklearn.manifold import TSNE

from mriqa.selection import SelectionError
from mriqa.selection import load as load_selector
from mriqa.selection.kmm import kmm_weights
from mriqa.selection.pgcs import quotas_of

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(60, 5)) + 3).astype(np.float32)
SCORES = RNG.uniform(1, 5, 60)


def test_herding_takes_the_largest_inner_product_with_the_residual():
    x = X.astype(np.float64)
    chosen = []
    for step in range(20):
        residual = (step + 1) * x.mean(axis=0) - sum((x[i] for i in chosen), np.zeros(5))
        chosen.append(max((i for i in range(60) if i not in chosen), key=lambda i: float(residual @ x[i])))
    assert load_selector("herding")(X, 20).tolist() == chosen


def test_herding_by_the_mean_brings_the_means_together():
    chosen = []
    for _ in range(20):
        gaps = [np.linalg.norm(X[[*chosen, i]].astype(np.float64).mean(axis=0) - X.mean(axis=0, dtype=np.float64))
                if i not in chosen else np.inf for i in range(60)]  # fmt: skip
        chosen.append(int(np.argmin(gaps)))
    assert load_selector("herding")(X, 20, form="mean").tolist() == chosen


def test_the_two_forms_of_herding_are_one_where_all_norms_are_the_same():
    x = X / np.linalg.norm(X.astype(np.float64), axis=1, keepdims=True)
    herding = load_selector("herding")
    assert herding(x, 20).tolist() == herding(x, 20, form="mean").tolist()


@pytest.mark.parametrize("seed", [0, 1])
def test_k_center_takes_the_farthest(seed):
    distances = cdist(X.astype(np.float64), X.astype(np.float64))
    found = load_selector("k_center")(X, 20, seed=seed).tolist()
    for step in range(1, 20):
        assert found[step] == np.argmax(distances[:, found[:step]].min(axis=1))


def level_of(score, lowest, highest, levels):
    """The bin of one score, by looking through the bins."""
    for level in range(levels):
        if score < lowest + (level + 1) * (highest - lowest) / levels:
            return level
    return levels - 1


def test_contextual_diversity_takes_the_most_unlike_confusions():
    """Matrices of all images written out, and the divergence of each pair row by row."""
    levels = X.shape[1]
    p = softmax(X.astype(np.float64) - 3, axis=1)
    own = [level_of(score, SCORES.min(), SCORES.max(), levels) for score in SCORES]
    shared = np.full((levels, levels), 1 / levels)
    for level in range(levels):
        members = [i for i in range(60) if own[i] == level]
        weights = [entropy(p[i]) for i in members]
        shared[level] = sum(w * p[i] for w, i in zip(weights, members)) / sum(weights)
    matrices = [np.stack([p[i] if level == own[i] else shared[level] for level in range(levels)]) for i in range(60)]
    divergence = np.array([
        [np.mean([0.5 * (rel_entr(a, b) + rel_entr(b, a)).sum() for a, b in zip(first, second)]) for second in matrices]
        for first in matrices
    ])  # fmt: skip
    found = load_selector("contextual_diversity")(X, 20, scores=SCORES, seed=2).tolist()
    for step in range(1, 20):
        assert found[step] == np.argmax(divergence[:, found[:step]].min(axis=1))


def test_contextual_diversity_bears_probabilities_that_round_to_0():
    far = load_selector("contextual_diversity")(1000 * X, 20, scores=SCORES)
    assert len(set(far)) == 20 and softmax(1000 * X, axis=1).min() == 0


def test_moderate_takes_a_window_around_the_median_rank():
    """All distances sorted, and as many as wanted from the place half the budget before the middle."""
    x = X.astype(np.float64)
    own = np.array([level_of(score, SCORES.min(), SCORES.max(), 4) for score in SCORES])
    centres = [[np.median(x[own == level, d]) for d in range(5)] for level in range(4)]
    distances = np.array([np.sqrt(sum((x[i, d] - centres[own[i]][d]) ** 2 for d in range(5))) for i in range(60)])
    order = sorted(range(60), key=lambda i: distances[i])
    for count in (1, 2, 19, 20, 60):
        low = 60 // 2 - count // 2
        found = load_selector("moderate")(X, count, scores=SCORES, bins=4)
        assert sorted(found) == sorted(order[low : low + count]) and found[0] == order[30]


def dealt_by_coverage(z, partitions):
    """Coverage precedence, from the authors' description: rank groups of each image's row, summed, then dealt."""
    n = len(z)
    coverage = [0] * n
    for i in range(n):
        near = sorted(range(n), key=lambda j: np.sqrt(((z[i] - z[j]) ** 2).sum()))
        for rank, j in enumerate(near):
            coverage[j] += min(rank // (n // partitions), partitions - 1) + 1
    members = [[] for _ in range(partitions)]
    for turn, i in enumerate(sorted(range(n), key=lambda i: coverage[i])):
        members[turn % partitions].append(i)
    return members


def clusters(z, partitions):
    label = KMeans(partitions, n_init=1, random_state=3).fit_predict(z)
    return [np.flatnonzero(label == k).tolist() for k in range(partitions)]


def quotas_written_out(sizes, count):
    """Rounded up, the surplus taken back in proportion and rounded down, the rest from whichever is largest."""
    quotas = [math.ceil(size * count / sum(sizes)) for size in sizes]
    surplus, total = sum(quotas) - count, sum(quotas)
    quotas = [quota - math.floor(quota / total * surplus) for quota in quotas]
    while sum(quotas) > count:
        quotas[quotas.index(max(quotas))] -= 1
    return quotas


def pgcs_written_out(x, count, partitions, partition):
    """The rows of each partition: t-SNE, partitions, quotas, windows around the median rank."""
    z = TSNE(3, perplexity=min(30, (len(x) - 1) / 3), init="pca", random_state=3).fit_transform(x)
    members = partition(z, partitions)
    quotas = quotas_written_out([len(rows) for rows in members], count)
    kept = []
    for rows, quota in zip(members, quotas):
        centre = np.median(x[rows].astype(np.float64), axis=0)
        order = sorted(rows, key=lambda i: np.linalg.norm(x[i] - centre))
        low = len(rows) // 2 - quota // 2
        kept.append(order[low : low + quota])
    return kept


@pytest.mark.parametrize(("count", "partitions"), [(22, 5), (13, 8), (3, 5), (61, 4)])
@pytest.mark.parametrize(("partitioning", "partition"), [("coverage", dealt_by_coverage), ("k_means", clusters)])
def test_pgcs_equals_its_description(count, partitions, partitioning, partition):
    x = np.concatenate([X, X[:1] + 0.5])  # 61, so that the last rank group is larger
    kept = pgcs_written_out(x, count, partitions, partition)
    found = load_selector("pgcs")(x, count, partitions=partitions, partitioning=partitioning, seed=3)
    assert sorted(found) == sorted(row for rows in kept for row in rows)


@pytest.mark.parametrize("sizes", [[50, 40, 30, 1, 1, 1, 1], [7, 300, 21, 2, 2, 2], [16, 16, 16, 15]])
@pytest.mark.parametrize("count", [1, 30, 60])
def test_pgcs_takes_a_surplus_back_in_proportion(sizes, count):
    assert quotas_of(np.array(sizes), count) == quotas_written_out(sizes, count)


@pytest.mark.parametrize("epsilon", [0.0, "usual", 0.1])
def test_kmm_equals_scipys_solution(epsilon):
    source, target = X[:25].astype(np.float64), X[25:45].astype(np.float64) + 2.5
    sigma = np.median(pdist(np.concatenate([source, target])))
    kernel = np.exp(-cdist(source, source, "sqeuclidean") / (2 * sigma**2))
    towards = np.exp(-cdist(source, target, "sqeuclidean") / (2 * sigma**2)).mean(axis=1)
    room = (np.sqrt(25) - 1) / np.sqrt(25) if epsilon == "usual" else epsilon

    def distance(weights):
        return weights @ kernel @ weights / 25**2 - 2 * weights @ towards / 25

    def slope(weights):
        return 2 * kernel @ weights / 25**2 - 2 * towards / 25

    limits = [
        {"type": "ineq", "fun": lambda w: w.mean() - 1 + room},
        {"type": "ineq", "fun": lambda w: 1 + room - w.mean()},
    ]
    if room == 0:
        limits = [{"type": "eq", "fun": lambda w: w.mean() - 1}]
    best = optimize.minimize(distance, np.ones(25), jac=slope, bounds=[(0, 4)] * 25, method="SLSQP",
                             constraints=limits, options={"maxiter": 1000, "ftol": 1e-14})  # fmt: skip
    weights = kmm_weights(source, target, bound=4, epsilon=epsilon)
    assert abs(weights.mean() - 1) <= room + 1e-9 and weights.min() >= 0 and weights.max() <= 4
    assert distance(weights) == pytest.approx(best.fun, abs=1e-7)
    if epsilon == "usual":  # the mean is free here, and the match better for it
        assert weights.mean() < 0.9 and distance(weights) < distance(kmm_weights(source, target, bound=4)) - 1e-3
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
    (lambda: load_selector("contextual_diversity")(X[:, :1], 5, scores=SCORES), "at least two levels"),
    (lambda: load_selector("contextual_diversity")(X, 5), "Scores are needed"),
    (lambda: load_selector("herding")(X, 5, form="kernel"), "form of herding 'kernel'"),
    (lambda: load_selector("pgcs")(X, 5, partitions=0), "number of partitions"),
    (lambda: load_selector("pgcs")(X, 5, dimensions=4), "number of dimensions"),
    (lambda: load_selector("pgcs")(X, 5, partitioning="kmeans"), "did you mean 'k_means'"),
    (lambda: kmm_weights(X, X, epsilon="some"), 'epsilon must be a number from 0 to 1, or "usual"'),
])  # fmt: skip
def test_bad_input_is_one_sentence(call, sentence):
    with pytest.raises(SelectionError, match=sentence):
        call()
