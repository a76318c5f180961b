"""Rewards for trainers of image generators: `f(images, prompts, metadata) -> (rewards, info)`.

The convention of ddpo-pytorch (kvablack/ddpo-pytorch, `ddpo_pytorch/rewards.py`, as of commit 1958463) and of flow_grpo
(yifan123/flow_grpo, `flow_grpo/rewards.py`, commit 54809b5) and the trainers derived from them: `images` is a float
tensor (N, 3, H, W) in 0..1 or a uint8 array (N, H, W, 3). Not run with these, only the contract is tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mriqa.adapters.quality import Pictures, QualityReward

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Scorer

ImageRewardFunction = Callable[..., "tuple[np.ndarray, dict[str, np.ndarray]]"]


def for_image_generation(scorer: Scorer) -> ImageRewardFunction:
    """A reward function that looks at the images alone.

    It returns rewards (N,) in 0..1 and {"quality": scores (N,) in 1..5, "quality_std": their spread (N,)}, both NaN
    where an image has no score.

        reward_fn = for_image_generation(Scorer.from_pretrained("outputs/demo/model"))
        rewards, info = reward_fn(images, prompts, metadata)

    In flow_grpo, register a function `lambda device: for_image_generation(scorer)` in `multi_score`'s table.
    """
    reward = QualityReward(scorer)

    def image_quality(
        images: Pictures, prompts: Sequence[str] | None = None, metadata: Sequence[Any] | None = None
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        scores = reward.scores(images)
        quality_N = np.array([math.nan if one is None else one.score for one in scores])
        std_N = np.array([math.nan if one is None else one.std for one in scores])
        return reward.of(scores), {"quality": quality_N, "quality_std": std_N}

    return image_quality
