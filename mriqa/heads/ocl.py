"""Ordinal contrastive loss with adaptive temperature (Baek et al., "OCL", MICCAI 2024), as its authors' code has it.

SupCon whose temperature depends on the labels: a negative at label distance d is divided by τ/d, so the farther the
label, the harder it is pushed away. Positives, at distance 0, are divided by the temperature that the anchor's
negatives have on average, weighted by their exponentials. Made for a handful of disease stages; with many ranks it is
known to do poorly (Table 5 of the ConOrd paper).

Legend: B batch, D embedding width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mriqa.heads.center import rank_bins
from mriqa.heads.inputs import check_positive
from mriqa.heads.pairs import batch_of, diagonal, l1_gaps, mean_over_positives, similarity


def ocl_loss(
    embeddings: Tensor, ranks: Tensor, tau: float = 0.1, *, bin_width: float | None = None, gather: bool = False
) -> Tensor:
    """Mean over i of -1/|P(i)| Σ_{p ∈ P(i)} log(exp(κ_ip/τ_i) / (Σ_p exp(κ_ip/τ_i) + Σ_n exp(κ_in d_in/τ))).

    κ_ij = z_i·z_j, P(i) are the others of anchor i's rank and n runs over those of other ranks, d_in away; and
    τ_i = Σ_n exp(κ_in d_in/τ) / Σ_n (d_in/τ) exp(κ_in d_in/τ). The gradient flows through τ_i, too.
    Chosen, where the authors' code divides 0 by 0: an anchor without a positive contributes 0, and one without a
    negative has τ_i = τ.

    Arguments:
        embeddings: (B, D), B ≥ 2, on the unit sphere (not normalised here); halves are computed in float32.
        ranks: (B,), or (B, R).
        tau: temperature τ of a negative at distance 1, above 0; 0.1 in the authors' code.
        bin_width: ranks are rounded to bins of this width, and distances counted in bins; None takes them as they are.
        gather: as for `conord_loss`.

    Raises:
        HeadError: bad τ or bin width, fewer than two items, NaN in embeddings or ranks.
    """
    check_positive("tau", tau)
    levels = ranks if bin_width is None else rank_bins(ranks, bin_width)
    z_BD, gaps_BB = batch_of(embeddings, levels, l1_gaps, gather)
    kappa_BB = similarity(z_BD, "dot")
    negative_BB = gaps_BB > 0
    positive_BB = ~negative_BB & ~diagonal(gaps_BB)

    pushed_B1 = negative_BB.any(dim=1, keepdim=True)
    inverse_tau_BB = torch.where(negative_BB, gaps_BB / tau, 1 / tau)
    weight_BB = (kappa_BB * inverse_tau_BB).masked_fill(~negative_BB & pushed_B1, -math.inf).softmax(dim=1)
    anchor_inverse_tau_B1 = (weight_BB * inverse_tau_BB).sum(dim=1, keepdim=True)

    logits_BB = kappa_BB * torch.where(negative_BB, inverse_tau_BB, anchor_inverse_tau_B1)
    logits_BB = logits_BB.masked_fill(diagonal(gaps_BB), -math.inf)
    return -mean_over_positives(logits_BB, positive_BB)
