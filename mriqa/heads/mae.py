"""L_MAE, eq. 2 of "Contrastive order learning for ordinal regression": the expected rank error, as ConOrd's foil.

Its positive logarithm makes gradients grow as the loss falls (Fig. 6 of the paper), which is why ConOrd exists.

Legend: B batch, D embedding width.
"""

from __future__ import annotations

from torch import Tensor

from mriqa.heads.inputs import check_positive
from mriqa.heads.pairs import RankDistance, batch_of, diagonal, similarity


def mae_loss(
    embeddings: Tensor,
    ranks: Tensor,
    tau: float = 0.07,
    *,
    similarity_kind: str = "squared_l2",
    distance: RankDistance | None = None,
    gather: bool = False,
) -> Tensor:
    """1/B Σ_i 1/(B-1) log(Σ_j |r_i - r_j| exp(κ_ij/τ) / Σ_j exp(κ_ij/τ)) over j ≠ i (eq. 2).

    An anchor whose rank all others share has no error, and contributes 0 (chosen: eq. 2 would be -∞).

    Arguments:
        embeddings: (B, D), B ≥ 2, on the unit sphere as the paper has it; halves are computed in float32.
        ranks: (B,), or (B, R) for vector ranks.
        tau: temperature τ, above 0.
        similarity_kind: κ, "squared_l2" (-‖z_i - z_j‖², as in the paper's comparison with ConOrd) or "dot" (z_i·z_j).
        distance, gather: as for `conord_loss`.

    Returns:
        A scalar; negative where the mean expected error is below 1.

    Raises:
        HeadError: bad τ, fewer than two items, NaN in embeddings or ranks.
    """
    check_positive("tau", tau)
    z_BD, gaps_BB = batch_of(embeddings, ranks, distance, gather)
    logits_BB = (similarity(z_BD, similarity_kind) / tau).masked_fill(diagonal(gaps_BB), -float("inf"))
    errs_B1 = (gaps_BB > 0).any(dim=1, keepdim=True)
    log_gaps_BB = gaps_BB.log().where(errs_B1, 0.0)
    per_anchor_B = (logits_BB + log_gaps_BB).logsumexp(dim=1) - logits_BB.logsumexp(dim=1)
    return per_anchor_B.mean() / (len(z_BD) - 1)
