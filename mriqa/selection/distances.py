"""Euclidean distances and RBF kernels, in blocks that need no N × N matrix, and the precision that selectors work in.

Legend: N samples, M others, D feature width.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mriqa.selection.arrays import FloatArray

DOUBLE_UP_TO = 2**25  # numbers; features beyond that (256 MiB in float64) stay in float32
MEDIAN_SAMPLE = 1000


def centred(features_ND: FloatArray) -> FloatArray:
    """Features less their mean, in float64 where that takes no more than 256 MiB and else in float32.

    Distances don't change by it, and |a|² + |b|² - 2 a·b loses the fewest digits then.
    """
    dtype = np.float64 if features_ND.size <= DOUBLE_UP_TO else np.float32
    x_ND = features_ND.astype(dtype)
    x_ND -= features_ND.mean(axis=0, dtype=np.float64)
    return x_ND


def squared_norms(features_ND: FloatArray) -> FloatArray:
    """|x|² (N,) of each row."""
    return np.einsum("nd,nd->n", features_ND, features_ND)


def squared_distances(a_ND: FloatArray, b_MD: FloatArray) -> FloatArray:
    """Squared Euclidean distances (N, M), never negative, and 0 where they are below what rounding leaves."""
    a_N, b_M = squared_norms(a_ND), squared_norms(b_MD)
    squared_NM = a_ND @ b_MD.T
    squared_NM *= -2
    squared_NM += a_N[:, None]
    squared_NM += b_M
    smallest = 8 * float(np.finfo(squared_NM.dtype).eps) * max(a_N.max(), b_M.max())
    squared_NM[squared_NM < smallest] = 0.0
    return squared_NM


def median_distance(features_ND: FloatArray, rng: np.random.Generator) -> float:
    """Median Euclidean distance between two samples, over at most 1,000 drawn ones: the usual bandwidth of an RBF
    kernel.

    Where more than half of the pairs are duplicates it is the mean distance, and 1 where all are.
    """
    if len(features_ND) > MEDIAN_SAMPLE:
        features_ND = features_ND[np.sort(rng.choice(len(features_ND), MEDIAN_SAMPLE, replace=False))]
    return typical_distance(np.sqrt(squared_distances(features_ND, features_ND)))


def typical_distance(distances_NN: FloatArray) -> float:
    """Median of the distances between different samples; their mean where that is 0, and 1 where all are."""
    apart = distances_NN[np.triu_indices(len(distances_NN), k=1)]
    if len(apart) == 0:
        return 1.0
    return float(np.median(apart)) or float(apart.mean()) or 1.0


def rbf(squared: npt.NDArray[np.floating], bandwidth: float) -> FloatArray:
    """exp(-d²/(2σ²)) of squared distances, written over them."""
    squared *= -0.5 / bandwidth**2
    return np.exp(squared, out=squared)
