"""Rewards for verl: `compute_score(data_source, solution_str, ground_truth, extra_info, …) -> dict`.

verl 0.9.1, `verl/experimental/reward_loop/reward_manager/naive.py`, calls it by keyword, for one sample at a time and
from a pool of threads, and takes "score" from the dict; its other numbers become metrics. verl-omni (its rules for
rewards, commit a7f4824) hands over `solution_image` instead, a float tensor (3, H, W) or (N, 3, H, W) in 0..1. Not run
with these libraries, only the contract is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mriqa.adapters.completions import Render
from mriqa.adapters.quality import QualityReward

if TYPE_CHECKING:
    import torch

    from mriqa.scoring.scorer import Scorer


def for_verl(scorer: Scorer, render: Render | None = None) -> Callable[..., dict[str, float]]:
    """The function for a file that `reward.custom_reward_function.path` names, with `.name=compute_score`.

        compute_score = for_verl(Scorer.from_pretrained("outputs/demo/model"), render)

    `render(text, row)` makes the picture of a text policy's answer, `row` holding extra_info, ground_truth and
    data_source; a policy that makes images needs none. The result is {"score": reward in 0..1, "quality": score in
    1..5}, the means over N images; "quality" is 0 where there is no score, as verl averages it without looking.
    """
    reward = QualityReward(scorer)

    def compute_score(
        data_source: str,
        solution_str: str | None = None,
        ground_truth: Any = None,
        extra_info: Mapping[str, Any] | None = None,
        solution_image: torch.Tensor | None = None,
        **_: Any,
    ) -> dict[str, float]:
        if solution_image is not None:
            pictures = list(solution_image if solution_image.ndim == 4 else solution_image[None])
        elif render is not None:
            row = {**(extra_info or {}), "ground_truth": ground_truth, "data_source": data_source}
            pictures = [render(solution_str or "", row)]
        else:
            raise ValueError("The policy answers in text: give for_verl a render(text, row) that makes its picture.")
        scores = reward.scores(pictures)
        quality_N = np.nan_to_num([0.0 if one is None else one.score for one in scores])
        return {"score": float(reward.of(scores).mean()), "quality": float(quality_N.mean())}

    return compute_score
