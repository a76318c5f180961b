"""Rewards of all the scores a policy could write, for the estimator that samples none.

A policy with probabilities π_i(s) over the S scores of image i has the expected reward Σ_s π_i(s) R_i(s). The table
R (N, S) is what the reward functions give these scores where an image's group mean and variance are those of π_i itself
(what they tend to as G grows), and not those of G samples.

Legend: N images, S scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .comparison import FloatArray, RewardError

RewardTable = Callable[[FloatArray, FloatArray, FloatArray, FloatArray], FloatArray]
"""(values (S,), probabilities (N, S) that sum to 1, mos (N,), std (N,) with NaN where unknown) -> rewards (N, S)."""


def every_score(values_S: FloatArray, mos_N: FloatArray) -> FloatArray:
    """Each of the scores for each image (N, S), as if they had all been sampled."""
    return np.broadcast_to(np.asarray(values_S, dtype=np.float64), (len(mos_N), len(values_S)))


def moments(values_S: FloatArray, probs_NS: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and variance (N,) of each image's distribution over the scores."""
    means_N = probs_NS @ values_S
    return means_N, probs_NS @ np.square(values_S) - np.square(means_N)


def reward_table(rewards: Sequence[Any], weights: Sequence[float] | None = None) -> RewardTable:
    """The weighted sum of several rewards' tables.

    Arguments:
        rewards: as `load` returns them.
        weights: one per reward; 1 each by default.

    Raises:
        RewardError: a reward has no table (a user's function of completions), or the weights are too few or too many.
    """
    weights = [1.0] * len(rewards) if weights is None else list(weights)
    if len(weights) != len(rewards):
        raise RewardError(f"There are {len(weights)} reward weights for {len(rewards)} rewards; give one for each.")
    for reward in rewards:
        if not hasattr(reward, "table"):
            raise RewardError(
                f"Reward {getattr(reward, '__name__', repr(reward))!r} judges completions only, and the exact "
                "estimator samples none: use --estimator sampled, or make it a function of scores, "
                "def f(scores_NG, mos_N, std_N)."
            )

    def table(values_S: FloatArray, probs_NS: FloatArray, mos_N: FloatArray, std_N: FloatArray) -> FloatArray:
        tables = [weight * reward.table(values_S, probs_NS, mos_N, std_N) for weight, reward in zip(weights, rewards)]
        return np.sum(tables, axis=0)

    return table
