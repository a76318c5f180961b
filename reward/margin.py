"""The margin reward of MR-IQA: sampled quality margins should equal human ones.

Why margins: with the error e_i = s_i - y_i of score s_i against human score y_i, and its mean ē over N images,

    sum_i e_i² = 1/(2N) sum_ij (e_i - e_j)² + N ē²,    e_i - e_j = (s_i - s_j) - (y_i - y_j).

Regression on scores is therefore fitting all pairwise margins, plus one global offset that says nothing about the order
of images; ranking fits Φ of a margin (see `ranking.py`). The margin reward fits the margins themselves.
`tests/reward/test_rewards.py` checks the identity.

From "MR-IQA: A Unified Margin View of Regression and Ranking for Blind Image Quality Assessment" (2026).

Legend: N images, G completions per image, M partner images, I images of one block.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mriqa.choices import check_choice

from .comparison import FloatArray, IntArray, RewardError, check_arrays
from .pairwise import mean_over_partners

SCALES = ("unit", "sigma")
SMALLEST_TAU = 1e-4


def margin_reward(
    scores_NG: npt.ArrayLike,
    mos_N: npt.ArrayLike,
    std_N: npt.ArrayLike | None = None,
    scale: str = "unit",
    means_N: FloatArray | None = None,
) -> FloatArray:
    """Gaussian agreement of predicted and human margins, averaged over partners.

    R_ik = mean over j != i of exp(-½ ((Δ̂_ijk - Δ_ij) / τ_ij)²), with Δ̂_ijk = s_ik - s̄_j, Δ_ij = y_i - y_j and
    τ_ij = 1 (scale "unit") or max(sqrt(σ_i² + σ_j²), 1e-4) (scale "sigma").

    Arguments:
        scores_NG: parsed scores in 1..5, NaN where nothing parsed. Others count as not parsed: they earn 0 and take no
            part in the group mean s̄. An image without any parsed score is nobody's partner.
        mos_N: finite human scores, 1..5.
        std_N: rating standard deviations; needed for scale "sigma" only, finite and >= 0.
        scale: "unit" or "sigma".
        means_N: s̄ of each image where it isn't the mean of these scores: the policy's own, under the exact estimator.

    Returns:
        Rewards (N, G) in [0, 1]; all 0 where fewer than two images have a parsed score.

    Raises:
        RewardError: unknown scale; a `mos` that is not finite; a missing or impossible `std` under "sigma".
    """
    from torch import from_numpy  # its exp is three times as fast as NumPy's

    check_choice("scale", scale, SCALES, RewardError)
    scores_NG, mos_N = check_arrays(scores_NG, mos_N)
    variance_N = None if scale == "unit" else _rating_variance(std_N, len(mos_N))

    def gaussian(margins_IGM: FloatArray, rows_I: IntArray, partners_M: IntArray) -> FloatArray:
        error_IGM = margins_IGM
        error_IGM -= (mos_N[rows_I, None] - mos_N[partners_M])[:, None, :]
        if variance_N is not None:
            tau_IM = np.sqrt(variance_N[rows_I, None] + variance_N[partners_M])
            error_IGM /= np.maximum(tau_IM, SMALLEST_TAU)[:, None, :]
        np.square(error_IGM, out=error_IGM)
        error_IGM *= -0.5
        from_numpy(error_IGM).exp_()
        return error_IGM

    return mean_over_partners(scores_NG, gaussian, means_N)


def _rating_variance(std_N: npt.ArrayLike | None, n_images: int) -> FloatArray:
    std_N = np.full(n_images, np.nan) if std_N is None else np.asarray(std_N, dtype=np.float64)
    usable_N = np.isfinite(std_N) & (std_N >= 0)
    if not usable_N.all():
        where = int(np.flatnonzero(~usable_N)[0])
        raise RewardError(
            f"scale='sigma' needs the column 'std', the rating standard deviation (>= 0) of every image, but image "
            f"{where} of {n_images} in the comparison set has {std_N[where]:g}; add it or use scale='unit'."
        )
    return std_N**2
