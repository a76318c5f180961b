"""ConOrd's thirteen weightings, Table 14 of "Contrastive order learning for ordinal regression".

A weighting says how similar two embeddings are (κ), how much an item attracts its anchor (affinity a, which falls with
their rank gap d) and how much it is repelled (disparity b, which rises with it). Both come as logarithms: gaps of 1e8
and of 0 then do no harm, and log 0 = -inf leaves an item out of a log-sum-exp.

Two entries of the table need an interpretation. IX has (Δ² + ε)⁻¹ in Table 7 and its inverse in Table 14; the first is
meant, since an affinity falls with the gap. X, "learnable", has no formula: see `LearnableWeighting`.

Legend: B batch, M gap bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mriqa.heads.inputs import check_positive

LogAffinity = Callable[[Tensor, float], Tensor]
LogDisparity = Callable[[Tensor], Tensor]

COARSE_GAP = 5.0  # IX: the gap of all ranks that are not tied
LARGEST_GAP = 10.0  # XIII: larger gaps count as this


class Weighting(Protocol):
    """Which similarity, and log a (B, B) and log b (B, B) of rank gaps (B, B)."""

    @property
    def similarity(self) -> str: ...

    def log_affinity(self, gaps_BB: Tensor, eps: float) -> Tensor: ...

    def log_disparity(self, gaps_BB: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class FixedWeighting:
    """One row of Table 14: names of the similarity, of the affinity and of the disparity."""

    similarity: str
    affinity: str
    disparity: str

    def log_affinity(self, gaps_BB: Tensor, eps: float) -> Tensor:
        """log a_ij (B, B)."""
        return AFFINITIES[self.affinity](gaps_BB, eps)

    def log_disparity(self, gaps_BB: Tensor) -> Tensor:
        """log b_ij (B, B), -inf where b_ij is 0."""
        return DISPARITIES[self.disparity](gaps_BB)


class LearnableWeighting(nn.Module):
    """Weighting X: a and b of every gap are parameters of their own, trained with the encoder.

    The paper says no more than that. Chosen here: gaps are counted in bins of `width`, gaps past the last bin share
    it; the parameters are log a and log b of each bin, so weights stay positive; they start at those of VIII, b at no
    gap being ε instead of 0. The common scale of a, or of b, changes the loss by a constant and the embeddings not at
    all, so the value of this loss can sink without end and says little.

    Arguments:
        bins: number of gaps told apart, M: 101 for ranks 0..100.
        width: rank gap that a bin covers.
        eps: ε of the starting values.
        similarity: "squared_l2", as in the paper, or "dot".
    """

    def __init__(self, bins: int = 101, width: float = 1.0, eps: float = 1e-7, similarity: str = "squared_l2"):
        super().__init__()
        check_positive("The width of gap bins", width)
        self.width, self.similarity = width, similarity
        gaps_M = width * torch.arange(bins, dtype=torch.float32)
        start_M = (gaps_M.square() + eps).log()
        self.log_affinity_M = nn.Parameter(-start_M)
        self.log_disparity_M = nn.Parameter(start_M.clone())

    def log_affinity(self, gaps_BB: Tensor, eps: float) -> Tensor:
        """log a_ij (B, B); ε has done its work in the starting values."""
        return self.log_affinity_M[self._bins(gaps_BB)].to(gaps_BB.dtype)

    def log_disparity(self, gaps_BB: Tensor) -> Tensor:
        """log b_ij (B, B)."""
        return self.log_disparity_M[self._bins(gaps_BB)].to(gaps_BB.dtype)

    def _bins(self, gaps_BB: Tensor) -> Tensor:
        return (gaps_BB / self.width).round().clamp_max(len(self.log_affinity_M) - 1).long()


def _log_of_square_plus(gaps_BB: Tensor, eps: float) -> Tensor:
    """log(d² + ε) without squaring d, which may be too large for that."""
    return torch.logaddexp(2 * gaps_BB.log(), torch.full_like(gaps_BB, math.log(eps)))


def _coarse(gaps_BB: Tensor) -> Tensor:
    return COARSE_GAP * (gaps_BB != 0).to(gaps_BB.dtype)


AFFINITIES: dict[str, LogAffinity] = {
    "1/(d+ε)": lambda d, eps: -(d + eps).log(),
    "1/(d²+ε)": lambda d, eps: -_log_of_square_plus(d, eps),
    "1/(Δ²+ε)": lambda d, eps: -_log_of_square_plus(_coarse(d), eps),
    "1/√(d+ε)": lambda d, eps: -(d + eps).log() / 2,
    "1/(log(1+d)+ε)": lambda d, eps: -(d.log1p() + eps).log(),
    "1/(d+ε) or 1/10": lambda d, eps: torch.where(d < LARGEST_GAP, -(d + eps).log(), -math.log(LARGEST_GAP)),
}

DISPARITIES: dict[str, LogDisparity] = {
    "1": torch.zeros_like,
    "d": torch.log,
    "d²": lambda d: 2 * d.log(),
    "Δ²": lambda d: 2 * _coarse(d).log(),
    "√d": lambda d: d.log() / 2,
    "log(1+d)": lambda d: d.log1p().log(),
    "d or 10": lambda d: d.clamp_max(LARGEST_GAP).log(),
}

WEIGHTINGS: dict[str, Weighting] = {
    "I": FixedWeighting("dot", "1/(d+ε)", "1"),
    "II": FixedWeighting("dot", "1/(d+ε)", "d"),
    "III": FixedWeighting("dot", "1/(d²+ε)", "1"),
    "IV": FixedWeighting("dot", "1/(d²+ε)", "d²"),
    "V": FixedWeighting("squared_l2", "1/(d+ε)", "1"),
    "VI": FixedWeighting("squared_l2", "1/(d+ε)", "d"),
    "VII": FixedWeighting("squared_l2", "1/(d²+ε)", "1"),
    "VIII": FixedWeighting("squared_l2", "1/(d²+ε)", "d²"),
    "IX": FixedWeighting("squared_l2", "1/(Δ²+ε)", "Δ²"),
    "XI": FixedWeighting("squared_l2", "1/√(d+ε)", "√d"),
    "XII": FixedWeighting("squared_l2", "1/(log(1+d)+ε)", "log(1+d)"),
    "XIII": FixedWeighting("squared_l2", "1/(d+ε) or 1/10", "d or 10"),
}
"""The weightings without parameters, by their names in Table 14."""

NAMES = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII"]
