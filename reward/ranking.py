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

EPSILON = 1e-6


def ranking_reward(scores_NG: npt.ArrayLike, mos_N: npt.ArrayLike) -> FloatArray:
    """Fidelity between predicted and human preference, averaged over partners.

    R_ik = mean over j != i of sqrt(p g + 1e-6) + sqrt((1 - p)(1 - g) + 1e-6), with
    p = Φ((s_ik - s̄_j) / sqrt(v_i + v_j + 1e-6)) and g = 1, 0 or ½ as y_i is above, below or equal to y_j.

    v is the sample variance (ddof 1) of an image's parsed scores. It is undefined for fewer than two of them (G = 1, or
    all others unparsed); such an image has v = 0, so the comparison falls back to the other image's variance.

    Arguments:
        scores_NG: parsed scores in 1..5, NaN where nothing parsed. Others count as not parsed and earn 0.
        mos_N: finite human scores.

    Returns:
        Rewards (N, G) in [0, 1.415]; 1.001 at best where scores differ, about 1.414 for a tie seen as one.

    Raises:
        ValueError: a `mos` is not finite.
    """
    from torch import from_numpy
    from torch.special import ndtr  # Φ, three times as fast as SciPy's: it is vectorised

    scores_NG, mos_N = check_arrays(scores_NG, mos_N)
    variance_N = sample_variance(scores_NG)

    def fidelity(margins_IGM: FloatArray, rows_I: IntArray, partners_M: IntArray) -> FloatArray:
        spread_IM = np.sqrt(variance_N[rows_I, None] + variance_N[partners_M] + EPSILON)
        margins_IGM /= spread_IM[:, None, :]
        p_IGM = ndtr(from_numpy(margins_IGM)).numpy()
        g_I1M = 0.5 + 0.5 * np.sign(mos_N[rows_I, None, None] - mos_N[partners_M])
        agree_IGM = p_IGM * g_I1M
        agree_IGM += EPSILON
        np.sqrt(agree_IGM, out=agree_IGM)
        np.subtract(1.0, p_IGM, out=p_IGM)
        p_IGM *= 1.0 - g_I1M
        p_IGM += EPSILON
        np.sqrt(p_IGM, out=p_IGM)
        agree_IGM += p_IGM
        return agree_IGM

    return mean_over_partners(scores_NG, fidelity)


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
