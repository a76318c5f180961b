"""The ranking reward: the sampled scores should prefer the image that people prefer (fidelity).

The baseline of VisualQuality-R1, with one difference: its authors replace an answer that does not parse by a random
number; here it earns 0 and takes no part in means or variances.

Legend: N images, G completions per image, M partner images, I images of one block.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .comparison import FloatArray, IntArray, check_arrays
from .pairwise import group_variances, mean_over_partners

EPSILON = 1e-6


def ranking_reward(
    scores_NG: npt.ArrayLike,
    mos_N: npt.ArrayLike,
    means_N: FloatArray | None = None,
    variances_N: FloatArray | None = None,
) -> FloatArray:
    """Fidelity between predicted and human preference, averaged over partners.

    R_ik = mean over j != i of sqrt(p g + 1e-6) + sqrt((1 - p)(1 - g) + 1e-6), with
    p = Φ((s_ik - s̄_j) / sqrt(v_i + v_j + 1e-6)) and g = 1, 0 or ½ as y_i is above, below or equal to y_j.

    v is the sample variance (ddof 1) of an image's parsed scores. It is undefined for fewer than two of them (G = 1, or
    all others unparsed); such an image has v = 0, so the comparison falls back to the other image's variance.

    Arguments:
        scores_NG: parsed scores in 1..5, NaN where nothing parsed. Others count as not parsed and earn 0.
        mos_N: finite human scores.
        means_N, variances_N: s̄ and v of each image where they aren't those of these scores: the policy's own, under the
            exact estimator.

    Returns:
        Rewards (N, G) in [0, 1.415]; 1.001 at best where scores differ, about 1.414 for a tie seen as one.

    Raises:
        RewardError: a `mos` is not finite.
    """
    from torch import from_numpy  # its erf is several times as fast as SciPy's Φ

    scores_NG, mos_N = check_arrays(scores_NG, mos_N)
    variance_N = group_variances(scores_NG) if variances_N is None else variances_N

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
