"""Choose rows of one manifest with any selector, and say of each chosen row why.

What a selector needs beside features is got here: the target's features or PPR, quality features, scores.

Legend: N rows, M chosen ones, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mriqa.manifest import RatedImage
from mriqa.selection.arrays import FloatArray, IndexArray, SelectionError, check_choice
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.distances import squared_distances
from mriqa.selection.kmm import kmm_weights
from mriqa.selection.ppr import cosines, ppc, ppr
from mriqa.selection.presta.greedy import presta
from mriqa.selection.presta.moments import KeptMoments
from mriqa.selection.selectors import INPUTS, SELECTORS, load

ALL = "all"
NEEDS_TARGET = ("presta", "kmm")
STOPPING = ("stop", "min_gain")  # PreSTA's rules by which it may keep more than the budget

FeaturesOf = Callable[[Sequence[Path], str], FloatArray]
"""Picture files and the role of the features, "content" or "quality", to features (N, D)."""

REASONS = {
    ALL: "all rows are taken",
    "random": "drawn at random",
    "herding": "brings the mean of the chosen rows nearest to that of all",
    "k_center": "farthest from the rows chosen before it",
    "contextual_diversity": "its prediction is most unlike those chosen before it",
    "moderate": "its distance from the centre of its score bin is nearest to the median",
    "pgcs": "its partition's turn, at an even step from core to rim",
    "q_diverse": "adds most diversity of content and quality to its batch",
}


@dataclass(frozen=True)
class Choice:
    """How to choose: a selector of `mriqa.selection` or "all", a budget, its options, and the target it may need.

    With PreSTA the options `stop` and `min_gain` let it end before the budget is reached, as the paper's rules do;
    without them it keeps exactly the budget.
    """

    selector: str = ALL
    budget: Budget = 1.0
    target: Sequence[RatedImage] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("selector", self.selector, [*SELECTORS, ALL])
        if self.selector in NEEDS_TARGET and not self.target:
            raise SelectionError(
                f"Selector {self.selector!r} chooses for a target: name the manifest of the images to resemble."
            )


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


def choose(rows: Sequence[RatedImage], how: Choice, features_of: FeaturesOf) -> Chosen:
    """Choose from `rows`.

    Raises:
        SelectionError: a budget that is none, an option the selector doesn't know, or features it can't select from.
        ImageError: a picture can't be read.
    """
    count = count_of(how.budget, len(rows))
    if how.selector == ALL:
        if count < len(rows):
            raise SelectionError(f"The budget {how.budget} takes {count} of {len(rows)} rows; name a selector for it.")
        return Chosen(np.arange(len(rows)), np.full(len(rows), np.nan), [REASONS[ALL]] * len(rows), None, {})
    features_ND = features_of([row.image for row in rows], "content")
    scores_N = np.array([row.mos for row in rows])
    inputs: dict[str, Any] = {"seed": how.seed}
    if "scores" in INPUTS[how.selector]:
        inputs["scores"] = scores_N
    if "quality" in INPUTS[how.selector]:
        inputs["quality"] = features_of([row.image for row in rows], "quality")
    target_ND = features_of([row.image for row in how.target], "content") if how.target else None
    target_ppr = None
    if how.target and how.selector == "presta":
        target_ppr = ppr(target_ND, [row.mos for row in how.target])
        inputs["target_ppr"] = target_ppr
    if how.selector == "kmm":
        inputs["target"] = target_ND
    chosen = _run(how, features_ND, count, inputs)

    scores_M, reasons = np.full(len(chosen), np.nan), [REASONS.get(how.selector, "")] * len(chosen)
    summary: dict[str, float] = {}
    if how.selector == "kmm":
        options = {name: value for name, value in how.options.items() if name != "draw"}
        scores_M = kmm_weights(features_ND, target_ND, seed=how.seed, **options)[chosen]
        reasons = [f"kernel-mean-matching weight {score:.3f}" for score in scores_M]
    if how.selector == "k_center":
        scores_M = _distance_to_earlier(features_ND[chosen])
        reasons = [
            "the first centre",
            *(f"{score:.3g} away from the nearest row chosen before it" for score in scores_M[1:]),
        ]
    if target_ppr is not None:
        before, after = (ppc(ppr(features_ND[own], scores_N[own]), target_ppr) for own in (slice(None), chosen))
        summary = {"ppc_before": before, "ppc_after": after}
        moments = KeptMoments(features_ND[chosen], scores_N[chosen])
        without_M = cosines(moments.without(np.arange(len(chosen))), target_ppr)
        scores_M = after - without_M
        reasons = [f"PPC with the target {after:.4f}, {other:.4f} without this row" for other in without_M]
    return Chosen(chosen, scores_M, reasons, features_ND, summary)


def _run(how: Choice, features_ND: FloatArray, count: int, inputs: dict[str, Any]) -> IndexArray:
    try:
        if how.selector == "presta" and any(name in how.options for name in STOPPING):
            floor = count / len(features_ND)
            return presta(features_ND, inputs["scores"], inputs["target_ppr"], floor, **how.options).kept
        return load(how.selector)(features_ND, count, **inputs, **how.options)
    except TypeError as error:
        raise SelectionError(f"Selector {how.selector!r} can't take options {how.options}: {error}.") from error


def _distance_to_earlier(features_MD: FloatArray) -> FloatArray:
    """Distance of each row to the nearest row before it (M,); NaN for the first."""
    nearest_M = np.full(len(features_MD), np.inf)
    for place in range(len(features_MD) - 1):
        later = slice(place + 1, None)
        away = squared_distances(features_MD[later], features_MD[place : place + 1])[:, 0]
        nearest_M[later] = np.minimum(nearest_M[later], away)
    nearest_M[0] = np.nan
    return np.sqrt(nearest_M)
