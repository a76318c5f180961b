"""The scorer as a metric of pyiqa (IQA-PyTorch): `pyiqa.create_metric("mriqa")`.

    from mriqa.adapters import register_with_pyiqa

    register_with_pyiqa()
    metric = pyiqa.create_metric("mriqa", device="cpu")  # model="outputs/demo/model" for another than the package's
    metric("photo.jpg")  # tensor([[3.52]])

pyiqa 0.1.16 looks a metric up in its own table before it looks for plugins. So `register_with_pyiqa()` comes first; the
entry point "pyiqa.archs" of this package makes the call needless in a process that has already created another metric.
pyiqa is under the PolyForm Noncommercial licence, which this project neither contains nor depends on.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from mriqa.adapters.differentiable import DifferentiableReward
from mriqa.adapters.quality import QualityReward
from mriqa.embedded.packaged import DEFAULT_MODEL
from mriqa.errors import UserError
from mriqa.scoring.scorer import Scorer

METRIC = "mriqa"


class MriqaScorer(nn.Module):
    """Images (B, 1 or 3, H, W) in 0..1 to scores (B, 1) in 1..5, NaN where there is none.

    With `as_loss=True` and images that need a gradient it is `mriqa.adapters.DifferentiableReward`'s. `options` are
    those of `Scorer.from_pretrained`.
    """

    def __init__(self, model: str = DEFAULT_MODEL, **options: Any) -> None:
        super().__init__()
        self._reward = QualityReward(Scorer.from_pretrained(model, device="cpu", **options))
        self.weights = getattr(self._reward.scorer.backend, "model", None)  # so that `.to(device)` moves them

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        images_BCHW = images_BCHW.expand(-1, 3, -1, -1)
        if torch.is_grad_enabled() and images_BCHW.requires_grad:
            return DifferentiableReward(self._reward.scorer).scores(images_BCHW)[:, None]
        scores = self._reward.scores(images_BCHW)
        return images_BCHW.new_tensor([[math.nan if one is None else one.score] for one in scores])


def register_with_pyiqa() -> None:
    """Make "mriqa" a metric of pyiqa; safe to call more than once. Raises UserError where pyiqa is not installed."""
    try:
        from pyiqa.default_model_configs import DEFAULT_CONFIGS
        from pyiqa.utils.registry import ARCH_REGISTRY
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install pyiqa (for non-commercial use).") from None
    ARCH_REGISTRY.register(MriqaScorer, override=True)
    DEFAULT_CONFIGS[METRIC] = {
        "metric_opts": {"type": MriqaScorer.__name__},
        "metric_mode": "NR",
        "score_range": "1, 5",
    }
