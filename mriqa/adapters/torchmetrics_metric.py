"""The mean score of many pictures as a `torchmetrics.Metric` (torchmetrics 1.9, Apache-2.0).

    metric = MeanQuality(Scorer.from_pretrained())
    for images in batches:  # in any form that `mriqa.adapters.quality.Pictures` names
        metric.update(images)
    metric.compute()  # tensor(3.52, dtype=torch.float64)

Several processes add up as torchmetrics does it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torchmetrics import Metric

from mriqa.adapters.quality import Pictures, QualityReward

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Scorer


class MeanQuality(Metric):
    """The mean score, 1..5, of the pictures that have one; NaN before there is any. `n_unscored` counts the others.

    A copy of the metric scores by the same model. It has no gradient; `mriqa.adapters.DifferentiableReward` has.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound, plot_upper_bound = 1.0, 5.0
    total: torch.Tensor
    n_scored: torch.Tensor
    n_unscored: torch.Tensor

    def __init__(self, scorer: Scorer, **options: Any) -> None:
        """`options` are those of `torchmetrics.Metric`."""
        super().__init__(**options)
        self.reward = QualityReward(scorer)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("n_scored", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("n_unscored", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, images: Pictures) -> None:
        scores = self.reward.scores(images)
        found = [one.score for one in scores if one is not None and not math.isnan(one.score)]
        self.total += math.fsum(found)
        self.n_scored += len(found)
        self.n_unscored += len(scores) - len(found)

    def compute(self) -> torch.Tensor:
        return self.total / self.n_scored
