"""The regression reward: each sampled score should hit the human score of its own image.

Two forms: Q-Insight's threshold, and the Gaussian that is the exact single-endpoint counterpart of the margin reward
(`margin.py`), so that the two differ in nothing but what they compare.

Legend: B completions, N images, G completions per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mriqa.answers import AnswerFormat
from mriqa.choices import check_choice

from .checks import check_positive
from .comparison import FloatArray, check_arrays, parse_scores, read_mos, resolve_format
from .score_table import every_score

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
        ValueError: unknown form; threshold or tau not positive; a `mos` that is not finite.
    """
    check_choice("form", form, FORMS)
    check_positive("threshold", threshold)
    check_positive("tau", tau)
    scores_NG, mos_N = check_arrays(scores_NG, mos_N)
    error_NG = scores_NG - mos_N[:, None]
    if form == "threshold":
        return (np.abs(error_NG) < threshold).astype(np.float64)
    return np.nan_to_num(np.exp(-0.5 * np.square(error_NG / tau)), nan=0.0)


@dataclass(frozen=True)
class RegressionReward:
    """`regression_reward` with TRL's contract: a callable from completions and dataset columns to one float each.

    Every completion is judged on its own, so the column `image_id` is not needed.

    Arguments:
        form, threshold, tau: see `regression_reward`.
        mode: prompt mode whose answers are parsed, "non_thinking" or "thinking".
        answer_format: another answer format (object, name or YAML path); goes before `mode`.
    """

    form: str = "threshold"
    threshold: float = 0.35
    tau: float = 1.0
    mode: str = "non_thinking"
    answer_format: AnswerFormat | str | None = None
    parser: AnswerFormat = field(init=False, repr=False)

    compares_images = False

    def __post_init__(self) -> None:
        check_choice("form", self.form, FORMS)
        check_positive("threshold", self.threshold)
        check_positive("tau", self.tau)
        object.__setattr__(self, "parser", resolve_format(self.mode, self.answer_format))

    @property
    def __name__(self) -> str:
        """The name TRL logs it under."""
        return f"regression_{self.form}"

    def __call__(self, completions: Sequence[Any], mos: Any = None, **_: Any) -> list[float]:
        """Rewards in the order of `completions`; ValueError where `mos` is missing or not finite."""
        mos_B = read_mos(mos, len(completions))
        scores_B1 = parse_scores(completions, self.parser)[:, None]
        return regression_reward(scores_B1, mos_B, self.form, self.threshold, self.tau)[:, 0].tolist()

    def table(self, values_S: FloatArray, probs_NS: FloatArray, mos_N: FloatArray, std_N: FloatArray) -> FloatArray:
        """Reward (N, S) of every score; see `exact.py`."""
        return regression_reward(every_score(values_S, mos_N), mos_N, self.form, self.threshold, self.tau)
