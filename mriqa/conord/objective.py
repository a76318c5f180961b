"""What a ConOrdModel is trained with: an ordinal loss, the centre loss, and their weights (ConOrd, eq. 9 and Table 5).

ConOrd is weight 1 of each. The other losses are those the paper compares it with, on the same network: SupCon and
Rank-N-Contrast, L_MAE, the ordinal contrastive loss (OCL), and regression by a linear reading of the embedding (L1,
MSE). The paper's multi-margin n-pair loss (CLOC) is not here: it names that loss and does not define it.

Legend: B batch, P draws of each item, V views averaged in a draw, n = B × P, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from mriqa.choices import check_choice
from mriqa.conord.model import ConOrdModel, View, merged
from mriqa.heads.center import ReferencePoints
from mriqa.heads.inputs import HeadError
from mriqa.heads.linear_reading import REGRESSIONS, LinearReading
from mriqa.heads.mae import mae_loss
from mriqa.heads.ocl import ocl_loss
from mriqa.heads.ordinal_contrast import conord_loss
from mriqa.heads.pairs import RankDistance
from mriqa.heads.rnc import rnc_loss
from mriqa.heads.supcon import supcon_loss
from mriqa.heads.weightings import LearnableWeighting, Weighting

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""Embeddings (n, D) and ranks (n,) or (n, R) to a scalar."""

LOSSES = ("conord", "supcon", "rnc", "mae", "l1", "mse", "ocl")
PAIRED = ("supcon", "rnc")
"""Losses made for batches that hold two augmented views of each item."""


@dataclass(frozen=True)
class LossSettings:
    """Which losses, and how much of each.

    Attributes:
        loss: one of `LOSSES`.
        loss_weight, center_weight: of the two terms; eq. 9 has 1 and 1.
        center_reduction: "mean" over the batch, or "sum", eq. 8 as it stands.
        weighting, eps: of ConOrd, eq. 3.
        tau: temperature of eq. 1 to 3 (SupCon, L_MAE, ConOrd).
        rnc_tau, ocl_tau: temperatures of Rank-N-Contrast and OCL, which their authors give.
        bin_width: ranks within it are one class to SupCon and OCL.
        gap_width: rank gaps within it share a weight of weighting X.
        distance: between ranks, for ConOrd, L_MAE and Rank-N-Contrast; None for L1.
    """

    loss: str = "conord"
    loss_weight: float = 1.0
    center_weight: float = 1.0
    center_reduction: str = "mean"
    weighting: str = "VIII"
    tau: float = 0.07
    eps: float = 1e-7
    rnc_tau: float = 2.0
    ocl_tau: float = 0.1
    bin_width: float = 1.0
    gap_width: float = 1.0
    distance: RankDistance | None = None


def loss_function(
    settings: LossSettings, weighting: str | Weighting | None = None, reading: LinearReading | None = None
) -> LossFunction:
    """The ordinal loss of these settings, without its weight.

    Arguments:
        weighting: of ConOrd, where another than that of the settings: X with its parameters.
        reading: what L1 and MSE train.

    Raises:
        HeadError: no such loss, or a regression without a reading.
    """
    check_choice("loss", settings.loss, LOSSES, HeadError)
    if settings.loss in REGRESSIONS:
        if reading is None:
            raise HeadError(f"The loss {settings.loss} trains a linear reading; give the model one.")
        return partial(reading.loss, kind=settings.loss, gather=True)
    tau, distance, bin_width = settings.tau, settings.distance, settings.bin_width
    functions: dict[str, Callable[..., Tensor]] = {
        "conord": partial(
            conord_loss, weighting=weighting or settings.weighting, tau=tau, eps=settings.eps, distance=distance
        ),
        "mae": partial(mae_loss, tau=tau, distance=distance),
        "rnc": partial(rnc_loss, tau=settings.rnc_tau, distance=distance),
        "supcon": partial(supcon_loss, tau=tau, bin_width=bin_width),
        "ocl": partial(ocl_loss, tau=settings.ocl_tau, bin_width=bin_width),
    }
    return partial(functions[settings.loss], gather=True)


class Objective(nn.Module):
    """loss_weight × an ordinal loss + center_weight × L_center of a batch, with all that it trains.

    Arguments:
        model: gives the embeddings, and for L1 and MSE the reading.
        points: reference points of the training ranks.
        settings: the losses and their weights.
    """

    def __init__(self, model: ConOrdModel, points: ReferencePoints, settings: LossSettings):
        super().__init__()
        self.model, self.points, self.settings = model, points, settings
        learns = settings.loss == "conord" and settings.weighting == "X"
        self.weighting = LearnableWeighting(width=settings.gap_width, eps=settings.eps) if learns else None
        self.loss = loss_function(settings, self.weighting, model.reading)

    def forward(self, views_BPV: View, ranks_B: Tensor) -> Tensor:
        """The loss of draws (B, P, V, …) of items and their ranks (B,) or (B, R); each draw counts as an item."""
        views_nV, draws = merged(views_BPV)
        z_nD, ranks_n = self.model.mean_embedding(views_nV), ranks_B.repeat_interleave(draws, dim=0)
        centre = self.points(z_nD, ranks_n, self.settings.center_reduction, gather=True)
        return self.settings.loss_weight * self.loss(z_nD, ranks_n) + self.settings.center_weight * centre
