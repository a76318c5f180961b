"""The regression reward: each sampled score should hit the human score of its own image.

Two forms: Q-Insight's threshold, and the Gaussian that is the exact single-endpoint counterpart of the margin reward
(`margin.py`), so that the two differ in nothing but what they compare.

Legend: N images, G completions per image.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mriqa.choices import check_choice

from .comparison import FloatArray, RewardError, check_arrays

FORMS = ("threshold", "smooth")


def regression_reward(
    scores_NG: npt.ArrayLike,
    mos_N: npt.ArrayLike,
    form: str = "threshold",
    threshold: float = 0.35,
    tau: float = 1.0,
) -> FloatArray:
    """Closeness of each score to its image's human score.

    Form "threshold": 1 if |s_ik - y_i| < threshold else 0 (Q-Insight). Form "smooth": exp(-½ ((s_ik - y_i) / τ)²).

    Arguments:
        scores_NG: parsed scores in 1..5, NaN where nothing parsed. Others count as not parsed and earn 0.
        mos_N: finite human scores.
        form: "threshold" or "smooth".
        threshold: > 0, used by form "threshold".
        tau: > 0, used by form "smooth".

    Returns:
        Rewards (N, G) in [0, 1].

    Raises:
        RewardError: unknown form; threshold or tau not positive; a `mos` that is not finite.
    """
    check_choice("form", form, FORMS, RewardError)
    _check_positive("threshold", threshold)
    _check_positive("tau", tau)
    scores_NG, mos_N = check_arrays(scores_NG, mos_N)
    error_NG = scores_NG - mos_N[:, None]
    if form == "threshold":
        return (np.abs(error_NG) < threshold).astype(np.float64)
    return np.nan_to_num(np.exp(-0.5 * np.square(error_NG / tau)), nan=0.0)


def _check_positive(option: str, given: float) -> None:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not (math.isfinite(given) and given > 0):
        raise RewardError(f"Option {option!r} must be a finite number above 0, not {given!r}.")
