"""PreSTA under the contract of all selectors: exactly the budget, and what PPC would lose without each kept sample.

Legend: N samples, M kept ones, D feature width.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mriqa.selection.arrays import IndexArray, SelectionError, as_features, as_scores
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.contract import Explanation, Selector
from mriqa.selection.ppr import as_ppr, correlations, cosines
from mriqa.selection.presta.greedy import Progress, presta
from mriqa.selection.presta.moments import KeptMoments

STOP, MIN_GAIN = 0.9, 1e-6  # the paper's


def select(
    features: Any, budget: Budget, *, scores: Any = None, target_ppr: Any = None, seed: int = 0,
    objective: str = "cosine", stop: float | None = None, min_gain: float | None = None,
    progress: Progress | None = None,
) -> IndexArray:  # fmt: skip
    """Exactly `budget` samples, the lowest index first.

    It goes on to the budget though the PPC be high already, or fall. With `stop` or `min_gain`, the other being the
    paper's then, it ends by the rules of `presta` and **may keep more than the budget**. Being backward it has no first
    choice, and nothing in it is drawn, so `seed` has no effect.

    Raises:
        SelectionError: what `presta` and `count_of` refuse.
    """
    features_ND = as_features(features, "Source features", at_least=2)
    if target_ppr is None:
        raise SelectionError("PreSTA needs target_ppr, the PPR of the set to resemble; see mriqa.selection.ppr.")
    floor = count_of(budget, len(features_ND)) / len(features_ND)
    if stop is None and min_gain is None:
        stop, min_gain = np.inf, -np.inf
    stop = STOP if stop is None else stop
    min_gain = MIN_GAIN if min_gain is None else min_gain
    return presta(features_ND, scores, target_ppr, floor, stop, min_gain, objective=objective, progress=progress).kept


def explain(features: Any, rows_M: IndexArray, *, scores: Any, target_ppr: Any, **_: Any) -> Explanation:
    """What PPC with the target would lose without each row; PPC of all samples and of those kept."""
    features_ND = as_features(features)
    scores_N, target_D = as_scores(scores, len(features_ND)), as_ppr(target_ppr, "The target PPR")
    kept_MD, kept_M = features_ND[rows_M], scores_N[rows_M]
    pprs_2D = np.stack([correlations(features_ND, scores_N), correlations(kept_MD, kept_M)])
    before, after = (float(value) for value in cosines(pprs_2D, target_D))
    without_M = cosines(KeptMoments(kept_MD, kept_M).without(np.arange(len(rows_M))), target_D)
    return Explanation(
        after - without_M,
        [f"PPC with the target {after:.4f}, {other:.4f} without this row" for other in without_M],
        {"ppc_before": before, "ppc_after": after},
    )


SELECTOR = Selector(select, explain, needs=("scores", "target_ppr"))
