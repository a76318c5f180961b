"""A uniform draw without replacement: what every other selector has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np

from mriqa.selection.arrays import IndexArray, as_features
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.contract import Selector, always


def select(features: Any, budget: Budget, *, seed: int = 0) -> IndexArray:
    """Rows (M,) drawn uniformly, in the order of the draw. A larger budget with the same seed begins with the same
    rows.

    Raises:
        SelectionError: features that are no finite (N, D), or a budget that is none.
    """
    available = len(as_features(features))
    return np.random.default_rng(seed).permutation(available)[: count_of(budget, available)]


SELECTOR = Selector(select, always("drawn at random"))
