"""Herding: the running mean of the selected samples follows the mean of all.

Chen, Welling and Smola, "Super-samples from kernel herding" (UAI 2010), in its greedy form on features: each step takes
the sample that brings the mean of those selected nearest to the mean of all. One product of the features with a vector
a step; no N × N matrix.

Legend: N samples, D feature width.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mriqa.selection.arrays import IndexArray, as_features
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.contract import Selector, always
from mriqa.selection.distances import centred, squared_norms


def select(features: Any, budget: Budget, *, seed: int = 0) -> IndexArray:
    """Rows (M,) in selection order; of equal ones the lowest. Nothing is drawn, so `seed` has no effect.

    Works in float64 where the features take no more than 256 MiB so, and else in float32.

    Raises:
        SelectionError: features that are no finite (N, D), or a budget that is none.
    """
    features_ND = as_features(features)
    count = count_of(budget, len(features_ND))
    x_ND = centred(features_ND)
    norms_N = squared_norms(x_ND)
    total_D = np.zeros(x_ND.shape[1])  # of those selected; the mean of all is 0
    chosen = np.empty(count, dtype=np.int64)
    for step in range(count):
        distances_N = norms_N + 2 * (x_ND @ total_D.astype(x_ND.dtype))  # |total + x|² less |total|²
        distances_N[chosen[:step]] = np.inf
        chosen[step] = np.argmin(distances_N)
        total_D += x_ND[chosen[step]]
    return chosen


SELECTOR = Selector(select, always("brings the mean of the chosen rows nearest to that of all"))
