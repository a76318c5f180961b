"""Measures on bootstrap resamples of images, or of whole contents, all resamples at once.

A resample is how often each image stands in it, its *counts*. Measures are then weighted sums, and the ranks within a
resample are cumulative counts in the order of the values: nothing is sorted again. Each number equals what the measure
gives on the images written out as often as they were drawn.

Legend: N images, R resamples, B resamples of a block, C contents, K distinct values.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from ..metrics import FloatArray

BLOCK = 2**20
"""Numbers per block: 8 MB of float64."""

SIGN_MATRIX_UP_TO = 4096
"""Images up to which KRCC compares all pairs of a resample by one matrix product; beyond, resamples go one by one."""

MEASURES = ("srcc", "krcc", "plcc", "plcc_mapped", "rmse", "mae")


def resample_counts(
    n: int, resamples: int, seed: int, contents: Sequence[Hashable] | None = None
) -> Iterator[npt.NDArray[np.int64]]:
    """Counts (B, n) of each image in resamples drawn with replacement, block by block; in all, `resamples` rows.

    With `contents`, the content of each image, whole contents are drawn: versions of one picture are no independent
    pictures. The same arguments give the same resamples, whatever is measured on them.
    """
    place_N: npt.NDArray[Any] | None = None
    units = n
    if contents is not None:
        names = {name: place for place, name in enumerate(dict.fromkeys(contents))}
        place_N, units = np.array([names[name] for name in contents]), len(names)
    rng = np.random.default_rng(seed)
    per_block = max(1, BLOCK // n)
    for start in range(0, resamples, per_block):
        rows = min(per_block, resamples - start)
        drawn_BC = rng.integers(units, size=(rows, units))
        drawn_BC += units * np.arange(rows)[:, None]
        counts_BC = np.bincount(drawn_BC.ravel(), minlength=rows * units).reshape(rows, units)
        yield counts_BC if place_N is None else counts_BC[:, place_N]


def measures_on_resamples(
    pred_N: FloatArray,
    mos_N: FloatArray,
    mapped_N: FloatArray | None,
    counts_BN: npt.NDArray[Any],
    names: Sequence[str],
) -> dict[str, FloatArray]:
    """The measures called `names` (out of `MEASURES`) on every resample (B,); NaN where one side is constant there.

    `mapped_N` are the predictions mapped by the logistic fitted to all images; the curve is not fitted again to every
    resample.
    """
    found: dict[str, FloatArray] = {}
    for name in names:
        if name == "srcc":
            found[name] = weighted_correlation(midranks(pred_N, counts_BN), midranks(mos_N, counts_BN), counts_BN)
        elif name == "krcc":
            found[name] = kendall(pred_N, mos_N, counts_BN)
        elif name == "plcc":
            found[name] = weighted_correlation(pred_N, mos_N, counts_BN)
        elif mapped_N is None:
            found[name] = np.full(len(counts_BN), np.nan)
        elif name == "plcc_mapped":
            found[name] = weighted_correlation(mapped_N, mos_N, counts_BN)
        else:
            error_N = np.square(mapped_N - mos_N) if name == "rmse" else np.abs(mapped_N - mos_N)
            mean_B = counts_BN @ error_N / counts_BN.sum(axis=1)
            found[name] = np.sqrt(mean_B) if name == "rmse" else mean_B
    return found


def resampled(
    pred_N: FloatArray,
    mos_N: FloatArray,
    mapped_N: FloatArray | None,
    names: Sequence[str],
    *,
    resamples: int,
    seed: int,
    contents: Sequence[Hashable] | None = None,
) -> dict[str, FloatArray]:
    """`measures_on_resamples` for `resamples` of them: name -> (R,)."""
    blocks = [
        measures_on_resamples(pred_N, mos_N, mapped_N, counts_BN, names)
        for counts_BN in resample_counts(len(pred_N), resamples, seed, contents)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in names}


def midranks(values_N: FloatArray, counts_BN: npt.NDArray[Any]) -> FloatArray:
    """Rank (B, N) of each value among the values of its resample, 1 for the lowest; ties share their mean rank."""
    order_N = np.argsort(values_N, kind="stable")
    ordered_N = values_N[order_N]
    first_K = np.flatnonzero(np.concatenate([[True], ordered_N[1:] != ordered_N[:-1]]))
    if len(first_K) == len(values_N):
        held_BK = counts_BN[:, order_N].astype(np.float64)
        group_N = np.arange(len(values_N))
    else:
        held_BK = np.add.reduceat(counts_BN[:, order_N], first_K, axis=1).astype(np.float64)
        group_N = np.repeat(np.arange(len(first_K)), np.diff(np.append(first_K, len(values_N))))
    rank_BK = np.cumsum(held_BK, axis=1) - (held_BK - 1) / 2
    rank_BN = np.empty(counts_BN.shape)
    rank_BN[:, order_N] = rank_BK[:, group_N]
    return rank_BN


def weighted_correlation(a: FloatArray, b: FloatArray, counts_BN: npt.NDArray[Any]) -> FloatArray:
    """Pearson correlation (B,) of a with b, each (N,) or (B, N), image i standing counts[i] times."""
    weight_BN = counts_BN / counts_BN.sum(axis=1, keepdims=True)
    a_BN = a - (weight_BN * a).sum(axis=1, keepdims=True)
    b_BN = b - (weight_BN * b).sum(axis=1, keepdims=True)
    drawn_BN = counts_BN > 0
    constant_B = np.zeros(len(counts_BN), dtype=bool)
    for values in (a, b):
        lowest_B = np.where(drawn_BN, values, np.inf).min(axis=1)
        constant_B |= lowest_B == np.where(drawn_BN, values, -np.inf).max(axis=1)
    norm_B = np.sqrt((weight_BN * a_BN**2).sum(axis=1)) * np.sqrt((weight_BN * b_BN**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation_B = (weight_BN * a_BN * b_BN).sum(axis=1) / norm_B
    return np.where(constant_B, np.nan, np.clip(correlation_B, -1.0, 1.0))


def kendall(a_N: FloatArray, b_N: FloatArray, counts_BN: npt.NDArray[Any]) -> FloatArray:
    """Kendall's tau-b (B,) of the resamples; copies of one image are ties, as in the data written out."""
    if len(a_N) > SIGN_MATRIX_UP_TO:
        return np.array([_tau(np.repeat(a_N, counts_N), np.repeat(b_N, counts_N)) for counts_N in counts_BN])
    signs_NN = _signs(a_N) * _signs(b_N)
    counts = counts_BN.astype(np.float32)  # sums of up to 4096 ones: exact
    agreeing_B = np.einsum("bn,bn->b", (counts @ signs_NN).astype(np.float64), counts_BN) / 2
    n_B = counts_BN.sum(axis=1).astype(np.float64)
    pairs_B = n_B * (n_B - 1) / 2
    untied_B = np.sqrt(pairs_B - _tied_pairs(a_N, counts_BN)) * np.sqrt(pairs_B - _tied_pairs(b_N, counts_BN))
    return np.where(untied_B == 0, np.nan, agreeing_B / np.where(untied_B == 0, 1.0, untied_B))


def _tau(a: FloatArray, b: FloatArray) -> float:
    return float(kendalltau(a, b).statistic)


def _signs(values_N: FloatArray) -> npt.NDArray[np.float32]:
    return (values_N[:, None] > values_N).astype(np.float32) - (values_N[:, None] < values_N)


def _tied_pairs(values_N: FloatArray, counts_BN: npt.NDArray[Any]) -> FloatArray:
    order_N = np.argsort(values_N, kind="stable")
    first_K = np.flatnonzero(np.concatenate([[True], np.diff(values_N[order_N]) != 0]))
    held_BK = np.add.reduceat(counts_BN[:, order_N], first_K, axis=1).astype(np.float64)
    return (held_BK * (held_BK - 1) / 2).sum(axis=1)
