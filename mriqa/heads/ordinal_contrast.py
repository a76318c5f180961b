"""The ConOrd loss, eq. 3 of "Contrastive order learning for ordinal regression".

Every item of a batch is an anchor in turn. All others attract it, the more so the nearer their ranks are to its rank,
and repel it, the more so the farther they are. Nothing is sampled and nothing selected, so a batch needs no augmented
views.

Legend: B batch, D embedding width, R numbers in a rank.
"""

from __future__ import annotations

import warnings

from torch import Tensor

from mriqa.choices import check_choice
from mriqa.heads.inputs import HeadError, check_positive
from mriqa.heads.pairs import RankDistance, batch_of, diagonal, similarity
from mriqa.heads.weightings import NAMES, WEIGHTINGS, LearnableWeighting, Weighting


def conord_loss(
    embeddings: Tensor,
    ranks: Tensor,
    weighting: str | Weighting = "VIII",
    tau: float = 0.07,
    eps: float = 1e-7,
    *,
    similarity_kind: str | None = None,
    distance: RankDistance | None = None,
    gather: bool = False,
) -> Tensor:
    """-1/B Σ_i 1/(B-1) log(Σ_j a_ij exp(κ_ij/τ) / Σ_j b_ij exp(κ_ij/τ)) over j ≠ i (eq. 3).

    An anchor that no item repels, because all ranks are tied with its own, contributes 0 (chosen: eq. 3 would be -∞).
    The gradient for z_i is that of eq. 6, which is anchor i's own term, plus what z_i does as the partner of the other
    anchors, which eq. 6 leaves out.

    Arguments:
        embeddings: (B, D), B ≥ 2, on the unit sphere as the paper has it (they are not normalised here); halves are
            computed in float32.
        ranks: (B,), or (B, R) for vector ranks. XIII's limit of 10 and ε mean ranks of the order of 0..100.
        weighting: "I" to "XIII" of Table 14, or another object of that kind. "X" learns: hand in a `LearnableWeighting`
            whose parameters the optimiser has; by name alone it stays at its starting weights, and a warning says so.
        tau: temperature τ, above 0.
        eps: ε of the affinities, above 0.
        similarity_kind: "dot" or "squared_l2" in the place of the weighting's own.
        distance: gaps of the ranks, (B, R) to (B, B); by default |r_i - r_j|, summed over R; `angular_gaps`
            is for gaze.
        gather: compute the loss of the batch of all processes, with gradients (see `mriqa.gather`).

    Returns:
        A scalar; it may be negative.

    Raises:
        HeadError: unknown weighting, bad τ or ε, fewer than two items, NaN in embeddings or ranks.
    """
    check_positive("tau", tau)
    check_positive("eps", eps)
    z_BD, gaps_BB = batch_of(embeddings, ranks, distance, gather)
    weights = _by_name(weighting, z_BD) if isinstance(weighting, str) else weighting
    itself_BB = diagonal(gaps_BB)
    logits_BB = similarity(z_BD, similarity_kind or weights.similarity) / tau
    log_a_BB = weights.log_affinity(gaps_BB, eps).masked_fill(itself_BB, -float("inf"))
    log_b_BB = weights.log_disparity(gaps_BB).masked_fill(itself_BB, -float("inf"))
    repelled_B1 = (log_b_BB > -float("inf")).any(dim=1, keepdim=True)
    log_b_BB = log_b_BB.where(repelled_B1, log_a_BB)  # a tied anchor: log(α/α) = 0, gradient included
    per_anchor_B = (logits_BB + log_b_BB).logsumexp(dim=1) - (logits_BB + log_a_BB).logsumexp(dim=1)
    return per_anchor_B.mean() / (len(z_BD) - 1)


def _by_name(name: str, z_BD: Tensor) -> Weighting:
    check_choice("weighting", name, NAMES, HeadError)
    if name != "X":
        return WEIGHTINGS[name]
    warnings.warn(
        "Weighting 'X' by name alone stays at its starting weights; hand in a LearnableWeighting to train them.",
        stacklevel=3,
    )
    return LearnableWeighting().requires_grad_(False).to(z_BD.device)
