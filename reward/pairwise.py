"""What the rewards that compare images have in common: a mean over partner images, in bounded memory.

Legend: N images, G completions per image, M partner images (those with a parsed score), I images of one block.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from .comparison import ComparisonSet, FloatArray, IntArray, keep_valid

logger = logging.getLogger(__name__)

BLOCK = 2**16
"""Pair terms in flight at a time: half a megabyte of float64, which stays in a core's cache."""

Agreement = Callable[[FloatArray, IntArray, IntArray], FloatArray]
"""(predicted margins (I, G, M), image rows (I,), partner rows (M,)) -> agreement with the human margin (I, G, M).
The margins are the function's own to overwrite."""


def group_means(scores_NG: FloatArray) -> FloatArray:
    """Mean of each image's parsed scores (N,), NaN where none parsed."""
    parsed_NG = ~np.isnan(scores_NG)
    count_N = parsed_NG.sum(axis=1)
    total_N = np.where(parsed_NG, scores_NG, 0.0).sum(axis=1)
    return np.where(count_N > 0, total_N / np.maximum(count_N, 1), np.nan)


def group_variances(scores_NG: FloatArray) -> FloatArray:
    """Variance (ddof 1) of each image's parsed scores (N,); 0 for fewer than two of them."""
    count_N = (~np.isnan(scores_NG)).sum(axis=1)
    squares_NG = np.square(scores_NG - group_means(scores_NG)[:, None])
    return np.nansum(squares_NG, axis=1) / np.maximum(count_N - 1, 1)


def mean_over_partners(scores_NG: FloatArray, agreement: Agreement, means_N: FloatArray | None = None) -> FloatArray:
    """Mean over all partners j != i of `agreement`, for every completion.

    The predicted margin of completion k of image i against image j is s_ik minus the group mean of j. An image none of
    whose completions parsed is nobody's partner; a completion that did not parse gets 0; with no partner all get 0.

    Arguments:
        scores_NG: parsed scores, NaN where nothing parsed.
        agreement: see `Agreement`.
        means_N: the group means, NaN for nobody's partner, where they aren't those of these scores.

    Returns:
        (N, G) float64. Memory beyond inputs and output: a few blocks of max(BLOCK, G * M) numbers.
    """
    _n_images, n_completions = scores_NG.shape
    means_N = group_means(scores_NG) if means_N is None else means_N
    partners_M = np.flatnonzero(~np.isnan(means_N))
    result_NG = np.zeros_like(scores_NG)
    if len(partners_M) < 2:
        return result_NG

    images_per_block = max(1, BLOCK // (n_completions * len(partners_M)))
    for start in range(0, len(partners_M), images_per_block):
        own_I = np.arange(start, min(start + images_per_block, len(partners_M)))
        rows_I = partners_M[own_I]
        margins_IGM = scores_NG[rows_I, :, None] - means_N[partners_M]
        agreement_IGM = agreement(margins_IGM, rows_I, partners_M)
        agreement_IGM[np.arange(len(own_I)), :, own_I] = 0.0  # an image is not its own partner
        result_NG[rows_I] = agreement_IGM.sum(axis=2) / (len(partners_M) - 1)
    return np.where(np.isnan(scores_NG), 0.0, result_NG)


def warn_if_alone(reward_name: str, group: ComparisonSet) -> None:
    """Log a warning where fewer than two images can be compared, so that every reward is 0."""
    n_images = len(group.image_ids)
    n_parsed = int((~np.isnan(group_means(keep_valid(group.scores_NG)))).sum())
    if n_images == 1:
        logger.warning(
            "Reward '%s' compares images, but its comparison set holds only image %r: every reward is 0. "
            "Put at least two images into each generation batch.",
            reward_name,
            group.image_ids[0],
        )
    elif n_parsed < 2 <= n_images:
        logger.warning(
            "Reward '%s': %d of %d images have a parsed answer, too few to compare: every reward is 0.",
            reward_name,
            n_parsed,
            n_images,
        )
