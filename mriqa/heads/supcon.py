"""Supervised contrastive loss (Khosla et al., NeurIPS 2020; eq. 1 of the ConOrd paper), a baseline that knows no order.

Legend: B batch, D embedding width.
"""

from __future__ import annotations

from torch import Tensor

from mriqa.heads.center import rank_bins
from mriqa.heads.inputs import check_positive
from mriqa.heads.pairs import batch_of, diagonal, l1_gaps, mean_over_positives, similarity


def supcon_loss(
    embeddings: Tensor,
    ranks: Tensor,
    tau: float = 0.07,
    *,
    bin_width: float | None = None,
    similarity_kind: str = "dot",
    gather: bool = False,
) -> Tensor:
    """-1/B Σ_i 1/|P(i)| Σ_{p ∈ P(i)} log(exp(κ_ip/τ) / Σ_{j ≠ i} exp(κ_ij/τ)), P(i) the others of anchor i's rank.

    An anchor without a positive contributes 0. Augmented views of an item carry its rank, and so are its positives.

    Arguments:
        embeddings: (B, D), B ≥ 2, on the unit sphere; halves are computed in float32.
        ranks: (B,), or (B, R): all R numbers must agree.
        tau: temperature τ, above 0.
        bin_width: ranks are classes after rounding to bins of this width; None means equal to the last digit, which
            for a continuous score leaves only augmented views.
        similarity_kind: κ, "dot" or "squared_l2".
        gather: as for `conord_loss`.

    Raises:
        HeadError: bad τ or bin width, fewer than two items, NaN in embeddings or ranks.
    """
    check_positive("tau", tau)
    classes = ranks if bin_width is None else rank_bins(ranks, bin_width)
    z_BD, gaps_BB = batch_of(embeddings, classes, l1_gaps, gather)
    itself_BB = diagonal(gaps_BB)
    logits_BB = (similarity(z_BD, similarity_kind) / tau).masked_fill(itself_BB, -float("inf"))
    positive_BB = (gaps_BB == 0) & ~itself_BB
    return -mean_over_positives(logits_BB, positive_BB)
