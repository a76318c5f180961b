"""PGCS: partition the space, and sample each partition according to its size and spread.

After Nema, Zhu and Lin, "Holistic coreset selection for data efficient image quality assessment" (ICIP 2025), of which
only this much is stated in the Q-Diverse supplement: partitions of the latent space give coverage, and adaptive
sampling within each balances representativeness. **Chosen**, since the paper is not at hand: k-means partitions; quotas
in proportion to size × root mean square distance from the centre, which lowers the variance of an estimated mean most
(Neyman); and within a partition, samples at even steps of the order of their distance from the centre, from core to
rim.

Legend: N samples, D feature width, P partitions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mriqa.selection.arrays import FloatArray, IndexArray, as_features, check_between
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.contract import Selector, always


def select(features: Any, budget: Budget, *, seed: int = 0, partitions: int = 20) -> IndexArray:
    """Rows (M,): the first of each partition, then the second of each, and so on.

    Arguments:
        features, budget: as in the contract.
        seed: of k-means.
        partitions: P, lowered to the budget where that is less.

    Raises:
        SelectionError: features that are no finite (N, D), partitions below 1, or a budget that is none.
    """
    from sklearn.cluster import MiniBatchKMeans

    features_ND = as_features(features)
    check_between("The number of partitions", partitions, 1, np.inf)
    count = count_of(budget, len(features_ND))
    means = MiniBatchKMeans(min(int(partitions), count), random_state=seed, n_init=3)
    label_N = _cluster(means, features_ND)
    members, spreads = [], []
    for label in np.unique(label_N):
        rows = np.flatnonzero(label_N == label)
        x_MD = features_ND[rows].astype(np.float64)
        distances_M = np.sqrt(np.square(x_MD - x_MD.mean(axis=0)).sum(axis=1))
        members.append(rows[np.argsort(distances_M, kind="stable")])
        spreads.append(np.sqrt(np.square(distances_M).mean()))
    quotas = _quotas(np.array(spreads) * [len(m) for m in members], np.array([len(m) for m in members]), count)
    picked = [rows[_even_steps(len(rows), quota)] for rows, quota in zip(members, quotas)]
    return interleave(picked)


def interleave(lists: list[IndexArray]) -> IndexArray:
    """The first of each list, then the second of each, and so on."""
    rank = np.concatenate([np.arange(len(rows)) for rows in lists])
    return np.concatenate(lists)[np.argsort(rank, kind="stable")].astype(np.int64)


def _cluster(means: Any, features_ND: FloatArray) -> IndexArray:
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():  # duplicates give fewer partitions than asked for, which is what we want of them
        warnings.simplefilter("ignore", ConvergenceWarning)
        return means.fit_predict(features_ND)


def _quotas(shares_P: FloatArray, sizes_P: IndexArray, count: int) -> IndexArray:
    """Whole quotas of at least 1 and at most the partition's size, in proportion to the shares, that sum to `count`."""
    quotas_P = np.ones(len(sizes_P), dtype=np.int64)
    shares_P = np.maximum(shares_P, 1e-12 * max(shares_P.max(), 1e-300))  # duplicates have no spread
    for _ in range(count - len(sizes_P)):  # the partition that is shortest of its share gets the next
        wanting_P = np.where(quotas_P < sizes_P, shares_P / (quotas_P + 0.5), -1.0)
        quotas_P[np.argmax(wanting_P)] += 1
    return quotas_P


def _even_steps(available: int, count: int) -> IndexArray:
    """`count` different places at even steps over 0..available-1, the middle of each step."""
    return ((2 * np.arange(count, dtype=np.int64) + 1) * available) // (2 * count)


SELECTOR = Selector(select, always("its partition's turn, at an even step from core to rim"))
