"""Rank-N-Contrast (Zha et al., NeurIPS 2023; eq. 7 of the ConOrd paper), in memory of the order of B².

The definition compares each partner j of an anchor i with all partners k at least as far in rank. Its authors loop over
j and keep a (B, B) mask for each, B³ numbers for the backward pass. Here the partners are sorted by rank gap instead,
farthest first: each denominator is then a cumulative log-sum-exp, read where the partner's ties end. Same values,
ties included.

Legend: B batch, D embedding width, P = B-1 partners of an anchor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mriqa.heads.inputs import check_positive
from mriqa.heads.pairs import RankDistance, batch_of, diagonal, similarity


def rnc_loss(
    embeddings: Tensor,
    ranks: Tensor,
    tau: float = 2.0,
    *,
    similarity_kind: str = "l2",
    distance: RankDistance | None = None,
    gather: bool = False,
) -> Tensor:
    """-1/B Σ_i 1/(B-1) Σ_{j ≠ i} log(exp(κ_ij/τ) / Σ_{k: |r_i - r_k| ≥ |r_i - r_j|} exp(κ_ik/τ)) (eq. 7).

    Arguments:
        embeddings: (B, D), B ≥ 2, not normalised here, nor by the authors; halves are computed in float32. Of two
            augmented views a batch holds both, (2N, D), with the ranks twice.
        ranks: (B,), or (B, R) for vector ranks.
        tau: temperature τ, above 0.
        similarity_kind: κ; the authors' is "l2", -‖z_i - z_j‖; also "squared_l2" and "dot".
        distance, gather: as for `conord_loss`; the authors' distance, and the default, is L1.

    Raises:
        HeadError: bad τ, fewer than two items, NaN in embeddings or ranks.
    """
    check_positive("tau", tau)
    z_BD, gaps_BB = batch_of(embeddings, ranks, distance, gather)
    others_BB = ~diagonal(gaps_BB)
    gaps_BP = gaps_BB[others_BB].view(len(z_BD), -1)
    logits_BP = (similarity(z_BD, similarity_kind) / tau)[others_BB].view(len(z_BD), -1)
    nearness_BP, order_BP = (-gaps_BP).sort(dim=1)
    logits_BP = logits_BP.gather(1, order_BP)
    last_tie_BP = torch.searchsorted(nearness_BP, nearness_BP, right=True) - 1
    log_denominator_BP = logits_BP.logcumsumexp(dim=1).gather(1, last_tie_BP)
    return (log_denominator_BP - logits_BP).mean()
