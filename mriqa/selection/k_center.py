"""k-center greedy: each step takes the sample farthest from all selected ones.

Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach" (ICLR 2018). The greedy
covering radius is at most twice the best possible. Distances to one new centre a step; no N × N matrix.

Legend: N samples, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mriqa.selection.arrays import FloatArray, IndexArray, as_features
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.contract import Explanation, Selector
from mriqa.selection.distances import centred, squared_distances, squared_norms


def select(features: Any, budget: Budget, *, seed: int = 0) -> IndexArray:
    """Rows (M,) in selection order: the first drawn by `seed`, then the farthest; of equal ones the lowest.

    Works in float64 where the features take no more than 256 MiB so, and else in float32.

    Raises:
        SelectionError: features that are no finite (N, D), or a budget that is none.
    """
    features_ND = as_features(features)
    count = count_of(budget, len(features_ND))
    x_ND = centred(features_ND)
    norms_N = squared_norms(x_ND)
    smallest = 8 * float(np.finfo(x_ND.dtype).eps) * float(norms_N.max())  # what rounding leaves of duplicates

    def squared_distances_to(row: int) -> FloatArray:
        squared_N = norms_N + norms_N[row] - 2 * (x_ND @ x_ND[row])
        squared_N[squared_N < smallest] = 0.0
        return squared_N

    return farthest_first(squared_distances_to, len(x_ND), count, seed)


def explain(features: Any, rows_M: IndexArray, **_: Any) -> Explanation:
    """The distance of each row to the nearest one chosen before it; NaN for the first."""
    features_MD = as_features(features)[rows_M]
    nearest_M = np.full(len(features_MD), np.inf)
    for place in range(len(features_MD) - 1):
        later = slice(place + 1, None)
        away = squared_distances(features_MD[later], features_MD[place : place + 1])[:, 0]
        nearest_M[later] = np.minimum(nearest_M[later], away)
    nearest_M[0] = np.nan
    distances_M = np.sqrt(nearest_M)
    others = [f"{distance:.3g} away from the nearest row chosen before it" for distance in distances_M[1:]]
    return Explanation(distances_M, ["the first centre", *others])


def farthest_first(distances_to: Callable[[int], FloatArray], available: int, count: int, seed: int) -> IndexArray:
    """Farthest-first traversal (count,) by `distances_to(row)`, the distances (N,) of all samples to one."""
    chosen = np.empty(count, dtype=np.int64)
    chosen[0] = np.random.default_rng(seed).integers(available)
    nearest_N = np.full(available, np.inf)
    for step in range(1, count):
        np.minimum(nearest_N, distances_to(int(chosen[step - 1])), out=nearest_N)
        nearest_N[chosen[step - 1]] = -np.inf
        chosen[step] = np.argmax(nearest_N)
    return chosen


SELECTOR = Selector(select, explain)
