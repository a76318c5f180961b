"""How good a predicted distribution of scores is: calibration, distance to the human one, and order of pairs.

The human distribution of an image is the normal of its mean opinion score and rating deviation, put into the bins of
the predicted scores, both tails in the end bins.

Legend: N images, S scores that can be predicted (ascending), L levels, P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, rel_entr

from ..metrics import FloatArray

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
FLOOR = 1e-12
"""Least share of a bin in the KL divergence, so that one empty bin does not make it infinite."""
PAIRS = 200_000


def calibration(
    scores_S: npt.ArrayLike, shares_NS: npt.ArrayLike, mos: npt.ArrayLike, levels: Sequence[float] = LEVELS
) -> dict[str, Any]:
    """How often the central interval of each level holds the human score, and the expected calibration error.

    As Kuleshov, Fenner and Ermon ("Accurate Uncertainties for Deep Learning Using Calibrated Regression", ICML 2018,
    section 3.5) do for regression. The place of a human score in a predicted distribution is F(below) plus half of the
    share of its own bin, so that coarse distributions are not favoured.

    Arguments:
        scores_S: the scores (S,) that can be predicted, ascending.
        shares_NS: predicted shares (N, S), each row of sum 1.
        mos: human scores (N,).
        levels: in (0, 1).

    Returns:
        {"levels": (L), "coverage": (L), "ece": mean over levels of |coverage − level|, in 0..1}

    Raises:
        ValueError: shapes do not fit, scores do not ascend, or a row of shares is no distribution.
    """
    scores_S, shares_NS = _checked(scores_S, shares_NS)
    place_N = _places(scores_S, shares_NS, np.asarray(mos, dtype=np.float64).reshape(-1))
    distance_N = np.abs(2 * place_N - 1)  # 0 at the median, 1 at either end: inside the interval of every higher level
    coverage_L = [float((distance_N <= level).mean()) for level in levels]
    error = float(np.mean(np.abs(np.array(coverage_L) - np.array(levels))))
    return {"levels": list(levels), "coverage": coverage_L, "ece": error}


def distribution_distances(
    scores_S: npt.ArrayLike, shares_NS: npt.ArrayLike, mos: npt.ArrayLike, std: npt.ArrayLike
) -> dict[str, FloatArray]:
    """Distances (N,) of predicted distributions to the human normals: KL(human ‖ predicted), JS and Wasserstein-1.

    KL and JS are in nats (JS at most ln 2), Wasserstein in points of the scale. Arguments as in `calibration`, and
    std: rating deviations (N,), above 0.

    Raises:
        ValueError: as `calibration`, or a deviation is not above 0.
    """
    scores_S, shares_NS = _checked(scores_S, shares_NS)
    human_NS = human_shares(scores_S, mos, std)
    middle_NS = (human_NS + shares_NS) / 2
    floored_NS = np.maximum(shares_NS, FLOOR)
    floored_NS = floored_NS / floored_NS.sum(axis=1, keepdims=True)
    steps_S = np.diff(scores_S)
    gap_NS = np.abs(np.cumsum(human_NS - shares_NS, axis=1))[:, :-1]
    return {
        "kl": rel_entr(human_NS, floored_NS).sum(axis=1),
        "js": (rel_entr(human_NS, middle_NS) + rel_entr(shares_NS, middle_NS)).sum(axis=1) / 2,
        "wasserstein": gap_NS @ steps_S,
    }


def human_shares(scores_S: npt.ArrayLike, mos: npt.ArrayLike, std: npt.ArrayLike) -> FloatArray:
    """The human normal of each image in the bins of `scores_S`: (N, S), rows of sum 1; bins end halfway between."""
    scores = np.asarray(scores_S, dtype=np.float64)
    mean_N = np.asarray(mos, dtype=np.float64).reshape(-1)
    std_N = np.asarray(std, dtype=np.float64).reshape(-1)
    if len(mean_N) != len(std_N) or not (std_N > 0).all():
        raise ValueError("Every human distribution needs a deviation above 0; leave out images without one.")
    ends = np.concatenate([[-np.inf], (scores[1:] + scores[:-1]) / 2, [np.inf]])
    return np.diff(ndtr((ends - mean_N[:, None]) / std_N[:, None]), axis=1)


def pair_probabilities(
    scores_S: npt.ArrayLike,
    shares_NS: npt.ArrayLike,
    mos: npt.ArrayLike,
    std: npt.ArrayLike | None = None,
    *,
    pairs: int = PAIRS,
    seed: int = 0,
) -> dict[str, Any]:
    """P(A better than B) of pairs of images, against the human order.

    P counts half of the probability that both get the same score. Pairs whose human scores are equal are left out. All
    pairs, or a seeded draw of `pairs` where there are more.

    Returns:
        {"pairs": how many, "accuracy": share in which the more likely order is the human one (P = ½ counts half),
        "brier": mean of (P − human order)², and with `std` "error": mean of |P − P_human|, where P_human =
        Φ((MOS_A − MOS_B) / sqrt(σ_A² + σ_B²)) is the probability that one rating of A is above one of B}; None where
        there is no pair.

    Raises:
        ValueError: as `calibration`.
    """
    scores_S, shares_NS = _checked(scores_S, shares_NS)
    mos_N = np.asarray(mos, dtype=np.float64).reshape(-1)
    a_P, b_P = np.triu_indices(len(mos_N), 1) if len(mos_N) <= 1500 else _draw_pairs(len(mos_N), 2 * pairs, seed)
    differ_P = mos_N[a_P] != mos_N[b_P]
    a_P, b_P = a_P[differ_P], b_P[differ_P]
    if len(a_P) > pairs:
        chosen = np.random.default_rng(seed).choice(len(a_P), pairs, replace=False)
        a_P, b_P = a_P[chosen], b_P[chosen]
    if len(a_P) == 0:
        return {"pairs": 0, "accuracy": None, "brier": None, "error": None}
    below_NS = np.cumsum(shares_NS, axis=1) - shares_NS / 2
    p_P = np.concatenate(
        [
            np.einsum("ps,ps->p", shares_NS[a], below_NS[b])
            for a, b in zip(np.array_split(a_P, len(a_P) // 5000 + 1), np.array_split(b_P, len(b_P) // 5000 + 1))
        ]
    )
    order_P = (mos_N[a_P] > mos_N[b_P]).astype(np.float64)
    right_P = np.where(np.abs(p_P - 0.5) < 1e-9, 0.5, (p_P > 0.5) == (order_P == 1))
    error = None
    if std is not None:
        std_N = np.asarray(std, dtype=np.float64).reshape(-1)
        spread_P = np.hypot(std_N[a_P], std_N[b_P])
        human_P = ndtr((mos_N[a_P] - mos_N[b_P]) / spread_P)
        error = float(np.mean(np.abs(p_P - human_P)))
    return {
        "pairs": len(a_P),
        "accuracy": float(right_P.mean()),
        "brier": float(np.mean((p_P - order_P) ** 2)),
        "error": error,
    }


def _draw_pairs(n: int, pairs: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    a_P, step_P = rng.integers(n, size=pairs), rng.integers(1, n, size=pairs)
    return a_P, (a_P + step_P) % n


def _places(scores_S: FloatArray, shares_NS: FloatArray, mos_N: FloatArray) -> FloatArray:
    """Where in its predicted distribution each human score lies, 0..1: F(below) + half of the nearest score's share."""
    if len(mos_N) != len(shares_NS):
        raise ValueError(f"There are {len(shares_NS)} distributions but {len(mos_N)} human scores; give one each.")
    ends = (scores_S[1:] + scores_S[:-1]) / 2
    bin_N = np.searchsorted(ends, mos_N, side="left")
    rows = np.arange(len(mos_N))
    return np.cumsum(shares_NS, axis=1)[rows, bin_N] - shares_NS[rows, bin_N] / 2


def _checked(scores_S: npt.ArrayLike, shares_NS: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    scores, shares = np.asarray(scores_S, dtype=np.float64), np.asarray(shares_NS, dtype=np.float64)
    if scores.ndim != 1 or shares.ndim != 2 or shares.shape[1] != len(scores):
        raise ValueError(f"Shares must be (N, S) for scores (S,), not {shares.shape} for {scores.shape}.")
    if not (np.diff(scores) > 0).all():
        raise ValueError("The scores of a distribution must ascend.")
    if not (shares >= 0).all() or not np.allclose(shares.sum(axis=1), 1, atol=1e-6):
        raise ValueError("Each row of shares must be non-negative and sum to 1.")
    return scores, shares
