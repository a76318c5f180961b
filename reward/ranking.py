"""The ranking reward: the sampled scores should prefer the image that people prefer (fidelity).

The baseline of VisualQuality-R1, with one difference: its authors replace an answer that does not parse by a random
number; here it earns 0 and takes no part in means or variances.

Legend: N images, G completions per image, M partner images, I images of one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mriqa.answers import AnswerFormat

from .comparison import ComparisonSet, FloatArray, IntArray, check_arrays, resolve_format
from .pairwise import group_means, mean_over_partners, warn_if_alone
from .score_table import every_score, moments

EPSILON = 1e-6


def ranking_reward(
    scores_NG: npt.ArrayLike,
    mos_N: npt.ArrayLike,
    moments_N: tuple[FloatArray, FloatArray] | None = None,
) -> FloatArray:
    """Fidelity between predicted and human preference, averaged over partners.

    R_ik = mean over j != i of sqrt(p g + 1e-6) + sqrt((1 - p)(1 - g) + 1e-6), with
    p = Φ((s_ik - s̄_j) / sqrt(v_i + v_j + 1e-6)) and g = 1, 0 or ½ as y_i is above, below or equal to y_j.

    v is the sample variance (ddof 1) of an image's parsed scores. It is undefined for fewer than two of them (G = 1, or
    all others unparsed); such an image has v = 0, so the comparison falls back to the other image's variance.

    Arguments:
        scores_NG: parsed scores in 1..5, NaN where nothing parsed. Others count as not parsed and earn 0.
        mos_N: finite human scores.
        moments_N: s̄ and v of each image where they aren't those of these scores: the policy's own, in `exact.py`.

    Returns:
        Rewards (N, G) in [0, 1.415]; 1.001 at best where scores differ, about 1.414 for a tie seen as one.

    Raises:
        ValueError: a `mos` is not finite.
    """
    from torch import from_numpy  # its erf is several times as fast as SciPy's Φ

    scores_NG, mos_N = check_arrays(scores_NG, mos_N)
    means_N, variance_N = (None, sample_variance(scores_NG)) if moments_N is None else moments_N

    def preferred(z: FloatArray) -> FloatArray:
        """Φ(√2 z)."""
        p = from_numpy(z).erf().numpy()
        p += 1.0
        p *= 0.5
        return p

    def fidelity(margins_IGM: FloatArray, rows_I: IntArray, partners_M: IntArray) -> FloatArray:
        spread_IM = np.sqrt(2.0 * (variance_N[rows_I, None] + variance_N[partners_M] + EPSILON))
        sign_IM = np.sign(mos_N[rows_I, None] - mos_N[partners_M])
        tied_i, tied_m = np.nonzero(sign_IM == 0)
        p_tied = preferred(margins_IGM[tied_i, :, tied_m] / spread_IM[tied_i, tied_m, None])
        # Where g or 1 - g is 0, what remains is the probability of the human preference, Φ(±Δ̂ / spread).
        margins_IGM *= (sign_IM / spread_IM)[:, None, :]
        agree_IGM = preferred(margins_IGM)
        agree_IGM += EPSILON
        np.sqrt(agree_IGM, out=agree_IGM)
        agree_IGM += EPSILON**0.5
        agree_IGM[tied_i, :, tied_m] = np.sqrt(0.5 * p_tied + EPSILON) + np.sqrt(0.5 * (1.0 - p_tied) + EPSILON)
        return agree_IGM

    return mean_over_partners(scores_NG, fidelity, means_N)


def sample_variance(scores_NG: FloatArray) -> FloatArray:
    """Variance (ddof 1) of each image's parsed scores (N,); 0 for fewer than two of them."""
    count_N = (~np.isnan(scores_NG)).sum(axis=1)
    squares_NG = np.square(scores_NG - group_means(scores_NG)[:, None])
    return np.nansum(squares_NG, axis=1) / np.maximum(count_N - 1, 1)


@dataclass(frozen=True)
class RankingReward:
    """`ranking_reward` with TRL's contract: a callable from completions and dataset columns to one float each.

    Arguments:
        mode: prompt mode whose answers are parsed, "non_thinking" or "thinking".
        answer_format: another answer format (object, name or YAML path); goes before `mode`.
    """

    mode: str = "non_thinking"
    answer_format: AnswerFormat | str | None = None
    parser: AnswerFormat = field(init=False, repr=False)

    compares_images = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "parser", resolve_format(self.mode, self.answer_format))

    @property
    def __name__(self) -> str:
        """The name TRL logs it under."""
        return "ranking"

    def __call__(self, completions: Sequence[Any], mos: Any = None, image_id: Any = None, **_: Any) -> list[float]:
        """Rewards in the order of `completions`; see `ComparisonSet.from_completions` for the columns."""
        group = ComparisonSet.from_completions(completions, mos, image_id, answer_format=self.parser)
        warn_if_alone(self.__name__, group)
        return group.per_completion(ranking_reward(group.scores_NG, group.mos_N))

    def table(self, values_S: FloatArray, probs_NS: FloatArray, mos_N: FloatArray, std_N: FloatArray) -> FloatArray:
        """Reward (N, S) of every score against partners with the moments of `probs_NS`; see `exact.py`."""
        return ranking_reward(every_score(values_S, mos_N), mos_N, moments(values_S, probs_NS))
