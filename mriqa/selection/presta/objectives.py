"""What PreSTA raises: the cosine of the source's PPR to the target's (the paper), or minus their distance (released
code).

Each objective is a function of a PPR r with two facts that let `screen` bound it from above: its gradient, and
how far it may lie above its tangent.

Legend: M candidates, D feature width.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mriqa.selection.arrays import FloatArray


class Objective(Protocol):
    """A function of a PPR, the higher the better."""

    def values(self, r_MD: FloatArray) -> FloatArray:
        """Values (M,) of several PPRs."""

    def gradient(self, r_D: FloatArray) -> FloatArray:
        """Gradient (D,) at one PPR; not finite where there is none."""

    def rise(self, r_D: FloatArray, slopes_M: FloatArray, steps_M: FloatArray) -> FloatArray:
        """Bounds (M,) of how far value(r + d) may lie above its tangent; not finite where none is known.

        `slopes_M` and `steps_M` are bounds of |gradient · d| and of |d|.
        """


class CosineObjective:
    """PPC, cos(r, t). A PPR of zeros has 0."""

    def __init__(self, target_D: FloatArray):
        self.target_D = target_D / np.sqrt(np.square(target_D).sum())

    def values(self, r_MD: FloatArray) -> FloatArray:
        norms_M = np.sqrt(np.einsum("md,md->m", r_MD, r_MD))
        if not norms_M.all():
            norms_M[norms_M == 0] = np.inf
        return r_MD @ self.target_D / norms_M

    def gradient(self, r_D: FloatArray) -> FloatArray:
        norm = np.sqrt(np.square(r_D).sum())
        return (self.target_D - (self.target_D @ r_D) / norm**2 * r_D) / norm

    def rise(self, r_D: FloatArray, slopes_M: FloatArray, steps_M: FloatArray) -> FloatArray:
        """With c = cos(r, t), p the gradient times |r| and η = d/|r|, of which η∥ lies along r, e = η/(1 + η∥) gives

            cos(r + d, t) = (c + p·e)/√(1 + |e⊥|²),

        which is at most c + p·e, or where that is negative at most |e|²/2 of its size above; and p·e differs from p·η
        by at most |p·η||η|/(1 - |η|).
        """
        norm = np.sqrt(np.square(r_D).sum())
        relative_M = steps_M / norm
        stretch_M = relative_M / np.where(relative_M < 1, 1 - relative_M, np.nan)
        negative_M = np.maximum(slopes_M * (1 + stretch_M) - (self.target_D @ r_D) / norm, 0.0)
        return slopes_M * stretch_M + 0.5 * negative_M * stretch_M**2


class EuclideanObjective:
    """-‖r - t‖₂, the objective of the authors' released code."""

    def __init__(self, target_D: FloatArray):
        self.target_D = target_D

    def values(self, r_MD: FloatArray) -> FloatArray:
        return -np.sqrt(np.square(r_MD - self.target_D).sum(axis=1))

    def gradient(self, r_D: FloatArray) -> FloatArray:
        return (self.target_D - r_D) / np.sqrt(np.square(self.target_D - r_D).sum())

    def rise(self, r_D: FloatArray, slopes_M: FloatArray, steps_M: FloatArray) -> FloatArray:
        """A norm lies nowhere below its tangent."""
        return np.zeros_like(steps_M)


OBJECTIVES: dict[str, type[CosineObjective] | type[EuclideanObjective]] = {
    "cosine": CosineObjective,
    "euclidean": EuclideanObjective,
}
