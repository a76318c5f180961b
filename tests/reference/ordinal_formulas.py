"""The formulas of the ConOrd paper as plain loops over Python floats, for the tests to compare with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Vector = Sequence[float]


def dot(z: Vector, w: Vector) -> float:
    return sum(a * b for a, b in zip(z, w, strict=True))


def minus_squared(z: Vector, w: Vector) -> float:
    return -sum((a - b) ** 2 for a, b in zip(z, w, strict=True))


def minus_distance(z: Vector, w: Vector) -> float:
    return -math.sqrt(-minus_squared(z, w))


def delta(d: float) -> float:
    return 0.0 if d == 0 else 5.0


def inverse(d: float, e: float) -> float:
    return 1 / (d + e)


def inverse_square(d: float, e: float) -> float:
    return 1 / (d**2 + e)


TABLE_14: dict[str, tuple[Callable, Callable, Callable]] = {  # name: κ(z, w), a(d, ε), b(d)
    "I": (dot, inverse, lambda d: 1.0),
    "II": (dot, inverse, lambda d: d),
    "III": (dot, inverse_square, lambda d: 1.0),
    "IV": (dot, inverse_square, lambda d: d**2),
    "V": (minus_squared, inverse, lambda d: 1.0),
    "VI": (minus_squared, inverse, lambda d: d),
    "VII": (minus_squared, inverse_square, lambda d: 1.0),
    "VIII": (minus_squared, inverse_square, lambda d: d**2),
    "IX": (minus_squared, lambda d, e: 1 / (delta(d) ** 2 + e), lambda d: delta(d) ** 2),
    "XI": (minus_squared, lambda d, e: 1 / math.sqrt(d + e), math.sqrt),
    "XII": (minus_squared, lambda d, e: 1 / (math.log(1 + d) + e), lambda d: math.log(1 + d)),
    "XIII": (minus_squared, lambda d, e: 1 / (d + e) if d < 10 else 0.1, lambda d: d if d < 10 else 10.0),
}


def conord(z: Sequence[Vector], r: Vector, name: str, tau: float = 0.07, eps: float = 1e-7) -> float:
    """Eq. 3."""
    kappa, a, b = TABLE_14[name]
    n, total = len(z), 0.0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        alpha = sum(a(abs(r[i] - r[j]), eps) * math.exp(kappa(z[i], z[j]) / tau) for j in others)
        beta = sum(b(abs(r[i] - r[j])) * math.exp(kappa(z[i], z[j]) / tau) for j in others)
        total += math.log(alpha / beta) / len(others) if beta > 0 else 0.0
    return -total / n


def conord_gradient(z: Sequence[Vector], r: Vector, tau: float = 0.07, eps: float = 1e-7) -> list[list[float]]:
    """Eq. 6: of the loss VIII for z_i in its own term, the others held fast."""
    _, a, b = TABLE_14["VIII"]
    rows = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        e = {j: math.exp(minus_squared(z[i], z[j]) / tau) for j in others}
        alpha = sum(a(abs(r[i] - r[j]), eps) * e[j] for j in others)
        beta = sum(b(abs(r[i] - r[j])) * e[j] for j in others)
        row = [0.0] * len(z[i])
        for j in others:
            pull = e[j] * (a(abs(r[i] - r[j]), eps) / alpha - b(abs(r[i] - r[j])) / beta)
            row = [g + pull * (p - q) for g, p, q in zip(row, z[i], z[j], strict=True)]
        rows.append([g / (len(z) / 2 * tau * len(others)) for g in row])  # the paper's batch has 2N items
    return rows


def mae(z: Sequence[Vector], r: Vector, tau: float) -> float:
    """Eq. 2."""
    n, total = len(z), 0.0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        e = {j: math.exp(minus_squared(z[i], z[j]) / tau) for j in others}
        total += math.log(sum(abs(r[i] - r[j]) * e[j] for j in others) / sum(e.values())) / len(others)
    return total / n


def supcon(z: Sequence[Vector], r: Vector, tau: float) -> float:
    """Eq. 1, positives being the others of the same rank."""
    n, total = len(z), 0.0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        positives = [p for p in others if r[p] == r[i]]
        whole = sum(math.exp(dot(z[i], z[j]) / tau) for j in others)
        total += sum(math.log(math.exp(dot(z[i], z[p]) / tau) / whole) for p in positives) / max(1, len(positives))
    return -total / n


def rnc(z: Sequence[Vector], r: Vector, tau: float = 2.0) -> float:
    """Eq. 7, which is the definition of Zha et al.: temperature 2, L1 label distance, negative L2 similarity."""
    n, total = len(z), 0.0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        for j in others:
            farther = [k for k in others if abs(r[i] - r[k]) >= abs(r[i] - r[j])]
            whole = sum(math.exp(minus_distance(z[i], z[k]) / tau) for k in farther)
            total += math.log(math.exp(minus_distance(z[i], z[j]) / tau) / whole) / len(others)
    return -total / n


def ocl(z: Sequence[Vector], r: Vector, tau: float) -> float:
    """Ordinal contrastive loss as published in its authors' code; anchors without a positive count as 0."""
    n, total = len(z), 0.0
    for i in range(n):
        negatives = [(dot(z[i], z[j]), abs(r[i] - r[j]) / tau) for j in range(n) if r[j] != r[i]]
        positives = [dot(z[i], z[j]) for j in range(n) if j != i and r[j] == r[i]]
        pushed = sum(math.exp(kappa * inverse_tau) for kappa, inverse_tau in negatives)
        own_tau = pushed / sum(inverse_tau * math.exp(kappa * inverse_tau) for kappa, inverse_tau in negatives)
        pulled = [math.exp(kappa / own_tau) for kappa in positives]
        total += sum(-math.log(each / (pushed + sum(pulled))) for each in pulled) / max(1, len(pulled))
    return total / n
