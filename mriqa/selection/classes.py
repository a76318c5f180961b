"""Scores as classes, what methods that were made for classes take of each, and the classes taking turns.

Moderate coreset, PGCS and contextual diversity come from classification. For scores, bins of equal width stand for
classes, as the Q-Diverse supplement does (E.2).

Legend: N samples, M members of a class, D feature width.
"""

from __future__ import annotations

import numpy as np

from mriqa.selection.arrays import FloatArray, IndexArray


def bins_of(scores_N: FloatArray, bins: int) -> IndexArray:
    """The bin (N,) of each score, 0..bins-1: equal parts of the range of the scores, the highest score in the last."""
    inner_edges = np.linspace(scores_N.min(), scores_N.max(), bins + 1)[1:-1]
    return np.digitize(scores_N, inner_edges).astype(np.int64)


def distances_to_centres(features_ND: FloatArray, class_N: IndexArray) -> FloatArray:
    """Euclidean distance (N,) of each sample to the centre of its class, the feature-wise median of the members."""
    distances_N = np.empty(len(features_ND))
    for label in np.unique(class_N):
        x_MD = features_ND[class_N == label].astype(np.float64)
        distances_N[class_N == label] = np.sqrt(np.square(x_MD - np.median(x_MD, axis=0)).sum(axis=1))
    return distances_N


def around_the_median(distances_M: FloatArray, count: int) -> IndexArray:
    """`count` places (count,) in a window of the order by distance, around its median rank M // 2, that one first.

    The window begins at M // 2 - count // 2. Of equal distances the lowest place comes first.
    """
    order_M = np.argsort(distances_M, kind="stable")
    outwards_M = np.argsort(np.abs(np.arange(len(order_M)) - len(order_M) // 2), kind="stable")
    return order_M[outwards_M[:count]]


def interleave(lists: list[IndexArray]) -> IndexArray:
    """The first of each list, then the second of each, and so on."""
    rank = np.concatenate([np.arange(len(rows)) for rows in lists])
    return np.concatenate(lists)[np.argsort(rank, kind="stable")].astype(np.int64)
