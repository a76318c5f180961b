"""Which removal helps most, found exactly without evaluating every candidate in every round.

The gain of removing sample i is G(r + Δ_i) - G(r), G the objective and Δ_i the change of the PPR (`moments`). To
first order in the leverages ζ and ω, with p = ∇G(r),

    gain_i ≈ F_i = Σ_d p_d (-ω_i ζ_id + ½ r_d (ζ_id² + ω_i²)).

With ζ_id = (z_id - mean_d) · leverage_d that is three products of the matrices Z and Z² with vectors U, V and V·mean,
which change little from round to round. So the products are kept, in float32, from some earlier round, and each round
bounds how far every gain can lie from what they give:

- **drift**: by Cauchy-Schwarz, |(U_now - U_then)·z_i| ≤ ‖U_now - U_then‖ ‖z_i‖, and likewise for the others;
- **rounding** of a float32 product, at most (D + 8)·2⁻²⁴ times the same norms, in whatever order it is summed;
- **higher orders**: with S = ζ² + ω², (1 - S + ζ²ω²)^(-1/2) lies within ½S²(1 - S)^(-5/2) of 1 + S/2 and within
  ½S(1 - S)^(-3/2) of 1; summed over d by Cauchy-Schwarz in the 2-, 4-, 6- and 8-norms of z_i; and how far the objective
  may rise above its tangent over the length of Δ_i.

The leaders by F are evaluated exactly, in float64, and so are all whose upper bound reaches the highest of their gains;
no other can be the best. When drift has brought too many of those, the products are taken anew. Bounds that fail (few
samples left, a sample that holds half of a variance) are infinite, and the sample is always evaluated.

Legend: N samples at the last standardisation, M candidates, D feature width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mriqa.selection.arrays import FloatArray, IndexArray
from mriqa.selection.presta.exhaustive import TIE
from mriqa.selection.presta.moments import KeptMoments
from mriqa.selection.presta.objectives import Objective

LEADERS = 32  # the best by F, among which the bar is found
PRODUCTS_COST = 1 / 16  # of new products for all samples, in exact evaluations of one
ROWS_AT_ONCE = 64  # so that what is computed of them stays in the cache
ROUNDING = 2.0**-24
ORDERS = (2, 4, 6, 8)
ANYTHING_GOES = np.errstate(all="ignore")  # a bound that isn't finite excludes nothing


class Weights(NamedTuple):
    """What Z and Z² are multiplied with: F_i = -ω_i (U·z_i - U·mean) + V·z_i² - 2 (V mean)·z_i + V·mean² + …"""

    linear_D: FloatArray
    square_D: FloatArray
    cross_D: FloatArray


class Screen:
    """The best removal in each round."""

    def __init__(self, moments: KeptMoments, objective: Objective):
        self.moments, self.objective = moments, objective
        self._renew()

    @property
    def r_D(self) -> FloatArray:
        """PPR of the kept samples."""
        return self.moments.r_D

    def remove(self, place: int) -> None:
        """Remove the sample at this place."""
        if self.moments.remove(place):
            self._renew()

    def _renew(self) -> None:
        """Hold the standardised features and their squares in float32, and the norms of every row."""
        n, width = len(self.moments.rows_N), self.moments.features_ND.shape[1]
        self.z_ND, self.squares_ND = np.empty((n, width), np.float32), np.empty((n, width), np.float32)
        self.norms_KN, self.largest_N = np.empty((len(ORDERS), n)), np.empty(n)
        for start in range(0, n, ROWS_AT_ONCE):
            rows = np.arange(start, min(start + ROWS_AT_ONCE, n))
            z_MD = self.moments.z(rows)
            self.z_ND[rows] = z_MD
            powers_MD = squares_MD = np.square(z_MD)
            self.squares_ND[rows] = squares_MD
            self.largest_N[rows] = np.sqrt(squares_MD.max(axis=1))
            for place, order in enumerate(ORDERS):
                self.norms_KN[place, rows] = powers_MD.sum(axis=1) ** (1 / order)
                powers_MD = powers_MD * squares_MD
        self._take_products()
        self.fewest, self.in_vain = 1, 0

    def best(self) -> tuple[int, float]:
        """Place of the removal with the highest value, the lowest place among ties, and that value."""
        estimate_N, above_N = self._bounds()
        leaders_M = np.argpartition(-estimate_N, min(LEADERS, len(estimate_N)) - 1)[:LEADERS]
        leaders_M = leaders_M[self.moments.alive_N[leaders_M]]
        gain = self._values(leaders_M).max() - self.objective.values(self.moments.r_D[None])[0]
        candidates_M = np.flatnonzero(estimate_N + above_N >= gain)
        self.in_vain += len(candidates_M) - self.fewest
        if self.in_vain > PRODUCTS_COST * len(estimate_N):  # staleness has cost what new products do
            self._take_products()
            estimate_N, above_N = self._bounds()
            candidates_M = np.flatnonzero(estimate_N + above_N >= gain)
            self.fewest, self.in_vain = len(candidates_M), 0
        values_M = self._values(candidates_M)
        best = values_M.max()
        return int(candidates_M[np.argmax(values_M >= best - TIE)]), float(best)

    def _values(self, places_M: IndexArray) -> FloatArray:
        blocks = [places_M[start : start + ROWS_AT_ONCE] for start in range(0, len(places_M), ROWS_AT_ONCE)]
        return np.concatenate([self.objective.values(self.moments.without(block)) for block in blocks])

    def _weights(self, gradient_D: FloatArray) -> Weights:
        leverage_D = self.moments.leverage_D
        square_D = 0.5 * gradient_D * self.moments.r_D * leverage_D**2
        return Weights(gradient_D * leverage_D, square_D, square_D * self.moments.mean_D)

    @ANYTHING_GOES
    def _take_products(self) -> None:
        self.then = self._weights(self.objective.gradient(self.moments.r_D))
        linear_D, square_D, cross_D = (w.astype(np.float32) for w in self.then)
        self.products = Weights(self.z_ND @ linear_D, self.squares_ND @ square_D, self.z_ND @ cross_D)

    @ANYTHING_GOES
    def _bounds(self) -> tuple[FloatArray, FloatArray]:
        """F (N,), -inf for removed samples, and bounds (N,) of how far the gains may lie above it."""
        moments, r_D, mean_D = self.moments, self.moments.r_D, self.moments.mean_D
        gradient_D, omega_N = self.objective.gradient(r_D), moments.omega_N
        now, then, products = self._weights(gradient_D), self.then, self.products
        radial = 0.5 * (gradient_D @ r_D)
        estimate_N = (
            -omega_N * (products.linear_D - now.linear_D @ mean_D)
            + (products.square_D - 2 * products.cross_D + now.cross_D @ mean_D)
            + radial * omega_N**2
        )
        rounding = (len(r_D) + 8) * ROUNDING
        linear, square, cross = (_norm(a - b) + rounding * _norm(b) for a, b in zip(now, then))
        z2_N, z4_N = self.norms_KN[0], self.norms_KN[1]
        above_N = (np.abs(omega_N) * linear + 2 * cross) * z2_N + square * z4_N**2
        orders_N, steps_N = self._higher_orders(gradient_D, r_D, np.abs(omega_N))
        above_N += orders_N
        above_N += self.objective.rise(r_D, np.abs(estimate_N) + above_N, steps_N) + 1e-12
        unknown_N = ~(np.isfinite(estimate_N) & np.isfinite(above_N))
        estimate_N[unknown_N], above_N[unknown_N] = 0.0, np.inf
        estimate_N[~moments.alive_N], above_N[~moments.alive_N] = -np.inf, 0.0
        return estimate_N, above_N

    def _higher_orders(
        self, gradient_D: FloatArray, r_D: FloatArray, omega_N: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Bounds (N,) of |p·Δ - F| and of |Δ|. In every norm ‖ζ_i‖ ≤ max leverage · (‖z_i‖ + ‖mean‖)."""
        leverage, mean_D = self.moments.leverage_D.max(), self.moments.mean_D
        means = [(np.abs(mean_D) ** order).sum() ** (1 / order) for order in ORDERS]
        zeta2_N, zeta4_N, zeta6_N, zeta8_N = (leverage * (z + m) for z, m in zip(self.norms_KN, means))
        largest_N = (leverage * (self.largest_N + np.abs(mean_D).max())) ** 2 + omega_N**2  # of S
        room_N = np.where(largest_N <= 0.5, 1.0 / np.maximum(1.0 - largest_N, 0.5), np.inf)
        slope = _norm(gradient_D)
        orders_N = _norm(gradient_D * r_D) * (zeta8_N**4 + omega_N**4 * np.sqrt(len(r_D)))
        orders_N += 0.5 * slope * omega_N * (zeta6_N**3 + omega_N**2 * zeta2_N)
        steps_N = omega_N * zeta2_N + 0.5 * np.abs(r_D).max() * zeta4_N**2 + 0.5 * omega_N**2 * _norm(r_D)
        return room_N**2.5 * orders_N, room_N**1.5 * steps_N


def _norm(values_D: FloatArray) -> float:
    return float(np.sqrt(np.square(values_D).sum()))
