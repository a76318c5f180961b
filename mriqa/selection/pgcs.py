"""PGCS: partitions that each cover the whole space, and of each the samples at a middling distance from its centre.

Nema, Zhu and Lin, "Holistic coreset selection for data efficient image quality assessment" (ICIP 2025), as in the
authors' public code:

1. t-SNE of the features to three dimensions.
2. Partitions by coverage precedence: for each image all images are ranked by distance in the projection and cut into K
   rank groups, 1 to K, of N // K images, the last with what remains; an image's coverage is the sum of the groups that
   it falls in. Images in the order of coverage are dealt in turn to K partitions. (Or k-means with K clusters.)
3. Quotas in proportion to the sizes of the partitions, rounded up; the surplus is taken back in proportion, rounded
   down, and the rest from whichever quota is largest.
4. In each partition distances to its centre, the feature-wise median of the original features, are sorted, and a window
   of the quota's size around the median rank is kept.

Published with K = 5 and the features of LIQE's encoder; any encoder's will do here.

Legend: N samples, D feature width, K partitions, P projected dimensions.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from mriqa.selection.arrays import FloatArray, IndexArray, as_features, check_between, check_choice
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.classes import around_the_median, distances_to_centres, interleave
from mriqa.selection.contract import Selector, always

PERPLEXITY = 30.0  # scikit-learn's and the authors'; a small set takes less
ROWS_AT_ONCE = 256
PARTITIONINGS = ("coverage", "k_means")


def select(
    features: Any, budget: Budget, *, seed: int = 0, partitions: int = 5, partitioning: str = "coverage",
    dimensions: int = 3,
) -> IndexArray:  # fmt: skip
    """Rows (M,): the first of each partition, from its median rank outwards, then the second of each, and so on.

    Arguments:
        features, budget: as in the contract.
        seed: of t-SNE, and of k-means.
        partitions: K, lowered to N where that is less.
        partitioning: "coverage" or "k_means".
        dimensions: of the projection.

    Raises:
        SelectionError: features that are no finite (N, D), partitions or dimensions below 1, another partitioning, or
            a budget that is none.
    """
    features_ND = as_features(features)
    check_between("The number of partitions", partitions, 1, np.inf)
    check_between("The number of dimensions", dimensions, 1, 3)
    check_choice("partitioning", partitioning, PARTITIONINGS)
    count = count_of(budget, len(features_ND))
    projected_NP = projection(features_ND, int(dimensions), seed)
    classes = min(int(partitions), len(features_ND))
    if partitioning == "coverage":
        label_N = deal(coverage(projected_NP, classes), classes)
    else:
        label_N = _k_means(projected_NP, classes, seed)
    distances_N = distances_to_centres(features_ND, label_N)
    members = [np.flatnonzero(label_N == label) for label in np.unique(label_N)]
    quotas = quotas_of(np.array([len(rows) for rows in members]), count)
    return interleave(
        [rows[around_the_median(distances_N[rows], quota)] for rows, quota in zip(members, quotas, strict=True)]
    )


def projection(features_ND: FloatArray, dimensions: int, seed: int) -> FloatArray:
    """t-SNE (N, P) of the features, by scikit-learn. Up to four samples, or where all are the same, zeros."""
    from sklearn.manifold import TSNE

    n, width = features_ND.shape
    if n <= 4 or not np.ptp(features_ND, axis=0).any():
        return np.zeros((n, dimensions))
    start = "pca" if width >= dimensions else "random"
    t_sne = TSNE(dimensions, perplexity=min(PERPLEXITY, (n - 1) / 3), init=start, random_state=seed)
    return t_sne.fit_transform(features_ND)


def coverage(projected_NP: FloatArray, groups: int) -> IndexArray:
    """Coverage (N,): the sum, over all samples, of the rank group 1..`groups` that a sample falls in by distance."""
    from scipy.spatial.distance import cdist

    n = len(projected_NP)
    group_of_rank_N = np.minimum(np.arange(n) // (n // groups), groups - 1) + 1
    coverage_N = np.zeros(n, dtype=np.int64)
    for start in range(0, n, ROWS_AT_ONCE):
        distances_RN = cdist(projected_NP[start : start + ROWS_AT_ONCE], projected_NP)
        for nearest_first_N in np.argsort(distances_RN, axis=1, kind="stable"):
            coverage_N[nearest_first_N] += group_of_rank_N
    return coverage_N


def deal(coverage_N: IndexArray, partitions: int) -> IndexArray:
    """The partition (N,) of each sample: dealt in turn, those of least coverage first."""
    label_N = np.empty(len(coverage_N), dtype=np.int64)
    label_N[np.argsort(coverage_N, kind="stable")] = np.arange(len(coverage_N)) % partitions
    return label_N


def quotas_of(sizes_K: IndexArray, count: int) -> list[int]:
    """Quotas in proportion to the sizes, that sum to `count`."""
    total = int(sizes_K.sum())
    quotas_K = -(-sizes_K * count // total)
    surplus = int(quotas_K.sum()) - count
    quotas_K = quotas_K - quotas_K * surplus // quotas_K.sum()
    for _ in range(int(quotas_K.sum()) - count):
        quotas_K[np.argmax(quotas_K)] -= 1
    return quotas_K.tolist()


def _k_means(projected_NP: FloatArray, clusters: int, seed: int) -> IndexArray:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():  # duplicates give fewer clusters than asked for, which is what we want of them
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(clusters, n_init=1, random_state=seed).fit_predict(projected_NP)


SELECTOR = Selector(select, always("its partition's turn, at a middling distance from the centre"))
