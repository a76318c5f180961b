"""Centre loss with learnable reference points (Nguyen et al., 2018), eq. 8 of the ConOrd paper.

Each rank has a point in the embedding space that is trained along with the encoder; an item is drawn to the point of
its rank. A continuous score has no ranks to count, so ranks are rounded to bins (chosen: one point of a scale 0..100).

Legend: B batch, D embedding width, R numbers in a rank, M reference points, N training items.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mriqa.choices import check_choice
from mriqa.gather import gather_batch
from mriqa.heads.inputs import HeadError, as_embeddings, as_ranks, check_positive

INITIALISATIONS = ["random", "zeros", "trunc_normal", "kaiming_normal"]


def rank_bins(ranks: Tensor, bin_width: float) -> Tensor:
    """Which bin each rank falls into, rounded to the nearest: int64 of the shape of `ranks`."""
    check_positive("bin_width", bin_width)
    ranks = torch.as_tensor(ranks)
    if not torch.isfinite(ranks).all():
        raise HeadError("Some ranks are NaN or infinite; every embedding needs a finite rank.")
    return (ranks.double() / bin_width).round().long()


def center_loss(
    embeddings: Tensor,
    ranks: Tensor,
    points: Tensor,
    point_bins: Tensor,
    bin_width: float = 1.0,
    reduction: str = "sum",
    gather: bool = False,
) -> Tensor:
    """Σ_i ‖z_i - μ(r_i)‖₂ (eq. 8): the distances, not squared, of items to the reference points of their ranks.

    Arguments:
        embeddings: (B, D); halves are computed in float32.
        ranks: (B,), or (B, R) for vector ranks.
        points: reference points μ (M, D).
        point_bins: the bins they stand for, int64 (M, R), as `rank_bins` counts them.
        bin_width: width of the bins, in units of the ranks.
        reduction: "sum", as in eq. 8, or "mean" over the batch.
        gather: as for `conord_loss`.

    Raises:
        HeadError: a rank without a reference point, NaN, shapes that do not fit, unknown reduction.
    """
    check_choice("reduction", reduction, ["sum", "mean"], HeadError)
    z_BD = as_embeddings(embeddings)
    ranks_BR = as_ranks(ranks, len(z_BD), z_BD.device)
    if gather:
        z_BD, ranks_BR = gather_batch(z_BD), gather_batch(ranks_BR)
    if z_BD.shape[1] != points.shape[1]:
        raise HeadError(f"Embeddings have width {z_BD.shape[1]}, but the reference points {points.shape[1]}.")
    # linalg's norm has a gradient of 0, and no NaN, where an item sits on its point.
    distances_B = torch.linalg.vector_norm(z_BD - points[_places(ranks_BR, point_bins, bin_width)], dim=1)
    return distances_B.sum() if reduction == "sum" else distances_B.mean()


class ReferencePoints(nn.Module):
    """Learnable reference points μ (M, D), one for each rank bin of the training set; calling it gives eq. 8.

    Arguments:
        ranks: all training ranks (N,) or (N, R); each bin that one of them falls into gets a point.
        width: embedding width D.
        bin_width: width of the bins, in units of the ranks.
        init: Table 16's "random" (chosen: uniform on the unit sphere, where the embeddings lie), "zeros",
            "trunc_normal" (std 0.02) or "kaiming_normal" (std √(2/D)). For Table 17's mean features call
            `set_to_means` once the encoder is there.
        generator: of random numbers; the default one otherwise.

    Raises:
        HeadError: no ranks, NaN, unknown init, bad bin width.

    Example:
        >>> points = ReferencePoints(torch.tensor([20.0, 35.0, 35.2]), width=4)
        >>> points.points.shape  # 35 and 35.2 share a bin
        torch.Size([2, 4])
        >>> bool(points(torch.zeros(1, 4), torch.tensor([20.0])) > 0)
        True
    """

    point_bins_MR: Tensor

    def __init__(
        self,
        ranks: Tensor,
        width: int,
        bin_width: float = 1.0,
        init: str = "random",
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_choice("initialisation", init, INITIALISATIONS, HeadError)
        ranks = torch.as_tensor(ranks)
        if ranks.numel() == 0:
            raise HeadError("There are no training ranks to make reference points for; give all of the training set.")
        bins_NR = rank_bins(as_ranks(ranks, len(ranks)), bin_width)
        self.bin_width = bin_width
        self.register_buffer("point_bins_MR", bins_NR.unique(dim=0))
        self.points = nn.Parameter(_initial(init, len(self.point_bins_MR), width, generator))

    def forward(self, embeddings: Tensor, ranks: Tensor, reduction: str = "sum", gather: bool = False) -> Tensor:
        """`center_loss` of embeddings (B, D) and ranks (B,) with these points."""
        return center_loss(embeddings, ranks, self.points, self.point_bins_MR, self.bin_width, reduction, gather)

    @torch.no_grad()
    def set_to_means(self, embeddings: Tensor, ranks: Tensor) -> None:
        """Put each point at the mean embedding of its rank over (N, D) training embeddings (Table 17).

        Raises:
            HeadError: a rank without a point, or a point without an item.
        """
        z_ND = as_embeddings(embeddings).to(self.points)
        ranks_NR = as_ranks(ranks, len(z_ND), self.points.device)
        places_N = _places(ranks_NR, self.point_bins_MR, self.bin_width)
        counts_M = torch.bincount(places_N, minlength=len(self.points))
        if not counts_M.all():
            raise HeadError(f"{int((counts_M == 0).sum())} reference points have no item to take the mean of.")
        self.points.copy_(torch.zeros_like(self.points).index_add_(0, places_N, z_ND) / counts_M[:, None])


def _places(ranks_BR: Tensor, point_bins_MR: Tensor, bin_width: float) -> Tensor:
    """Which reference point each rank has (B,)."""
    bins_BR = rank_bins(ranks_BR, bin_width)
    if bins_BR.shape[1] != point_bins_MR.shape[1]:
        raise HeadError(f"Ranks have {bins_BR.shape[1]} numbers each, the reference points {point_bins_MR.shape[1]}.")
    same_BM = (bins_BR[:, None, :] == point_bins_MR[None, :, :]).all(dim=2)
    known_B = same_BM.any(dim=1)
    if not known_B.all():
        rank = ranks_BR[~known_B][0].tolist()
        raise HeadError(
            f"Rank {rank[0] if len(rank) == 1 else rank} has no reference point; make them from all training ranks."
        )
    return same_BM.int().argmax(dim=1)


def _initial(init: str, count: int, width: int, generator: torch.Generator | None) -> Tensor:
    points_MD = torch.zeros(count, width)
    if init == "random":
        return F.normalize(points_MD.normal_(generator=generator), dim=1)
    if init == "trunc_normal":
        return nn.init.trunc_normal_(points_MD, std=0.02, a=-0.04, b=0.04, generator=generator)
    if init == "kaiming_normal":
        return nn.init.kaiming_normal_(points_MD, generator=generator)
    return points_MD
