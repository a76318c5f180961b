"""Herding: the running sum of the selected samples follows that of the mean.

Chen, Welling and Smola, "Super-samples from kernel herding" (UAI 2010), on features. Two greedy forms:

* "inner_product", the default and kernel herding as it is written: each step takes the sample whose inner product with
  the running residual, (t + 1) · mean - sum of the t selected ones, is largest.
* "mean": each step takes the sample that brings the mean of those selected nearest to the mean of all.

With features of equal norm the two are the same. One product of the features with a vector a step; no N × N matrix.

Legend: N samples, D feature width.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mriqa.selection.arrays import IndexArray, as_features, check_choice
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.contract import Selector, always
from mriqa.selection.distances import centred, squared_norms

FORMS = ("inner_product", "mean")


def select(features: Any, budget: Budget, *, seed: int = 0, form: str = "inner_product") -> IndexArray:
    """Rows (M,) in selection order; of equal ones the lowest. Nothing is drawn, so `seed` has no effect.

    Works in float64 where the features take no more than 256 MiB so, and else in float32.

    Arguments:
        features, budget: as in the contract.
        form: "inner_product" or "mean", see above.

    Raises:
        SelectionError: features that are no finite (N, D), another form, or a budget that is none.
    """
    features_ND = as_features(features)
    check_choice("form of herding", form, FORMS)
    count = count_of(budget, len(features_ND))
    x_ND = centred(features_ND)  # then the residual is the mean less what was selected, and the mean of all is 0
    residual_D = features_ND.mean(axis=0, dtype=np.float64) if form == "inner_product" else np.zeros(x_ND.shape[1])
    penalty_N = 0.0 if form == "inner_product" else 0.5 * squared_norms(x_ND)  # ½|x - residual|² less ½|residual|²
    chosen = np.empty(count, dtype=np.int64)
    for step in range(count):
        gain_N = x_ND @ residual_D.astype(x_ND.dtype) - penalty_N
        gain_N[chosen[:step]] = -np.inf
        chosen[step] = np.argmax(gain_N)
        residual_D -= x_ND[chosen[step]]
    return chosen


SELECTOR = Selector(select, always("brings the chosen rows nearest to the mean of all"))
