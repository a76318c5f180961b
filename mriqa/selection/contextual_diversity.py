"""Contextual diversity: each step takes the image whose level confusions are most unlike those of all selected ones.

Agarwal et al., "Contextual diversity for active learning" (ECCV 2020), as the supplement of Q-Diverse adapts it to
scores (E.2): MOS cut into L bins stand for classes, and from the level probabilities of the images of each bin comes an
L × L co-occurrence matrix. As in CDAL, a row of it is the mean of the probabilities weighted by their entropies, the
distance of two images is the symmetric Kullback-Leibler divergence of their matrices averaged over the class rows, and
selection is the farthest-first traversal under it, the core-set variant.

**Chosen**, since the supplement leaves it open and an image has a single distribution here: an image's matrix is the
co-occurrence matrix of the whole set with the image's own probabilities in the row of its bin. (With the other rows
empty, as CDAL's code skips those, images of different bins would all have distance 0.)

Legend: N samples, L quality levels and bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mriqa.selection.arrays import FloatArray, IndexArray, SelectionError, as_features, as_scores
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.classes import bins_of
from mriqa.selection.contract import Selector, always
from mriqa.selection.k_center import farthest_first


def select(features: Any, budget: Budget, *, scores: Any = None, seed: int = 0) -> IndexArray:
    """Rows (M,) in selection order: the first drawn by `seed`, then the most unlike; of equal ones the lowest.

    Arguments:
        features: **logits (N, L) of the quality levels**, at least two, of a model that predicts such.
        budget: count or fraction.
        scores: (N,), cut into L bins of equal width.
        seed: of the first draw.

    Raises:
        SelectionError: logits that are no finite (N, L) with L at least 2, scores that are not finite or not as many,
            or a budget that is none.
    """
    logits_NL = as_features(features, "Level logits").astype(np.float64)
    if logits_NL.shape[1] < 2:
        raise SelectionError("Contextual diversity compares level logits (N, L) of at least two levels; there is one.")
    bin_N = bins_of(as_scores(scores, len(logits_NL)), logits_NL.shape[1])
    count = count_of(budget, len(logits_NL))
    log_NL = logits_NL - _log_sum_exp(logits_NL, axis=1)[:, None]
    row_LL = co_occurrence(log_NL, bin_N)
    from_own_row_N = _symmetric_kl(log_NL, row_LL[bin_N])

    def divergence(image: int) -> FloatArray:
        same_bin_N = bin_N == bin_N[image]  # else two rows differ, that of either's bin
        of_rows_N = np.where(same_bin_N, _symmetric_kl(log_NL, log_NL[image]), from_own_row_N + from_own_row_N[image])
        return of_rows_N / logits_NL.shape[1]

    return farthest_first(divergence, len(log_NL), count, seed)


def co_occurrence(log_NL: FloatArray, bin_N: IndexArray) -> FloatArray:
    """Logarithms (L, L) of the mean level probabilities of each bin, weighted by their entropies; 0 without images."""
    entropy_N = -(np.exp(log_NL) * log_NL).sum(axis=1)
    row_LL = np.zeros((log_NL.shape[1], log_NL.shape[1]))
    for level in np.unique(bin_N):
        members = bin_N == level
        weight_M = entropy_N[members]
        if not weight_M.any():  # predictions without doubt weigh the same
            weight_M = np.ones(len(weight_M))
        with np.errstate(divide="ignore"):
            log_weight_M = np.log(weight_M / weight_M.sum())
        row_LL[level] = _log_sum_exp(log_NL[members] + log_weight_M[:, None], axis=0)
    return row_LL


def _symmetric_kl(log_p_NL: FloatArray, log_q_NL: FloatArray) -> FloatArray:
    """½ KL(p‖q) + ½ KL(q‖p) (N,) of distributions given by their logarithms."""
    return 0.5 * ((np.exp(log_p_NL) - np.exp(log_q_NL)) * (log_p_NL - log_q_NL)).sum(axis=1)


def _log_sum_exp(values: FloatArray, axis: int) -> FloatArray:
    from scipy.special import logsumexp

    return logsumexp(values, axis=axis)


SELECTOR = Selector(select, always("its level confusions are most unlike those chosen before it"), needs=("scores",))
