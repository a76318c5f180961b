"""Q-Diverse: label-free coresets that are diverse in content and in quality at once.

From "Diversity Preserving Coresets for Image Quality Assessment" and its supplement. In each batch of b samples:
distances between content embeddings and between quality embeddings; their blend; an RBF graph and its Laplacian; a
spectral embedding by the Nyström method with l landmarks; then greedy selection by a geometric diversity score. O(b² +
l³ + b M²) for a batch, so linear in N at fixed b; samples go to batches at random and each batch gives its share of the
budget.

**Chosen**, since only the supplement is at hand: both distance matrices scaled to a maximum of 1, then blended as
γ · content + (1 - γ) · quality; median distance as bandwidth of both kernels; the symmetric normalised Laplacian and
its smallest eigenvectors, the trivial one included, as many as hold 95 % of the sum of the positive eigenvalues of
I - Laplacian (a blend of distances has a few negative ones); as diversity score the conditional variance
k(x, x) - k_xS (K_SS + εI)⁻¹ k_Sx, which is greedy log-determinant, updated by an incremental Cholesky factor; of equal
scores the lowest place in the batch first.

Legend: N samples, D feature width, B samples in a batch, L landmarks, R eigenvectors, M samples selected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mriqa.selection.arrays import FloatArray, IndexArray, SelectionError, as_features, check_between
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.classes import interleave
from mriqa.selection.contract import Selector, always
from mriqa.selection.distances import rbf, squared_distances, typical_distance

WHOLE_SET_UP_TO = 20_000  # samples; their distances take 3 GB
EPSILON = 1e-6

Progress = Callable[[int, int], None]


def q_diverse(
    content: Any, quality: Any, budget: Budget, gamma: float = 0.5, *, batch: int | None = 1000, landmarks: int = 600,
    energy: float = 0.95, seed: int = 0, progress: Progress | None = None,
) -> IndexArray:  # fmt: skip
    """Rows (M,) of a coreset: the first choice of each batch, then the second of each, and so on.

    Arguments:
        content: embeddings (N, Dc) of what an image shows; ResNet-50 in the paper.
        quality: embeddings (N, Dq) of how good it is; ARNIQA in the paper.
        budget: count or fraction.
        gamma: γ in 0..1, the weight of content; 0.5 in the paper, 0.7 for TID2013.
        batch: b, at most that many samples in a batch (all of nearly the same size); None for the whole set at once.
        landmarks: l, drawn in each batch; at or above its size the eigenvectors are exact.
        energy: share of the eigenvalues to keep, in (0, 1].
        seed: of the batches and the landmarks.
        progress: called after each batch with the number of batches done and of all.

    Raises:
        SelectionError: embeddings that are not finite or not as many of each, γ or energy out of range, batch or
            landmarks below 1, the whole set at once beyond 20,000 samples, or a budget that is none.
    """
    content_ND, quality_ND = as_features(content, "Content embeddings"), as_features(quality, "Quality embeddings")
    n = len(content_ND)
    if len(quality_ND) != n:
        raise SelectionError(
            f"There are {n} content but {len(quality_ND)} quality embeddings; give both of each sample."
        )
    check_between("gamma", gamma, 0.0, 1.0)
    check_between("energy", energy, 1e-9, 1.0)
    check_between("The number of landmarks", landmarks, 1, np.inf)
    if batch is not None:
        check_between("The batch size", batch, 1, np.inf)
    elif n > WHOLE_SET_UP_TO:
        raise SelectionError(
            f"The whole set at once is for up to {WHOLE_SET_UP_TO:,} samples, not {n:,}; give a batch size."
        )
    count = count_of(budget, n)
    rng = np.random.default_rng(seed)
    rows_KB = [np.arange(n)] if batch is None else np.array_split(rng.permutation(n), -(-n // int(batch)))
    ends = np.cumsum([len(rows) for rows in rows_KB]) * count // n  # each batch's share, rounded so that all sum up
    chosen = []
    for done, (rows, quota) in enumerate(zip(rows_KB, np.diff(ends, prepend=0)), start=1):
        blend_BB = blended_distances(content_ND[rows], quality_ND[rows], gamma)
        marks_L = np.sort(rng.choice(len(rows), min(int(landmarks), len(rows)), replace=False))
        z_BR = spectral_embedding(blend_BB, marks_L, energy)
        chosen.append(rows[most_diverse(z_BR, int(quota))])
        if progress is not None:
            progress(done, len(rows_KB))
    return interleave(chosen)


def select(
    features: Any, budget: Budget, *, quality: Any = None, seed: int = 0, gamma: float = 0.5, batch: int | None = 1000,
    landmarks: int = 600, energy: float = 0.95, progress: Progress | None = None,
) -> IndexArray:  # fmt: skip
    """Q-Diverse under the contract of all selectors: features are the content embeddings; options as of `q_diverse`.

    Raises:
        SelectionError: no quality embeddings, or what `q_diverse` refuses.
    """
    if quality is None:
        raise SelectionError("Q-Diverse needs quality, embeddings of how good each image is, beside those of content.")
    return q_diverse(
        features, quality, budget, gamma, batch=batch, landmarks=landmarks, energy=energy, seed=seed, progress=progress
    )


def blended_distances(content_BD: FloatArray, quality_BD: FloatArray, gamma: float) -> FloatArray:
    """γ · content + (1 - γ) · quality distances (B, B), each scaled to a maximum of 1. Constant embeddings add
    nothing."""
    blend_BB = np.zeros((len(content_BD), len(content_BD)))
    for x_BD, weight in ((content_BD, gamma), (quality_BD, 1.0 - gamma)):
        x_BD = x_BD - x_BD.mean(axis=0, dtype=np.float64)
        distances_BB = np.sqrt(squared_distances(x_BD, x_BD))
        np.fill_diagonal(distances_BB, 0.0)
        distances_BB *= weight / (distances_BB.max() or 1.0)
        blend_BB += distances_BB
    return blend_BB


def spectral_embedding(distances_BB: FloatArray, marks_L: IndexArray, energy: float) -> FloatArray:
    """Smallest eigenvectors (B, R) of the symmetric normalised Laplacian of the RBF graph, by Nyström.

    With A = I - Laplacian, F = A_BL A_LL^(-1/2) has FFᵀ ≈ A (and = A where every sample is a landmark), so that the
    left singular vectors of F are orthonormal eigenvectors, found from the small matrix FᵀF.
    """
    bandwidth = typical_distance(distances_BB)
    affinity_BB = rbf(np.square(distances_BB), bandwidth)
    degree_B = affinity_BB.sum(axis=1)
    affinity_BL = affinity_BB[:, marks_L] / np.sqrt(degree_B[:, None] * degree_B[marks_L])
    values_L, vectors_LL = np.linalg.eigh(affinity_BL[marks_L])
    usable = values_L > 1e-10 * values_L[-1]
    f_BL = affinity_BL @ (vectors_LL[:, usable] / np.sqrt(values_L[usable]))
    values_L, vectors_LL = np.linalg.eigh(f_BL.T @ f_BL)
    values_L, vectors_LL = np.maximum(values_L[::-1], 0.0), vectors_LL[:, ::-1]
    held_L = np.cumsum(values_L)
    kept = min(int(np.searchsorted(held_L, energy * held_L[-1])) + 1, int((values_L > 1e-10 * values_L[0]).sum()))
    return f_BL @ (vectors_LL[:, :kept] / np.sqrt(values_L[:kept]))


def most_diverse(z_BR: FloatArray, count: int) -> IndexArray:
    """Places (count,) in selection order by conditional variance under an RBF kernel on z, ties by the lowest."""
    squared_BB = squared_distances(z_BR, z_BR)
    np.fill_diagonal(squared_BB, 0.0)
    kernel_BB = rbf(squared_BB, typical_distance(np.sqrt(squared_BB)))
    variance_B = kernel_BB.diagonal().copy()
    factor_MB = np.empty((count, len(z_BR)))  # rows of L⁻¹ K_SB, L the Cholesky factor of K_SS + εI
    chosen = np.empty(count, dtype=np.int64)
    for step in range(count):
        place = chosen[step] = np.argmax(variance_B)
        above_MB = factor_MB[:step]
        pivot = np.sqrt(kernel_BB[place, place] + EPSILON - above_MB[:, place] @ above_MB[:, place])
        factor_MB[step] = (kernel_BB[place] - above_MB[:, place] @ above_MB) / pivot
        variance_B -= np.square(factor_MB[step])
        variance_B[chosen[: step + 1]] = -np.inf
    return chosen


SELECTOR = Selector(select, always("adds most diversity of content and quality to its batch"), needs=("quality",))
