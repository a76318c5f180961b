"""PreSTA: keep the source samples whose scores hang together with their features as the target's do.

From "Rethinking Knowledge Transfer in Image Quality Assessment: A Perceptual Preference Structure Alignment
Perspective" and the code that its authors released. Backward greedy: starting from the whole source, each round removes
the one sample without which the PPC with the target is highest (PreSTA-S). For several sources each is selected from on
its own, against the same target (PreSTA-J).

Removals are those that evaluating every candidate by definition in every round gives; `screen` says how most of
that work is saved on large sets, and `exhaustive` does it all on small ones.

Legend: N samples, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mriqa.selection.arrays import (
    FloatArray,
    IndexArray,
    SelectionError,
    as_features,
    as_varied_scores,
    check_between,
    check_choice,
    check_same_width,
)
from mriqa.selection.ppr import as_ppr
from mriqa.selection.presta.exhaustive import Exhaustive, is_small
from mriqa.selection.presta.moments import KeptMoments
from mriqa.selection.presta.objectives import OBJECTIVES, CosineObjective
from mriqa.selection.presta.screen import Screen

Progress = Callable[[int, float], None]


@dataclass(frozen=True)
class Presta:
    """What PreSTA did to a source.

    Attributes:
        kept: the samples that stay, lowest first, int64.
        removed: the others in the order of their removal, int64.
        ppc: PPC with the target before the first removal and after each, (len(removed) + 1,). With the cosine objective
            and `min_gain` of at least 0 it never decreases.
        reason: why it stopped: "floor", "stop" or "min_gain".
    """

    kept: IndexArray
    removed: IndexArray
    ppc: FloatArray
    reason: str


def presta(
    features: Any, scores: Any, target_ppr: Any, floor: float = 0.2, stop: float = 0.9, min_gain: float = 1e-6, *,
    objective: str = "cosine", progress: Progress | None = None,
) -> Presta:  # fmt: skip
    """PreSTA-S: remove, one by one, the source samples whose removal raises the PPC with the target most.

    It stops at the first of: the kept share has reached `floor`, so that floor(`floor` · N) samples stay, at least one;
    the PPC is at least `stop`; the best removal gains at most `min_gain`.

    Chosen, where the paper leaves it open: a feature that is constant, or becomes so, has correlation 0, and so do all
    when the scores left are all the same; a PPR of zeros has PPC 0; **of removals equally good to 1e-14 the sample of
    the lowest index goes**.

    Arguments:
        features: source features (N, D), N at least 2.
        scores: source scores (N,), higher being better.
        target_ppr: PPR of the target (D,) from the same encoder; see `ppr`.
        floor: share of the samples to keep at least, 0..1.
        stop: PPC that is enough; 0.9 in the paper, 0.95 for joint training. Above 1 it never stops for that.
        min_gain: gain that is too small. `float("-inf")` goes on to the floor, though the PPC may fall then.
        objective: "cosine" is the paper's. "euclidean" lowers ‖r - t‖₂ instead, as the released code does; `min_gain`
            is then in those units, while `stop` and `.ppc` remain PPCs.
        progress: called after each removal with the number of samples kept and the PPC.

    Raises:
        SelectionError: fewer than two samples; features all constant, or scores; a target PPR of zeros or another
            width; NaN or infinity; an option out of range.

    Example:
        >>> source = [[1.0, 3.0], [2.0, 1.0], [3.0, 2.0], [9.0, 0.0]]
        >>> presta(source, [1.0, 2.0, 3.0, 0.5], target_ppr=[1.0, 0.0], stop=1.0).removed
        array([3])
    """
    features_ND = as_features(features, "Source features", at_least=2)
    scores_N = as_varied_scores(scores, len(features_ND), "Source scores")
    target_D = as_ppr(target_ppr, "The target PPR")
    check_same_width(features_ND, target_D, "Source features", "The target PPR")
    if not target_D.any():
        raise SelectionError("The target PPR is all zeros, so no source is like it; look at the target's features.")
    check_between("floor", floor, 0.0, 1.0)
    check_choice("objective", objective, OBJECTIVES)
    if not all(isinstance(value, (int, float, np.number)) and value == value for value in (stop, min_gain)):  # NaN
        raise SelectionError(f"stop and min_gain must be numbers, not {stop!r} and {min_gain!r}.")

    moments = KeptMoments(features_ND, scores_N)
    if not moments.scale_D.any():
        raise SelectionError("Every source feature is the same for all samples; look at the encoder.")
    aim, ppc_of = OBJECTIVES[objective](target_D), CosineObjective(target_D).values
    search: Exhaustive | Screen = Exhaustive(moments, aim) if is_small(moments) else Screen(moments, aim)
    removed: list[int] = []
    ppc, now = [ppc_of(search.r_D[None])[0]], aim.values(search.r_D[None])[0]
    reason = "floor"
    while moments.count > 1 and moments.count / len(scores_N) > floor:
        if ppc[-1] >= stop:
            reason = "stop"
            break
        place, value = search.best()
        if value - now <= min_gain:
            reason = "min_gain"
            break
        removed.append(int(moments.rows_N[place]))
        search.remove(place)
        if isinstance(search, Screen) and is_small(moments):
            search = Exhaustive(moments, aim)
        now = value
        ppc.append(value if objective == "cosine" else ppc_of(search.r_D[None])[0])
        if progress is not None:
            progress(moments.count, ppc[-1])
    return Presta(np.sort(moments.rows_N[moments.alive_N]), np.array(removed, dtype=np.int64), np.array(ppc), reason)


def presta_joint(
    sources: Mapping[str, tuple[Any, Any]], target_ppr: Any, floor: float = 0.2, stop: float = 0.95, min_gain: float =
    1e-6, *, objective: str = "cosine", progress: Progress | None = None,
) -> dict[str, Presta]:  # fmt: skip
    """PreSTA-J: PreSTA-S for each source on its own, with the higher threshold. Train on target ∪ what is kept.

    Arguments:
        sources: name -> features (n, D) and scores (n,); each source has a score scale of its own.
        others: as of `presta`.

    Raises:
        SelectionError: no sources, or what `presta` refuses, naming the source.
    """
    if not sources:
        raise SelectionError("There are no sources to select from; give at least one.")
    chosen = {}
    for name, (features, scores) in sources.items():
        try:
            chosen[name] = presta(
                features, scores, target_ppr, floor, stop, min_gain, objective=objective, progress=progress
            )
        except SelectionError as error:
            raise SelectionError(f"Source {name!r}: {error}") from error
    return chosen
