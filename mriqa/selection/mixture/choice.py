"""Choose rows of one manifest with any selector, and say of each chosen row why.

What a selector needs beside features is got here: the target's features or PPR, quality features, scores. How it
selects and how it explains is its own affair, see `mriqa.selection.contract`.

Legend: N rows, M chosen ones, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mriqa.manifest import RatedImage
from mriqa.selection.arrays import FloatArray, IndexArray, SelectionError, check_choice
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.ppr import ppr
from mriqa.selection.selectors import SELECTORS, load

ALL = "all"

FeaturesOf = Callable[[Sequence[Path], str], FloatArray]
"""Picture files and the role of the features, "content" or "quality", to features (N, D)."""


@dataclass(frozen=True)
class Choice:
    """How to choose: a selector of `mriqa.selection` or "all", a budget, its options, and the target it may need.

    With PreSTA the options `stop` and `min_gain` let it end before the budget is reached, as the paper's rules do;
    without them it keeps exactly the budget.

    Raises:
        SelectionError: what `check_selector` refuses.
    """

    selector: str = ALL
    budget: Budget = 1.0
    target: Sequence[RatedImage] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        check_selector(self.selector, self.options, has_target=bool(self.target))


@dataclass(frozen=True)
class Chosen:
    """The rows that were chosen.

    Attributes:
        rows: their places (M,) in selection order.
        scores: a number of the selector's own for each (M,), NaN where it has none; `reasons` say what it is.
        reasons: why each was kept, a few words.
        features: content features (N, D) of all rows, None where nothing needed them.
        summary: PPC with the target before and after, where there is one.
    """

    rows: IndexArray
    scores: FloatArray
    reasons: list[str]
    features: FloatArray | None
    summary: dict[str, float]


def check_selector(name: str, options: Mapping[str, Any], has_target: bool) -> None:
    """SelectionError unless there is a selector of that name that takes these options, and the target that it needs."""
    check_choice("selector", name, [*SELECTORS, ALL])
    if name == ALL:
        return
    if SELECTORS[name].needs_target and not has_target:
        raise SelectionError(f"Selector {name!r} chooses for a target: name the manifest of the images to resemble.")
    SELECTORS[name].check_options(name, options)


def choose(rows: Sequence[RatedImage], how: Choice, features_of: FeaturesOf) -> Chosen:
    """Choose from `rows`.

    Raises:
        SelectionError: a budget that is none, or what the selector refuses.
        ImageError: a picture can't be read.
    """
    count = count_of(how.budget, len(rows))
    if how.selector == ALL:
        if count < len(rows):
            raise SelectionError(f"The budget {how.budget} takes {count} of {len(rows)} rows; name a selector for it.")
        return Chosen(np.arange(len(rows)), np.full(len(rows), np.nan), ["all rows are taken"] * len(rows), None, {})
    selector = load(how.selector)
    features_ND = features_of([row.image for row in rows], "content")
    inputs = {need: INPUT_OF[need](rows, how.target or (), features_of) for need in selector.needs}
    settings = {"seed": how.seed, **inputs, **how.options}
    rows_M = selector(features_ND, count, **settings)
    why = selector.explain(features_ND, rows_M, **settings)
    return Chosen(rows_M, why.scores_M, list(why.reasons), features_ND, dict(why.summary))


def _scores(rows: Sequence[RatedImage], target: Sequence[RatedImage], features_of: FeaturesOf) -> FloatArray:
    return np.array([row.mos for row in rows])


def _quality(rows: Sequence[RatedImage], target: Sequence[RatedImage], features_of: FeaturesOf) -> FloatArray:
    return features_of([row.image for row in rows], "quality")


def _target(rows: Sequence[RatedImage], target: Sequence[RatedImage], features_of: FeaturesOf) -> FloatArray:
    return features_of([row.image for row in target], "content")


def _target_ppr(rows: Sequence[RatedImage], target: Sequence[RatedImage], features_of: FeaturesOf) -> FloatArray:
    return ppr(_target(rows, target, features_of), [row.mos for row in target])


INPUT_OF = {"scores": _scores, "quality": _quality, "target": _target, "target_ppr": _target_ppr}
"""How to get what a selector needs (`mriqa.selection.contract.NEEDS`) from manifests and encoders."""
