"""Which image of a batch is which: references first, then everything that was made of them.

Legend: B tiny-batches (i), R references in each (j), C groups (k), L levels (l), N = B·R·(1 + C·L) nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mriqa.errors import UserError


class PretrainError(UserError, ValueError):
    """Settings, pictures or a folder that pretraining cannot use, as one sentence."""


@dataclass(frozen=True)
class Layout:
    """The sizes of a batch, and with them the order of its N images.

    References come first, reference j of tiny-batch i at i·R + j; then the distorted images, row-major over
    (i, j, k, l). All references of a tiny-batch go through the same C·L compositions.

    Raises:
        PretrainError: a size below 1.
    """

    tiny_batches: int
    references: int
    groups: int
    levels: int

    def __post_init__(self) -> None:
        for name in ("tiny_batches", "references", "groups", "levels"):
            if getattr(self, name) < 1:
                raise PretrainError(f"A batch needs {name} of at least 1, not {getattr(self, name)}.")

    @property
    def nodes(self) -> int:
        """N, the number of images."""
        return self.tiny_batches * self.references * (1 + self.groups * self.levels)

    def reference_nodes(self, device: torch.device | str = "cpu") -> Tensor:
        """Numbers (B, R) of the reference images."""
        return torch.arange(self.tiny_batches * self.references, device=device).view(self.tiny_batches, -1)

    def distorted_nodes(self, device: torch.device | str = "cpu") -> Tensor:
        """Numbers (B, R, C, L) of the distorted images."""
        first = self.tiny_batches * self.references
        shape = (self.tiny_batches, self.references, self.groups, self.levels)
        return torch.arange(first, self.nodes, device=device).view(shape)
