"""Moderate coreset: the samples whose distance from the centre of their class, here of their score bin, is middling.

Xia et al., "Moderate coreset: a universal method of data selection for real-world data-efficient deep learning" (ICLR
2022), as in the authors' code: a class's centre is the feature-wise median of its members, all distances are sorted
together, and what is kept is a window of the budget's size around the median rank. Bins of equal width of the scores
stand for classes, as the Q-Diverse supplement does (E.2).

Legend: N samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mriqa.selection.arrays import IndexArray, as_features, as_scores, check_between
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.classes import around_the_median, bins_of, distances_to_centres
from mriqa.selection.contract import Selector, always


def select(features: Any, budget: Budget, *, scores: Any = None, seed: int = 0, bins: int = 5) -> IndexArray:
    """Rows (M,), from the median rank outwards. Nothing is drawn, so `seed` has no effect.

    Arguments:
        features, budget: as in the contract.
        scores: (N,). Where they are all the same there is one bin.
        bins: equal parts of the range of scores (chosen: 5, the levels of a rating scale).

    Raises:
        SelectionError: features or scores that are not finite, lengths that differ, bins below 1, a budget that is
            none.
    """
    features_ND = as_features(features)
    scores_N = as_scores(scores, len(features_ND))
    check_between("The number of bins", bins, 1, np.inf)
    count = count_of(budget, len(features_ND))
    return around_the_median(distances_to_centres(features_ND, bins_of(scores_N, int(bins))), count)


SELECTOR = Selector(
    select, always("its distance from the centre of its score bin is around the median"), needs=("scores",)
)
