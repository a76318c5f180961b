"""Relation graphs, targets and losses of SHAMISA by loops over their definitions, in float64 and numpy alone."""

from __future__ import annotations

import math

import numpy as np


def roles(B: int, R: int, C: int, L: int) -> list[tuple[int, int, int, int]]:
    """(tiny-batch, reference, group, level) of every image in order; references have group and level -1."""
    references = [(i, j, -1, -1) for i in range(B) for j in range(R)]
    return references + [(i, j, k, m) for i in range(B) for j in range(R) for k in range(C) for m in range(L)]


def graphs(
    sizes: tuple[int, int, int, int], severity, features, prototypes, *, kappa, w_rr, k_n, K_d, K_g, tau
) -> dict[str, np.ndarray]:
    who = roles(*sizes)
    N = len(who)
    phi = lambda u: math.exp(-kappa * u)  # noqa: E731
    unit = [h / max(np.linalg.norm(h), 1e-12) for h in features]
    rd, dd, rr, knn, ot = (np.zeros((N, N)) for _ in range(5))
    for a, (i, _, k, m) in enumerate(who):
        for b, (i2, _, k2, m2) in enumerate(who):
            if a == b:
                continue
            if k == -1 and k2 == -1:
                rr[a, b] = w_rr
            elif k == -1 and who[a][:2] == who[b][:2]:
                rd[a, b] = rd[b, a] = phi(severity[i][k2][m2])
            elif k >= 0 and (i, k) == (i2, k2):
                dd[a, b] = phi(abs(severity[i][k][m] - severity[i][k][m2]))
    pairs = sorted((-dd[a, b], a, b) for a in range(N) for b in range(a + 1, N) if dd[a, b] > 0)[K_d // 2 :]
    for _, a, b in pairs:
        dd[a, b] = dd[b, a] = 0
    for a in range(N):
        cosines = sorted((-float(unit[a] @ unit[b]), b) for b in range(N) if b != a)[:k_n]
        for minus, b in cosines:
            knn[a, b] = max(0.0, -minus)
    log_a = log_assignments(features, prototypes, tau)
    S = np.array([[sum(math.exp(x) * y for x, y in zip(log_a[a], log_a[b])) for b in range(N)] for a in range(N)])
    low, high = S.min(), S.max()
    if high - low > 1e-12:
        scaled = (S - low) / (high - low)
        for _, a, b in sorted((-scaled[a, b], a, b) for a in range(N) for b in range(N))[:K_g]:
            ot[a, b] = scaled[a, b] if a != b else 0
    return {"rd": rd, "dd": dd, "rr": rr, "knn": (knn + knn.T) / 2, "ot": (ot + ot.T) / 2}


def log_assignments(features, prototypes, tau) -> list[list[float]]:
    found = []
    for h in features:
        h = h / max(np.linalg.norm(h), 1e-12)
        logits = [float(h @ c) / tau for c in prototypes]
        top = max(logits)
        total = top + math.log(sum(math.exp(x - top) for x in logits))
        found.append([x - total for x in logits])
    return found


def balanced(logits: np.ndarray, epsilon: float, rounds: int) -> np.ndarray:
    """Sinkhorn on exponentials, which float64 bears for small logits."""
    Q = np.exp(logits / epsilon)
    N, K = Q.shape
    for _ in range(rounds):
        Q = Q / Q.sum(axis=0, keepdims=True) / K
        Q = Q / Q.sum(axis=1, keepdims=True) / N
    return N * Q


def losses(sizes, Z, G, log_a, T, normalised: bool) -> dict[str, float]:
    who = roles(*sizes)
    N, D = Z.shape
    cov = np.zeros((D, D))
    mean = Z.mean(axis=0)
    for z in Z:
        cov += np.outer(z - mean, z - mean) / (N - 1)
    variances = [max(0.0, 1 - math.sqrt(cov[t, t] + (1e-4 if normalised else 0))) for t in range(D)]
    covariance = sum(cov[t, u] ** 2 for t in range(D) for u in range(D) if t != u)
    invariance = sum(G[a, b] * float(((Z[a] - Z[b]) ** 2).sum()) for a in range(N) for b in range(N))
    own = [-sum(T[n][c] * log_a[n][c] for c in range(len(T[n]))) for n in range(N)]
    cross = [
        -sum(T[u][c] * log_a[v][c] for c in range(len(T[u])))
        for u in range(N)
        for v in range(N)
        if who[u][2] >= 0 and who[u][0] == who[v][0] and who[u][2:] == who[v][2:] and who[u][1] != who[v][1]
    ]
    return {
        "variance": sum(variances) / (D if normalised else 1),
        "covariance": covariance * (2 / D if normalised else 1),
        "invariance": invariance / (N * D if normalised else 1),
        "graph": -float((G**2).sum()),
        "ot": float(np.mean(own)) + (float(np.mean(cross)) if cross else 0.0),
    }
