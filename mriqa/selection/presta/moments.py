"""Moments of the samples that PreSTA has kept so far, and the PPR without any one of them.

Removing sample f from n leaves, for each feature (facts of the paper, in sums over samples rather than means):

    W' = W - b (f - μ)²,   C' = C - b (f - μ)(y - ȳ),   b = n/(n - 1),

W being the sum of squared deviations and C that of products with those of the score. Hence, with ζ = (f - μ)√(b/W) and
ω = (y - ȳ)√(b/W_y), the correlation r becomes **r' = (r - ζω) / √((1 - ζ²)(1 - ω²))**: O(D) for a candidate.

Sums kept up to date by subtraction lose digits as they shrink. So features are standardised anew, by definition, after
every tenth sample removed and whenever a variance has fallen to a quarter; and where one sample holds 99 % of a
variance, its removal is computed by definition as well. Thus a feature that becomes constant has correlation exactly 0.

Legend: N samples, n kept ones, M candidates, D feature width.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mriqa.selection.arrays import FloatArray, IndexArray
from mriqa.selection.ppr import COLUMN_BLOCK, correlations

RENEW_BELOW = 0.25  # of the variance at the last standardisation
BY_DEFINITION_BELOW = 0.1  # of the variance, left by a removal


class KeptMoments:
    """The kept samples of a source, their moments, and leave-one-out PPRs.

    `rows_N` are the samples at the last standardisation, `alive_N` tells which of them are kept still, and features are
    seen as z = (x - shift) · scale: mean 0 and sum of squares N then, `mean_D` and `squares_D` now. A constant feature
    has scale 0. Its score is seen likewise.
    """

    def __init__(self, features_ND: FloatArray, scores_N: FloatArray):
        self.features_ND, self.scores_N = features_ND, scores_N
        self.rows_N: IndexArray = np.arange(len(scores_N))
        self.alive_N: npt.NDArray[np.bool_] = np.ones(len(scores_N), dtype=bool)
        self.standardise()

    def standardise(self) -> None:
        """Take the moments of the kept samples by definition."""
        self.rows_N = self.rows_N[self.alive_N]
        self.count = len(self.rows_N)
        self.alive_N = np.ones(self.count, dtype=bool)
        width = self.features_ND.shape[1]
        self.shift_D, self.scale_D, self.products_D = np.empty(width), np.empty(width), np.empty(width)
        self.mean_D, self.squares_D = np.empty(width), np.empty(width)
        y_N1, *_ = standard_units(self.scores_N[self.rows_N][:, None])
        self.y_N = y_N1[:, 0]
        self.mean_y = float(self.y_N.mean())  # what rounding left of it
        dy_N = self.y_N - self.mean_y
        self.squares_y = float(dy_N @ dy_N)
        for start in range(0, width, COLUMN_BLOCK):
            block = slice(start, start + COLUMN_BLOCK)
            z_Nd, self.shift_D[block], self.scale_D[block] = standard_units(self.features_ND[self.rows_N, block])
            self.mean_D[block] = z_Nd.mean(axis=0)  # likewise: it matters where the mean is large beside the spread
            z_Nd -= self.mean_D[block]
            self.squares_D[block] = np.square(z_Nd).sum(axis=0)
            self.products_D[block] = dy_N @ z_Nd

    def z(self, places_M: npt.NDArray[np.int64]) -> FloatArray:
        """Samples (M, D) at these places of `rows_N`, in units of the last standardisation, float64."""
        z_MD = self.features_ND[self.rows_N[places_M]] - self.shift_D
        z_MD *= self.scale_D
        return z_MD

    @property
    def growth(self) -> float:
        """b, of a removal from the kept samples. 1 for a single one, which leaves nothing to correlate."""
        return self.count / max(self.count - 1, 1)

    @property
    def r_D(self) -> FloatArray:
        """PPR of the kept samples."""
        return _ratio(self.products_D, np.sqrt(self.squares_D * self.squares_y))

    @property
    def leverage_D(self) -> FloatArray:
        """√(b/W): ζ = (z - mean_D) · leverage_D. Zero for a constant feature."""
        return np.sqrt(_ratio(np.full_like(self.squares_D, self.growth), self.squares_D))

    @property
    def omega_N(self) -> FloatArray:
        """ω of every sample of `rows_N`."""
        return (self.y_N - self.mean_y) * (np.sqrt(self.growth / self.squares_y) if self.squares_y > 0 else 0.0)

    def without(self, places_M: npt.NDArray[np.int64]) -> FloatArray:
        """PPRs (M, D) of the kept samples without each of those at these places. Fastest for a few dozen at once."""
        omega_M = self.omega_N[places_M]
        left_M = 1.0 - np.square(omega_M)
        z_MD = self.z(places_M)
        z_MD -= self.mean_D
        z_MD *= self.leverage_D  # ζ
        left_MD = np.square(z_MD)
        np.subtract(1.0, left_MD, out=left_MD)
        if left_MD.min() < BY_DEFINITION_BELOW or left_M.min() < BY_DEFINITION_BELOW:
            return self._without_delicate(places_M, z_MD, omega_M, left_MD, left_M)
        left_MD *= left_M[:, None]
        z_MD *= omega_M[:, None]
        np.subtract(self.r_D, z_MD, out=z_MD)
        z_MD /= np.sqrt(left_MD, out=left_MD)
        return z_MD

    def _without_delicate(
        self, places_M: npt.NDArray[np.int64], zeta_MD: FloatArray, omega_M: FloatArray, left_MD: FloatArray,
        left_M: FloatArray,
    ) -> FloatArray:  # fmt: skip
        """The same, by definition where hardly any variance is left."""
        safe_MD = np.maximum(left_MD, BY_DEFINITION_BELOW) * np.maximum(left_M, BY_DEFINITION_BELOW)[:, None]
        r_MD = (self.r_D - zeta_MD * omega_M[:, None]) / np.sqrt(safe_MD)
        delicate_MD = (left_MD < BY_DEFINITION_BELOW) | (left_M < BY_DEFINITION_BELOW)[:, None]
        for candidate in np.flatnonzero(delicate_MD.any(axis=1)):
            others = self.alive_N.copy()
            others[places_M[candidate]] = False
            rows, columns = self.rows_N[others], np.flatnonzero(delicate_MD[candidate])
            r_MD[candidate, columns] = correlations(self.features_ND[np.ix_(rows, columns)], self.scores_N[rows])
        return r_MD

    def remove(self, place: int) -> bool:
        """Remove the sample at this place; True where that led to a new standardisation, and so to new places."""
        growth = self.growth
        dz_D, dy = self.z(np.array([place]))[0] - self.mean_D, self.y_N[place] - self.mean_y
        self.squares_D -= growth * dz_D**2
        self.squares_y -= growth * dy**2
        self.products_D -= growth * dz_D * dy
        self.mean_D -= dz_D / (self.count - 1)
        self.mean_y -= dy / (self.count - 1)
        self.count -= 1
        self.alive_N[place] = False
        start = len(self.rows_N)
        shrunk_D = (self.scale_D > 0) & (self.squares_D < RENEW_BELOW * start)
        if self.count < 0.9 * start or self.squares_y < RENEW_BELOW * start or shrunk_D.any():
            self.standardise()
            return True
        return False


def standard_units(values_ND: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """z = (x - shift) · scale with mean 0 and sum of squares N in each column, its shift and scale; constant: all 0."""
    z_ND = values_ND.astype(np.float64)
    constant_D = z_ND.min(axis=0) == z_ND.max(axis=0)
    shift_D = z_ND.mean(axis=0)
    z_ND -= shift_D
    z_ND[:, constant_D] = 0.0
    largest_D = np.where(constant_D, 1.0, np.abs(z_ND).max(axis=0))  # so that squares neither overflow nor vanish
    squares_D = np.square(z_ND / largest_D).sum(axis=0)
    scale_D = np.where(constant_D, 0.0, np.sqrt(_ratio(np.full_like(squares_D, len(z_ND)), squares_D)) / largest_D)
    z_ND *= scale_D
    return z_ND, shift_D, scale_D


def _ratio(a: FloatArray, b: FloatArray) -> FloatArray:
    """a/b, and 0 where b is 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)
