"""Kernel mean matching: weights that make the source's features distributed as the target's, and a subset by them.

Huang et al., "Correcting sample selection bias by unlabeled data" (NIPS 2006): the weights β minimise the distance in
kernel space between the weighted mean of the source and the mean of the target, ‖1/N Σ β_i φ(x_i) - 1/T Σ φ(t_j)‖²,
with 0 ≤ β_i ≤ B and |mean β - 1| ≤ ε. With ε = 0, the default here, the weights have mean 1 exactly; "usual" is the ε
of their experiments, (√N - 1)/√N, which leaves the mean nearly free. Solved by accelerated projected gradient steps.
The kernel is an RBF with the median distance as bandwidth.

No N × N matrix is held: with Φ the Nyström features of the kernel at L landmarks of the source, K ≈ ΦΦᵀ. Up to L
samples every one is a landmark, and the kernel is exact.

Legend: N source samples, T target samples, D feature width, L landmarks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mriqa.selection.arrays import (
    FloatArray,
    IndexArray,
    SelectionError,
    as_features,
    check_between,
    check_choice,
    check_same_width,
)
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.contract import Explanation, Selector
from mriqa.selection.distances import median_distance, rbf, squared_distances

BLOCK = 4096  # rows of Nyström features at once
STEPS = 2000
TOLERANCE = 1e-5  # largest change of a weight in a step, of their mean 1, that counts as none
USUAL = "usual"


def kmm_weights(
    features: Any, target: Any, *, bound: float = 1000.0, epsilon: float | str = 0.0, bandwidth: float | None = None,
    landmarks: int = 1000, seed: int = 0,
) -> FloatArray:  # fmt: skip
    """KMM weights (N,) of the source samples, in [0, bound], with a mean within `epsilon` of 1, float64.

    Arguments:
        features: source (N, D).
        target: target features (T, D) of the same encoder; no scores are used.
        bound: B, the largest weight.
        epsilon: ε, how far the mean weight may lie from 1; "usual" for (√N - 1)/√N.
        bandwidth: σ of the kernel; by default the median distance over at most 1,000 samples of both.
        landmarks: L, drawn from the source; fewer are faster and less exact.
        seed: of the draws.

    Raises:
        SelectionError: features that are not finite, widths that differ, bound below 1, epsilon outside 0..1,
            landmarks below 1, bandwidth not above 0.
    """
    source_ND, target_TD = as_features(features, "Source features"), as_features(target, "Target features")
    check_same_width(source_ND, target_TD, "Source features", "Target features")
    check_between("bound", bound, 1.0, 1e12)
    if epsilon == USUAL:
        epsilon = 1.0 - 1.0 / np.sqrt(len(source_ND))
    if not (isinstance(epsilon, (int, float, np.number)) and 0 <= epsilon <= 1):
        raise SelectionError(f'epsilon must be a number from 0 to 1, or "{USUAL}", not {epsilon!r}.')
    check_between("The number of landmarks", landmarks, 1, np.inf)
    rng = np.random.default_rng(seed)
    centre_D = source_ND.mean(axis=0, dtype=np.float64)
    source_ND, target_TD = source_ND - centre_D, target_TD - centre_D
    if bandwidth is None:
        bandwidth = median_distance(np.concatenate([source_ND, target_TD]), rng)
    if not (isinstance(bandwidth, (int, float, np.number)) and np.isfinite(bandwidth) and bandwidth > 0):
        raise SelectionError(f"The bandwidth must be a finite number above 0, not {bandwidth!r}.")
    rows = np.sort(rng.choice(len(source_ND), min(int(landmarks), len(source_ND)), replace=False))
    landmarks_LD = source_ND[rows]
    phi_NL, phi_TL = _nystroem(landmarks_LD, [source_ND, target_TD], float(bandwidth))
    return _match(phi_NL, phi_TL.mean(axis=0), float(bound), float(epsilon))


def select(
    features: Any, budget: Budget, *, target: Any = None, seed: int = 0, draw: str = "top", bound: float = 1000.0,
    epsilon: float | str = 0.0, bandwidth: float | None = None, landmarks: int = 1000,
) -> IndexArray:  # fmt: skip
    """Rows (M,) by KMM weights: "top", the largest weights first, of equal ones the lowest; or "weighted", a draw
    without replacement in proportion to the weights, in its order, samples of weight 0 last.

    Arguments:
        features, budget: as in the contract.
        target: target features (T, D).
        seed: of the draws.
        draw: "top" or "weighted".
        bound, epsilon, bandwidth, landmarks: as of `kmm_weights`.

    Raises:
        SelectionError: no target, another `draw`, a budget that is none, or what `kmm_weights` refuses.
    """
    features_ND = as_features(features, "Source features")
    count = count_of(budget, len(features_ND))
    check_choice("way to draw", draw, ["top", "weighted"])
    if target is None:
        raise SelectionError("KMM needs target, the features (T, D) of the set to resemble.")
    weights_N = kmm_weights(
        features_ND, target, bound=bound, epsilon=epsilon, bandwidth=bandwidth, landmarks=landmarks, seed=seed
    )
    if draw == "top":
        return np.argsort(-weights_N, kind="stable")[:count]
    with np.errstate(divide="ignore"):  # the smallest of exponential waiting times, and forever for weight 0
        waits_N = np.random.default_rng(seed).exponential(size=len(weights_N)) / weights_N
    return np.argsort(waits_N, kind="stable")[:count]


def explain(
    features: Any, rows_M: IndexArray, *, target: Any, seed: int = 0, draw: str = "top", **options: Any
) -> Explanation:
    """The weight of each row, however they were drawn by it."""
    weights_M = kmm_weights(features, target, seed=seed, **options)[rows_M]
    return Explanation(weights_M, [f"kernel-mean-matching weight {weight:.3f}" for weight in weights_M])


def _nystroem(landmarks_LD: FloatArray, sets: list[FloatArray], bandwidth: float) -> list[FloatArray]:
    """Features (n, L) of each set whose products are the kernel: k(x, landmarks) K_LL^(-1/2)."""
    values_L, vectors_LL = np.linalg.eigh(rbf(squared_distances(landmarks_LD, landmarks_LD), bandwidth))
    usable = values_L > 1e-10 * values_L[-1]
    root_LL = vectors_LL[:, usable] / np.sqrt(values_L[usable])
    blocks = [
        [rbf(squared_distances(x[start : start + BLOCK], landmarks_LD), bandwidth) @ root_LL
         for start in range(0, len(x), BLOCK)]
        for x in sets
    ]  # fmt: skip
    return [np.concatenate(parts) for parts in blocks]


def _match(phi_NL: FloatArray, mean_L: FloatArray, bound: float, epsilon: float) -> FloatArray:
    """β (N,) that minimises |Φᵀβ/N - mean|² in [0, bound], its mean within epsilon of 1: FISTA with restarts."""
    n = len(phi_NL)
    step = n / np.linalg.norm(phi_NL.T @ phi_NL / n, 2)  # 1/Lipschitz constant of the gradient of ½|…|²
    beta_N: FloatArray = np.ones(n)
    ahead_N = beta_N
    momentum = 1.0
    for _ in range(STEPS):
        gradient_N = phi_NL @ (phi_NL.T @ ahead_N / n - mean_L) / n
        following_N = _onto_feasible(ahead_N - step * gradient_N, bound, epsilon)
        change_N = following_N - beta_N
        if np.abs(change_N).max() <= TOLERANCE:
            return following_N
        if gradient_N @ change_N > 0:  # uphill: start the acceleration again
            momentum = 1.0
        faster = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead_N = following_N + (momentum - 1) / faster * change_N
        beta_N, momentum = following_N, faster
    return beta_N


def _onto_feasible(values_N: FloatArray, bound: float, epsilon: float) -> FloatArray:
    """The nearest weights in [0, bound] whose mean lies within epsilon of 1.

    Those are the clipped values where their mean does; or else all are shifted by one amount first, so that it does.
    """
    from scipy.optimize import brentq

    clipped_N = np.clip(values_N, 0.0, bound)
    mean = min(max(float(clipped_N.mean()), 1.0 - epsilon), min(1.0 + epsilon, bound))
    if mean == clipped_N.mean():
        return clipped_N

    def excess(shift: float) -> float:
        return float(np.clip(values_N - shift, 0.0, bound).mean() - mean)

    shift = brentq(excess, values_N.min() - bound - 1, values_N.max(), xtol=1e-12)
    return np.clip(values_N - shift, 0.0, bound)


SELECTOR = Selector(select, explain, needs=("target",))
