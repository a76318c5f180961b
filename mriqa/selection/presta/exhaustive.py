"""Which removal helps most, found by evaluating every candidate: on small sets that costs less than bounding them.

The formula is that of `KeptMoments.without`, with as few passes and calls as it takes: the PPR without the sample that
goes is the PPR of the next round, so nothing is worked out twice. Moments are taken by definition again when a quarter
of the samples is gone or a variance has fallen to a quarter; and where a removal would leave hardly any of
one, that candidate's PPR is, too.

Legend: M kept samples, D feature width.
"""

from __future__ import annotations

import numpy as np

from mriqa.selection.arrays import FloatArray
from mriqa.selection.ppr import correlations
from mriqa.selection.presta.moments import BY_DEFINITION_BELOW, RENEW_BELOW, KeptMoments
from mriqa.selection.presta.objectives import Objective

TIE = 1e-14  # removals whose values differ by less are tied, and the lowest index goes first
SMALL, FEW = 2**17, 200  # samples × features, and samples, up to which every candidate is evaluated
RENEW_AT = 0.75  # of the samples at the last renewal


def is_small(moments: KeptMoments) -> bool:
    """Whether evaluating every candidate is the cheaper way."""
    return moments.count <= max(FEW, SMALL // moments.features_ND.shape[1])


class Exhaustive:
    """The best removal in each round.

    Attributes:
        r_D: PPR of the kept samples.
    """

    def __init__(self, moments: KeptMoments, objective: Objective):
        self.moments, self.objective = moments, objective
        self.squares_D: FloatArray
        self.gone_M: FloatArray
        self.ppr_MD: FloatArray
        self.squares_y: float
        self._renew()

    def best(self) -> tuple[int, float]:
        """Place of the removal with the highest value, the lowest place among ties, and that value."""
        self._without_each()
        value_M = self.objective.values(self.ppr_MD)
        value_M += self.gone_M
        best = value_M.max()
        return int((value_M >= best - TIE).argmax()), float(best)

    def _without_each(self) -> None:
        """Put the PPRs without each sample into `ppr_MD`."""
        growth, ppr_MD, left_MD = self.moments.growth, self.ppr_MD, self.left_MD
        omega_M1 = self.y_M1 * ((growth / self.squares_y) ** 0.5 if self.squares_y > 0 else 0.0)
        np.subtract(self.z_MD, self.mean_D, out=ppr_MD)
        ppr_MD *= np.sqrt(growth / self.squares_D)  # ζ
        np.multiply(ppr_MD, ppr_MD, out=left_MD)
        np.subtract(1.0, left_MD, out=left_MD)
        left_MD *= 1.0 - omega_M1 * omega_M1
        delicate: list[int] = []
        if left_MD.min() < BY_DEFINITION_BELOW:
            delicate = np.flatnonzero((left_MD < BY_DEFINITION_BELOW).any(axis=1)).tolist()
            np.maximum(left_MD, BY_DEFINITION_BELOW, out=left_MD)
        np.sqrt(left_MD, out=left_MD)
        ppr_MD *= omega_M1
        np.subtract(self.r_D, ppr_MD, out=ppr_MD)
        ppr_MD /= left_MD
        for candidate in delicate:
            others_M = self.moments.alive_N.copy()
            others_M[candidate] = False
            rows = self.moments.rows_N[others_M]
            ppr_MD[candidate] = correlations(self.moments.features_ND[rows], self.moments.scores_N[rows])

    def remove(self, place: int) -> None:
        """Remove the sample at this place, after `best` has seen what it leaves."""
        moments, growth = self.moments, self.moments.growth
        dz_D, dy = self.z_MD[place] - self.mean_D, float(self.y_M1[place, 0])
        moments.alive_N[place] = False
        moments.count -= 1
        self.mean_D -= dz_D / moments.count
        self.squares_D -= growth * (dz_D * dz_D)
        self.squares_y -= growth * dy * dy
        self.y_M1 += dy / moments.count  # less their mean
        self.r_D = self.ppr_MD[place].copy()
        self.z_MD[place], self.y_M1[place] = self.mean_D, 0.0  # nothing happens there any more
        self.gone_M[place] = -np.inf
        least = RENEW_BELOW * self.start
        if moments.count < RENEW_AT * self.start or self.squares_y < least or self.squares_D.min() < least:
            self._renew()

    def _renew(self) -> None:
        """Take the moments of the kept samples by definition."""
        moments = self.moments
        if moments.count < len(moments.rows_N):  # else they have just been taken
            moments.standardise()
        self.start = moments.count
        self.z_MD = moments.z(np.arange(self.start))
        self.y_M1 = (moments.y_N - moments.mean_y)[:, None]
        self.mean_D, self.squares_y, self.r_D = moments.mean_D.copy(), moments.squares_y, moments.r_D
        self.squares_D = moments.squares_D + (moments.scale_D == 0) * self.start  # a constant feature divides nothing
        self.gone_M = np.zeros(self.start)
        self.ppr_MD, self.left_MD = np.empty_like(self.z_MD), np.empty_like(self.z_MD)
