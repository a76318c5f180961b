"""Between two items of a batch: how far their ranks lie apart, and how similar their embeddings are.

All results are (B, B) matrices, and nothing larger is ever held, be it for the backward pass.

Legend: B batch, D embedding width, R numbers in a rank (1 for a score or an age, 2 for a gaze direction).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mriqa.choices import check_choice
from mriqa.gather import gather_batch
from mriqa.heads.inputs import HeadError, as_embeddings, as_ranks

RankDistance = Callable[[Tensor], Tensor]
"""Ranks (B, R) to the distances between them (B, B), not negative, 0 where they are tied."""

SIMILARITIES = ["dot", "squared_l2", "l2"]


def l1_gaps(ranks_BR: Tensor) -> Tensor:
    """|r_i - r_j|, summed over the numbers of a rank (B, B): Rank-N-Contrast's distance, and the default."""
    gaps_BB = torch.zeros(len(ranks_BR), len(ranks_BR), dtype=ranks_BR.dtype, device=ranks_BR.device)
    for ranks_B in ranks_BR.unbind(dim=1):
        gaps_BB = gaps_BB + (ranks_B[:, None] - ranks_B[None, :]).abs()
    return gaps_BB


def l2_gaps(ranks_BR: Tensor) -> Tensor:
    """Euclidean distance of rank vectors (B, B)."""
    return torch.cdist(*2 * (_floating(ranks_BR),), compute_mode="donot_use_mm_for_euclid_dist")


def angular_gaps(ranks_B2: Tensor) -> Tensor:
    """Angle in degrees between gaze directions given as (pitch, yaw) in degrees (B, B).

    The angle comes from atan2 of the chord, which unlike arccos is exact for directions that nearly agree.
    """
    if ranks_B2.shape[1] != 2:
        raise HeadError(f"A gaze direction is (pitch, yaw), but the ranks have {ranks_B2.shape[1]} numbers each.")
    pitch_B, yaw_B = torch.deg2rad(_floating(ranks_B2)).unbind(dim=1)
    direction_B3 = torch.stack([pitch_B.cos() * yaw_B.sin(), pitch_B.sin(), pitch_B.cos() * yaw_B.cos()], dim=1)
    chord_BB = torch.cdist(direction_B3, direction_B3, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.rad2deg(2 * torch.atan2(chord_BB, (4 - chord_BB.square()).clamp_min(0).sqrt()))


def similarity(z_BD: Tensor, kind: str) -> Tensor:
    """Similarities κ_ij (B, B) of embeddings: "dot" z_i·z_j, "squared_l2" -‖z_i - z_j‖², "l2" -‖z_i - z_j‖.

    Embeddings are taken as they are: the method's encoder puts them on the unit sphere. Never computed in half
    precision, autocast or not. The diagonal means nothing.

    Raises:
        HeadError: unknown kind.
    """
    check_choice("similarity", kind, SIMILARITIES, HeadError)
    with torch.autocast(z_BD.device.type, enabled=False):
        if kind == "dot":
            return z_BD @ z_BD.T
        if kind == "l2":
            return -torch.cdist(z_BD, z_BD, compute_mode="donot_use_mm_for_euclid_dist")
        centred_BD = z_BD - z_BD.detach().mean(dim=0)  # moves no distance, and spares digits when norms are large
        norms_B = centred_BD.square().sum(dim=1)
        return torch.addmm(-norms_B[:, None] - norms_B[None, :], centred_BD, centred_BD.T, alpha=2)


def batch_of(
    embeddings: Tensor, ranks: Tensor, distance: RankDistance | None = None, gather: bool = False
) -> tuple[Tensor, Tensor]:
    """Checked embeddings (B, D) in at least float32, and their rank gaps (B, B), after gathering where asked for.

    Raises:
        HeadError: fewer than two items, shapes that do not fit, NaN, or a distance function of another shape.
    """
    z_BD = as_embeddings(embeddings)
    ranks_BR = as_ranks(ranks, len(z_BD), z_BD.device)
    if gather:
        z_BD, ranks_BR = gather_batch(z_BD), gather_batch(ranks_BR)
    if len(z_BD) < 2:
        raise HeadError("A contrastive loss compares items, and this batch has one; use batches of at least two.")
    gaps_BB = (distance or l1_gaps)(ranks_BR)
    if gaps_BB.shape != (len(z_BD), len(z_BD)):
        raise HeadError(f"The rank distance gave the shape {tuple(gaps_BB.shape)} for {len(z_BD)} ranks; give (B, B).")
    return z_BD, gaps_BB.to(z_BD.dtype)


def mean_over_positives(logits_BB: Tensor, positive_BB: Tensor) -> Tensor:
    """1/B Σ_i 1/|P(i)| Σ_{p ∈ P(i)} log softmax(logits_i)_p, a scalar; an anchor without a positive contributes 0."""
    log_p_BB = logits_BB - logits_BB.logsumexp(dim=1, keepdim=True)
    per_anchor_B = log_p_BB.masked_fill(~positive_BB, 0.0).sum(dim=1) / positive_BB.sum(dim=1).clamp_min(1)
    return per_anchor_B.mean()


def diagonal(matrix_BB: Tensor) -> Tensor:
    """True on the diagonal (B, B): an item is no partner of its own."""
    return torch.eye(len(matrix_BB), dtype=torch.bool, device=matrix_BB.device)


def _floating(ranks_BR: Tensor) -> Tensor:
    return ranks_BR if ranks_BR.is_floating_point() else ranks_BR.double()
