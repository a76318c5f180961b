"""Contextual diversity: each step takes the prediction most unlike all selected ones.

Agarwal et al., "Contextual diversity for active learning" (ECCV 2020), for one prediction an image over quality levels:
the distance of two images is the symmetric Kullback-Leibler divergence of their level distributions, and selection is
the farthest-first traversal under it, as in the authors' core-set variant.

Legend: N samples, L quality levels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mriqa.selection.arrays import FloatArray, IndexArray, SelectionError, as_features
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.contract import Selector, always
from mriqa.selection.k_center import farthest_first


def select(features: Any, budget: Budget, *, seed: int = 0) -> IndexArray:
    """Rows (M,) in selection order: the first drawn by `seed`, then the most unlike; of equal ones the lowest.

    Arguments:
        features: **logits (N, L) of the quality levels**, at least two, of a model that predicts such.
        budget: count or fraction.
        seed: of the first draw.

    Raises:
        SelectionError: logits that are no finite (N, L) with L at least 2, or a budget that is none.
    """
    logits_NL = as_features(features, "Level logits").astype(np.float64)
    if logits_NL.shape[1] < 2:
        raise SelectionError("Contextual diversity compares level logits (N, L) of at least two levels; there is one.")
    count = count_of(budget, len(logits_NL))
    logits_NL -= logits_NL.max(axis=1, keepdims=True)
    log_NL = logits_NL - np.log(np.exp(logits_NL).sum(axis=1, keepdims=True))
    p_NL = np.exp(log_NL)

    def divergence(row: int) -> FloatArray:
        return 0.5 * ((p_NL - p_NL[row]) * (log_NL - log_NL[row])).sum(axis=1)

    return farthest_first(divergence, len(p_NL), count, seed)


SELECTOR = Selector(select, always("its prediction is most unlike those chosen before it"))
