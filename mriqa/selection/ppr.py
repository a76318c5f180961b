"""Perceptual preference representation (PPR) of a rated set, and how alike two sets prefer (PPC).

From "Rethinking Knowledge Transfer in Image Quality Assessment: A Perceptual Preference Structure Alignment
Perspective" (PreSTA). The PPR of a set is, for each feature dimension, the Pearson correlation of that feature with the
score; the PPC of two sets is the cosine of their PPRs. Scores may be on any scale, but higher must mean better: flip
DMOS first.

Legend: N samples, D feature width, S sets, F fractions of labels, R draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mriqa.selection.arrays import (
    FloatArray,
    SelectionError,
    as_features,
    as_floats,
    as_varied_scores,
    check_between,
)

COLUMN_BLOCK = 256  # columns centred at once, in float64: 20 MB for 10,000 samples


def ppr(features: Any, scores: Any) -> FloatArray:
    """PPR (D,) of features (N, D) with scores (N,): Pearson correlations in [-1, 1], by population moments, in float64.

    **A feature that is the same for all samples has correlation 0** (chosen; the paper leaves it open).

    Raises:
        SelectionError: fewer than two samples, scores all the same, lengths that differ, NaN or infinity.

    Example:
        >>> ppr([[1.0, 5.0, 2.0], [2.0, 5.0, 1.0], [3.0, 5.0, 0.0]], [10, 20, 30])
        array([ 1.,  0., -1.])
    """
    features_ND = as_features(features, at_least=2)
    return correlations(features_ND, as_varied_scores(scores, len(features_ND)))


def ppc(a: Any, b: Any) -> float:
    """Cosine in [-1, 1] of two PPRs (D,). **0 where one of them is all zeros** (chosen): such a set prefers nothing.

    Raises:
        SelectionError: PPRs of different widths, NaN or infinity.
    """
    a_D, b_D = as_ppr(a, "The first PPR"), as_ppr(b, "The second PPR")
    if a_D.shape != b_D.shape:
        raise SelectionError(
            f"The PPRs have widths {len(a_D)} and {len(b_D)}; take the features of both sets from one encoder."
        )
    return float(cosines(a_D[None], b_D)[0])


def ppc_matrix(pprs: Mapping[str, Any]) -> tuple[list[str], FloatArray]:
    """Names of the sets, and PPC of every pair of them (S, S) in float64: symmetric, 1 on the diagonal.

    Arguments:
        pprs: name of a set -> its PPR (D,), of one encoder.

    Raises:
        SelectionError: no sets, or what `ppc` refuses.
    """
    if not pprs:
        raise SelectionError("There are no sets to compare; give at least one PPR.")
    names = list(pprs)
    return names, np.array([[ppc(pprs[row], pprs[column]) for column in names] for row in names])


def ppr_stability(
    features: Any, scores: Any, fractions: Sequence[float] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5), draws: int = 100,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """How well few labels estimate a PPR: PPC of random subsets with the whole set (Fig. 1 of the supplement).

    Arguments:
        features, scores: (N, D) and (N,).
        fractions: of the samples (F,), in (0, 1]; each draw takes that many without replacement, rounded, at least two.
        draws: R; the paper has 100.
        seed: of the draws.

    Returns:
        mean (F,) and standard deviation (F,), ddof 0, over the draws. A draw whose scores are all the same counts 0.

    Raises:
        SelectionError: what `ppr` refuses, fractions outside (0, 1], no draws.
    """
    features_ND = as_features(features, at_least=2)
    scores_N = as_varied_scores(scores, len(features_ND))
    check_between("The number of draws", draws, 1, np.inf)
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise SelectionError(f"The fraction {fraction!r} of labels must be above 0 and at most 1.")
    whole_D = correlations(features_ND, scores_N)
    rng = np.random.default_rng(seed)
    cosines_FR = np.empty((len(fractions), draws))
    for place, fraction in enumerate(fractions):
        size = min(max(2, round(fraction * len(scores_N))), len(scores_N))
        for draw in range(draws):
            rows = rng.choice(len(scores_N), size, replace=False)
            cosines_FR[place, draw] = cosines(correlations(features_ND[rows], scores_N[rows])[None], whole_D)[0]
    return cosines_FR.mean(axis=1), cosines_FR.std(axis=1)


def as_ppr(given: Any, what: str) -> FloatArray:
    """A PPR (D,) in float64. SelectionError for another shape, NaN or infinity."""
    ppr_D = as_floats(given, what).astype(np.float64)
    if ppr_D.ndim != 1 or len(ppr_D) == 0 or not np.isfinite(ppr_D).all():
        raise SelectionError(
            f"{what} must be one vector of finite numbers, as `ppr` gives; its shape is {ppr_D.shape}."
        )
    return ppr_D


def correlations(features_ND: npt.NDArray[Any], scores_N: npt.NDArray[Any]) -> FloatArray:
    """Correlation (D,) of each column with the scores, in two passes of float64; 0 where either is constant."""
    width = features_ND.shape[1]
    correlations_D = np.zeros(width)
    if len(scores_N) == 0 or scores_N.min() == scores_N.max():
        return correlations_D
    dy_N = unit_deviations(scores_N[:, None].astype(np.float64))[:, 0]
    for start in range(0, width, COLUMN_BLOCK):
        df_Nd = unit_deviations(features_ND[:, start : start + COLUMN_BLOCK].astype(np.float64))
        correlations_D[start : start + COLUMN_BLOCK] = dy_N @ df_Nd
    return np.clip(correlations_D, -1.0, 1.0)


def unit_deviations(values_ND: FloatArray) -> FloatArray:
    """Each column less its mean, divided by its norm; zeros where all its values are equal. Changes `values_ND`."""
    constant_D = values_ND.min(axis=0) == values_ND.max(axis=0)
    values_ND -= values_ND.mean(axis=0)
    values_ND[:, constant_D] = 0.0  # the mean of equal values may be one rounding off
    # by the largest first, so that squares neither overflow nor vanish
    values_ND /= np.where(constant_D, 1.0, np.abs(values_ND).max(axis=0))
    return values_ND / np.where(constant_D, 1.0, np.sqrt(np.square(values_ND).sum(axis=0)))


def cosines(a_MD: FloatArray, b_D: FloatArray) -> FloatArray:
    """Cosine (M,) of each row with `b_D`; 0 where either is all zeros."""
    norms_M = np.sqrt(np.square(a_MD).sum(axis=1)) * np.sqrt(np.square(b_D).sum())
    products_M = (a_MD * b_D).sum(axis=1)
    return np.clip(np.divide(products_M, norms_M, out=np.zeros(len(a_MD)), where=norms_M > 0), -1.0, 1.0)
