"""Moderate coreset: samples at the median distance from the centre of their class, here of their score bin.

Xia et al., "Moderate coreset: a universal method of data selection for real-world data-efficient deep learning" (ICLR
2022). Scores are cut into bins of equal width that stand for classes, as the Q-Diverse supplement does (E.2).

Legend: N samples, D feature width, K bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mriqa.selection.arrays import IndexArray, as_features, as_scores, check_between
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.contract import Selector, always


def select(features: Any, budget: Budget, *, scores: Any = None, seed: int = 0, bins: int = 5) -> IndexArray:
    """Rows (M,), those nearest to the median distance first; of equal ones the lowest.

    The distance is the Euclidean one to the mean of the sample's own bin, and the median is over all samples, as in the
    authors' code. Nothing is drawn, so `seed` has no effect.

    Arguments:
        features, budget: as in the contract.
        scores: (N,). Where they are all the same there is one bin.
        bins: K equal parts of the range of scores (chosen: 5, the levels of a rating scale).

    Raises:
        SelectionError: features or scores that are not finite, lengths that differ, bins below 1, a budget that is
            none.
    """
    features_ND = as_features(features)
    scores_N = as_scores(scores, len(features_ND))
    check_between("The number of bins", bins, 1, np.inf)
    count = count_of(budget, len(features_ND))
    inner_edges = np.linspace(scores_N.min(), scores_N.max(), int(bins) + 1)[1:-1]
    bin_N = np.digitize(scores_N, inner_edges)
    distances_N = np.empty(len(features_ND))
    for level in np.unique(bin_N):
        x_MD = features_ND[bin_N == level].astype(np.float64)
        distances_N[bin_N == level] = np.sqrt(np.square(x_MD - x_MD.mean(axis=0)).sum(axis=1))
    return np.argsort(np.abs(distances_N - np.median(distances_N)), kind="stable")[:count]


SELECTOR = Selector(
    select, always("its distance from the centre of its score bin is nearest to the median"), needs=("scores",)
)
