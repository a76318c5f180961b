"""Ranks read off embeddings by a linear layer: plain regression, to compare the ordinal losses with.

Legend: B batch, N items, D embedding width, R numbers in a rank.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mriqa.choices import check_choice
from mriqa.gather import gather_batch
from mriqa.heads.inputs import HeadError, as_embeddings, as_ranks

REGRESSIONS = {"l1": F.l1_loss, "mse": F.mse_loss}


class LinearReading(nn.Module):
    """Embeddings (B, D) to ranks (B, R): mean + deviation × a linear layer, both being those of the training ranks.

    Arguments:
        width: D.
        numbers: R.
    """

    mean_R: Tensor
    std_R: Tensor

    def __init__(self, width: int, numbers: int = 1):
        super().__init__()
        self.linear = nn.Linear(width, numbers)
        self.register_buffer("mean_R", torch.zeros(numbers))
        self.register_buffer("std_R", torch.ones(numbers))

    def standardise(self, ranks: Tensor) -> None:
        """Take mean and deviation from the training ranks (N,) or (N, R); a number that never changes has deviation 1.

        Raises:
            HeadError: NaN, or another R.
        """
        ranks_NR = as_ranks(ranks, len(ranks)).to(self.mean_R)
        if ranks_NR.shape[1] != len(self.mean_R):
            raise HeadError(f"The reading gives {len(self.mean_R)} numbers, but the ranks have {ranks_NR.shape[1]}.")
        std_R = ranks_NR.std(dim=0, correction=0)
        self.mean_R.copy_(ranks_NR.mean(dim=0))
        self.std_R.copy_(std_R.where(std_R > 0, 1.0))

    def forward(self, z_BD: Tensor) -> Tensor:
        return self.mean_R + self.std_R * self.linear(z_BD)

    def loss(self, embeddings: Tensor, ranks: Tensor, kind: str = "l1", gather: bool = False) -> Tensor:
        """Mean absolute or squared error of the read ranks, in deviations of the training ranks, a scalar.

        Arguments:
            embeddings: (B, D).
            ranks: (B,), or (B, R).
            kind: "l1" or "mse".
            gather: as for `conord_loss`.

        Raises:
            HeadError: unknown kind, NaN, shapes that do not fit.
        """
        check_choice("regression", kind, REGRESSIONS, HeadError)
        z_BD = as_embeddings(embeddings)
        ranks_BR = as_ranks(ranks, len(z_BD), z_BD.device).to(z_BD)
        if gather:
            z_BD, ranks_BR = gather_batch(z_BD), gather_batch(ranks_BR)
        return REGRESSIONS[kind](self.linear(z_BD), (ranks_BR - self.mean_R) / self.std_R)
