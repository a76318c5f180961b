"""One evaluation: predicted against human scores, with the share that parsed and how sure the correlations are.

Legend: N images, R bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import metrics
from .metrics import FloatArray
from .statistics.resampling import resampled

SMALLEST = 2
NOTHING = np.empty(0)

MEASURES = ("srcc", "krcc", "plcc", "plcc_mapped", "rmse")


def evaluate_scores(
    pred: npt.ArrayLike,
    mos: npt.ArrayLike,
    std: npt.ArrayLike | None = None,
    groups: Sequence[Any] | None = None,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Agreement of predicted with human scores, over all images and per group.

    Images whose prediction is NaN (nothing parsed) are left out of the measures and counted in `parse_rate`. A measure
    that cannot be had (fewer than two images, four for the mapped ones; constants; no fit) is NaN.

    Arguments:
        pred: predicted scores (N,), NaN where nothing parsed.
        mos: human scores (N,), finite.
        std: rating standard deviations (N,), NaN or None where unknown; adds `outlier_ratio`.
        groups: name of each image's group (N), usually its dataset.
        resamples: bootstrap resamples of the images for the intervals; 0 for none.
        confidence: of the intervals, in (0, 1).
        seed: of the bootstrap.

    Returns:
        n, n_parsed, parse_rate, srcc, krcc, plcc (raw), plcc_mapped, rmse (mapped), srcc_ci and plcc_ci as [low, high]
        (percentile bootstrap, raw PLCC); with `std`, outlier_ratio: share of images whose mapped error exceeds twice
        the rating standard deviation. With `groups` also "groups": {name: the same}, and "mean": each measure averaged
        over groups, as benchmark tables do.

    Raises:
        ValueError: lengths differ, no image at all, a human score not finite, or an option out of range.
    """
    pred_N, mos_N = metrics.as_vectors(pred, mos)
    std_N = None if std is None else np.asarray(std, dtype=np.float64).reshape(-1)
    _check(pred_N, mos_N, std_N, groups, resamples, confidence)

    def evaluate(own: Any) -> dict[str, Any]:
        std_own = None if std_N is None else std_N[own]
        return _evaluate(pred_N[own], mos_N[own], std_own, resamples, confidence, seed)

    result = evaluate(slice(None))
    if groups is not None:
        group_N = np.array([str(group) for group in groups])
        result["groups"] = {name: evaluate(group_N == name) for name in dict.fromkeys(group_N.tolist())}
        result["mean"] = {key: float(np.mean([g[key] for g in result["groups"].values()])) for key in MEASURES}
    return result


def _check(
    pred_N: FloatArray,
    mos_N: FloatArray,
    std_N: FloatArray | None,
    groups: Sequence[Any] | None,
    resamples: int,
    confidence: float,
) -> None:
    if len(mos_N) == 0:
        raise ValueError("There is no image to evaluate.")
    for name, values in (("rating deviations", std_N), ("groups", groups)):
        if values is not None and len(values) != len(mos_N):
            raise ValueError(f"There are {len(values)} {name} but {len(mos_N)} human scores; give one each per image.")
    if np.isinf(pred_N).any() or not np.isfinite(mos_N).all():
        raise ValueError("Human scores must be finite and predictions finite or NaN (nothing parsed).")
    if resamples < 0 or not 0 < confidence < 1:
        raise ValueError(f"resamples must be >= 0 and confidence in (0, 1), not {resamples} and {confidence}.")


def _evaluate(
    pred_N: FloatArray, mos_N: FloatArray, std_N: FloatArray | None, resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    parsed_N = ~np.isnan(pred_N)
    n_parsed = int(parsed_N.sum())
    pred, mos = pred_N[parsed_N], mos_N[parsed_N]
    nan = float("nan")
    enough, mappable = n_parsed >= SMALLEST, n_parsed >= metrics.LOGISTIC_PARAMETERS

    mapped = metrics.logistic_map(pred, mos) if mappable else np.full(n_parsed, nan)
    has_map = mappable and not np.isnan(mapped).any()
    result: dict[str, Any] = {
        "n": len(pred_N),
        "n_parsed": n_parsed,
        "parse_rate": n_parsed / len(pred_N),
        "srcc": metrics.srcc(pred, mos) if enough else nan,
        "krcc": metrics.krcc(pred, mos) if enough else nan,
        "plcc": metrics.plcc(pred, mos) if enough else nan,
        "plcc_mapped": metrics.plcc(mapped, mos) if has_map else nan,
        "rmse": metrics.rmse(mapped, mos, mapped=False) if has_map else nan,
    }
    if resamples:
        for name in ("srcc", "plcc"):
            drawn_R = resampled(pred, mos, None, [name], resamples=resamples, seed=seed)[name] if enough else NOTHING
            result[f"{name}_ci"] = _interval(drawn_R, confidence)
    if std_N is not None:
        known = ~np.isnan(std_N[parsed_N])
        outside = np.abs(mapped - mos)[known] > 2 * std_N[parsed_N][known]
        result["outlier_ratio"] = float(outside.mean()) if has_map and known.any() else nan
    return result


def _interval(values_R: FloatArray, confidence: float) -> list[float]:
    defined = values_R[~np.isnan(values_R)]
    if len(defined) == 0:
        return [float("nan"), float("nan")]
    tail = 50 * (1 - confidence)
    return np.percentile(defined, [tail, 100 - tail]).tolist()
