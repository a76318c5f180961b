"""Q-Diverse against its formulas by dense linear algebra, its two modes, and its share of each batch."""

import math

import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.spatial.distance import cdist, pdist, squareform

from mriqa.selection import SelectionError, q_diverse
from mriqa.selection.q_diverse import blended_distances, most_diverse, spectral_embedding

RNG = np.random.default_rng(0)
CONTENT = RNG.normal(size=(80, 6)).astype(np.float32)
QUALITY = RNG.uniform(size=(80, 2)).astype(np.float32)


def test_distances_are_scaled_then_blended():
    content, quality = (cdist(x.astype(np.float64), x.astype(np.float64)) for x in (CONTENT, QUALITY))
    expected = 0.7 * content / content.max() + 0.3 * quality / quality.max()
    np.testing.assert_allclose(blended_distances(CONTENT, QUALITY, 0.7), expected, atol=1e-7)


def test_with_every_landmark_the_eigenvectors_are_those_of_the_laplacian():
    distances = cdist(CONTENT, CONTENT)
    affinity = np.exp(-(distances**2) / (2 * np.median(squareform(distances, checks=False)) ** 2))
    roots = np.sqrt(affinity.sum(axis=1))
    values, vectors = eigh(np.eye(80) - affinity / np.outer(roots, roots))
    share = np.cumsum(1 - values) / (1 - values).sum()
    kept = int(np.searchsorted(share, 0.9)) + 1
    z = spectral_embedding(distances, np.arange(80), energy=0.9)
    assert z.shape == (80, kept)
    np.testing.assert_allclose(z.T @ z, np.eye(kept), atol=1e-9)
    np.testing.assert_allclose(z @ z.T, vectors[:, :kept] @ vectors[:, :kept].T, atol=1e-6)


def test_with_few_landmarks_they_are_near():
    distances = cdist(QUALITY, QUALITY)
    whole = spectral_embedding(distances, np.arange(80), energy=0.9)
    some = spectral_embedding(distances, np.arange(0, 80, 2), energy=0.9)
    assert some.shape == whole.shape and np.linalg.norm(some.T @ whole, 2) == pytest.approx(1, abs=0.01)


def test_greedy_choice_has_the_largest_conditional_variance():
    z = RNG.normal(size=(40, 3))
    kernel = np.exp(-cdist(z, z, "sqeuclidean") / (2 * np.median(pdist(z)) ** 2))
    chosen = [0]
    for _ in range(14):
        inverse = np.linalg.inv(kernel[np.ix_(chosen, chosen)] + 1e-6 * np.eye(len(chosen)))
        variance = np.diag(kernel - kernel[:, chosen] @ inverse @ kernel[chosen])
        chosen.append(int(np.argmax(np.where(np.isin(np.arange(40), chosen), -np.inf, variance))))
    assert most_diverse(z, 15).tolist() == chosen


def q_diverse_written_out(content, quality, count, gamma, batch, seed):
    """The coreset by dense linear algebra in float64, with exact eigenvectors, batch by batch."""
    n = len(content)
    rng = np.random.default_rng(seed)
    batches = [np.arange(n)] if batch is None else np.array_split(rng.permutation(n), math.ceil(n / batch))
    ends = [sum(len(rows) for rows in batches[: k + 1]) * count // n for k in range(len(batches))]
    lists = []
    for rows, quota in zip(batches, np.diff(ends, prepend=0)):
        of_content, of_quality = (
            cdist(x[rows].astype(np.float64), x[rows].astype(np.float64)) for x in (content, quality)
        )
        blend = gamma * of_content / of_content.max() + (1 - gamma) * of_quality / of_quality.max()
        affinity = np.exp(-(blend**2) / (2 * np.median(squareform(blend, checks=False)) ** 2))
        roots = np.sqrt(affinity.sum(axis=1))
        values, vectors = eigh(np.eye(len(rows)) - affinity / np.outer(roots, roots))
        energies = np.maximum(1 - values, 0)  # the blend is no Euclidean distance, so that some are below 0
        share = np.cumsum(energies) / energies.sum()
        z = vectors[:, : int(np.searchsorted(share, 0.95)) + 1]
        kernel = np.exp(-cdist(z, z, "sqeuclidean") / (2 * np.median(pdist(z)) ** 2))
        chosen = [0]
        while len(chosen) < quota:
            inverse = np.linalg.inv(kernel[np.ix_(chosen, chosen)] + 1e-6 * np.eye(len(chosen)))
            variance = np.diag(kernel - kernel[:, chosen] @ inverse @ kernel[chosen]).copy()
            variance[chosen] = -np.inf
            chosen.append(int(np.argmax(variance)))
        lists.append(rows[chosen].tolist())
    return [rows[place] for place in range(max(map(len, lists))) for rows in lists if place < len(rows)]


@pytest.mark.parametrize(("batch", "gamma"), [(None, 0.5), (30, 0.0), (30, 1.0), (41, 0.7)])
def test_the_whole_of_it_equals_dense_linear_algebra(batch, gamma):
    """Order and all; with every sample of a batch a landmark the eigenvectors are exact."""
    rows = q_diverse(CONTENT, QUALITY, 20, gamma, batch=batch, landmarks=600, seed=4)
    assert rows.tolist() == q_diverse_written_out(CONTENT, QUALITY, 20, gamma, batch, seed=4)


@pytest.mark.parametrize("batch, landmarks, gamma", [(30, 12, 1.0), (1, 1, 0.7)])
def test_with_few_landmarks_it_is_the_same_for_a_seed(batch, landmarks, gamma):
    rows = q_diverse(CONTENT, QUALITY, 20, gamma, batch=batch, landmarks=landmarks, seed=4)
    assert len(set(rows.tolist())) == 20
    again = q_diverse(CONTENT, QUALITY, 20, gamma, batch=batch, landmarks=landmarks, seed=4)
    np.testing.assert_array_equal(rows, again)


def test_every_batch_gives_its_share():
    done = []
    rows = q_diverse(CONTENT, QUALITY, 0.25, batch=30, seed=1, progress=lambda *counts: done.append(counts))
    batches = np.array_split(np.random.default_rng(1).permutation(80), 3)
    assert sorted(int(np.isin(rows, batch).sum()) for batch in batches) == [6, 7, 7]
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_gamma_decides_which_diversity_counts():
    groups = np.repeat(np.eye(4), 10, axis=0)
    noise = 0.01 * RNG.normal(size=(40, 4))
    for gamma, content, quality in ((1.0, groups + noise, noise), (0.0, noise, groups + noise)):
        rows = q_diverse(content, quality, 4, gamma, batch=None)
        assert sorted(rows // 10) == [0, 1, 2, 3]


@pytest.mark.parametrize("options, sentence", [
    ({"gamma": 1.1}, "gamma must be a number from 0 to 1"), ({"energy": 0.0}, "energy must"),
    ({"landmarks": 0}, "number of landmarks"), ({"batch": 0}, "batch size"),
])  # fmt: skip
def test_bad_options_are_one_sentence(options, sentence):
    with pytest.raises(SelectionError, match=sentence):
        q_diverse(CONTENT, QUALITY, 5, **options)


def test_the_whole_set_at_once_has_a_limit():
    with pytest.raises(SelectionError, match="up to 20,000 samples, not 20,001"):
        q_diverse(np.zeros((20_001, 1)), np.zeros((20_001, 1)), 5, batch=None)
