"""Agreement of predicted with human scores: each measure with its interval, or the reason why it cannot be had.

Intervals are *expanded percentiles* of the bootstrap (Hesterberg, "What Teachers Should Know About the Bootstrap", The
American Statistician 69, 2015, section 4): plain percentiles are too narrow by sqrt((K − 1) / K) and by normal instead
of t quantiles, which matters where the K units drawn are 26 contents and not 10,000 images.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from .. import metrics
from ..metrics import FloatArray
from .resampling import MEASURES, resampled

LOWER_IS_BETTER = ("rmse", "mae", "outlier_ratio")
MAPPED = frozenset({"plcc_mapped", "rmse", "mae"})
"""Measures of the predictions after the logistic mapping."""
SMALLEST = 2


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        value: the measure, None where it cannot be had.
        low, high: its interval, None where there is none.
        reason: why there is no value, or no interval, as one sentence; None where there are both.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def agreement(
    pred: npt.ArrayLike,
    mos: npt.ArrayLike,
    std: npt.ArrayLike | None = None,
    contents: Sequence[Hashable] | None = None,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    names: Sequence[str] = MEASURES,
) -> dict[str, Measure]:
    """SRCC, KRCC, PLCC raw and mapped, RMSE, MAE (both after the mapping), parse rate, and with `std` outlier ratio.

    Predictions that are NaN (nothing parsed) are left out and counted in `parse_rate`.

    Arguments:
        pred, mos: predicted and human scores (N,).
        std: deviations of the ratings (N,), NaN where unknown. An outlier is an image whose mapped error exceeds two
            of them.
        contents: what each image shows (N); resamples then draw whole contents.
        resamples: 0 for no intervals.
        confidence: of the intervals, in (0, 1).
        seed: of the resamples.
        names: which of `MEASURES`.

    Raises:
        ValueError: lengths differ, there is no image, or a value or an option is out of range.
    """
    pred_N, mos_N = metrics.as_vectors(pred, mos)
    _check(pred_N, mos_N, std, contents, resamples, confidence)
    parsed_N = ~np.isnan(pred_N)
    found: dict[str, Measure] = {"parse_rate": Measure(float(parsed_N.mean()))}
    kept = None if contents is None else [content for content, parsed in zip(contents, parsed_N) if parsed]
    needs_map = std is not None or not MAPPED.isdisjoint(names)
    mapped_N, reasons = _reasons(pred_N[parsed_N], mos_N[parsed_N], needs_map)
    values = _values(pred_N[parsed_N], mos_N[parsed_N], mapped_N, [name for name in names if name not in reasons])
    drawn: dict[str, FloatArray] = {}
    if resamples and values:
        drawn = resampled(
            pred_N[parsed_N], mos_N[parsed_N], mapped_N, list(values), resamples=resamples, seed=seed, contents=kept
        )
    units = int(parsed_N.sum()) if kept is None else len(set(kept))
    for name in names:
        if name in reasons:
            found[name] = Measure(None, reason=reasons[name])
        elif name in drawn:
            skew = 0.0
            if mapped_N is not None and name in ("rmse", "mae"):
                errors_N = np.abs(mapped_N - mos_N[parsed_N])
                skew = mean_acceleration(errors_N**2 if name == "rmse" else errors_N, kept)
            what = "images" if kept is None else "contents"
            found[name] = _with_interval(values[name], drawn[name], units, confidence, skew, what)
        else:
            found[name] = Measure(values[name])
    if std is not None:
        deviation_N = np.asarray(std, dtype=np.float64).reshape(-1)[parsed_N]
        found["outlier_ratio"] = _outlier_ratio(mapped_N, mos_N[parsed_N], deviation_N, reasons)
    return found


def expanded_percentiles(
    values_R: npt.ArrayLike, units: int, confidence: float, acceleration: float = 0.0
) -> tuple[float, float]:
    """The interval of bootstrap values (R,) from `units` independent units; both NaN where there is no value.

    `acceleration` shifts both ends upwards for measures whose spread grows with their value: see `mean_acceleration`.
    """
    values_R = np.asarray(values_R, dtype=np.float64)
    defined = values_R[~np.isnan(values_R)]
    if len(defined) == 0 or units < SMALLEST:
        return math.nan, math.nan
    end = float(norm.ppf(expanded_tail((1 - confidence) / 2, units)))
    shifted = [acceleration + (acceleration + z) / (1 - acceleration * (acceleration + z)) for z in (end, -end)]
    low, high = np.percentile(defined, 100 * norm.cdf(shifted))
    return float(low), float(high)


def mean_acceleration(errors_N: FloatArray, contents: Sequence[Hashable] | None = None) -> float:
    """Efron's acceleration of a mean of errors, or of its root: a sixth of the skewness of its units, over sqrt(K).

    For a mean the bias correction has the same value ("Better Bootstrap Confidence Intervals", J. Am. Statist. Assoc.
    82, 1987, section 7), so one number makes the interval of an error as good as that of a correlation.
    """
    distance_N = errors_N - errors_N.mean()
    if contents is not None:
        place_N = np.unique([str(content) for content in contents], return_inverse=True)[1]
        distance_N = np.bincount(place_N, distance_N)
    squares = float((distance_N**2).sum())
    return 0.0 if squares == 0 else float((distance_N**3).sum()) / (6 * squares**1.5)


def expanded_tail(tail: float, units: int) -> float:
    """The share of bootstrap values to cut at either end, for intervals that leave out `tail` there."""
    return float(norm.cdf(math.sqrt(units / (units - 1)) * t.ppf(tail, units - 1)))


def _with_interval(
    value: float, values_R: FloatArray, units: int, confidence: float, acceleration: float, what: str
) -> Measure:
    low, high = expanded_percentiles(values_R, units, confidence, acceleration)
    if math.isnan(low):
        return Measure(value, reason=f"No interval: there are only {units} {what} to draw from.")
    return Measure(value, low, high)


def _reasons(pred_N: FloatArray, mos_N: FloatArray, needs_map: bool) -> tuple[FloatArray | None, dict[str, str]]:
    """The mapped predictions, None where there is no mapping, and why each measure that cannot be had cannot."""
    every = None
    if len(pred_N) == 0:
        every = "No prediction parsed."
    elif len(pred_N) < SMALLEST:
        every = "Only one prediction parsed; a correlation needs two."
    elif pred_N.min() == pred_N.max():
        every = f"All predictions are {pred_N[0]:g}: a constant has no correlation and no mapping."
    elif mos_N.min() == mos_N.max():
        every = f"All human scores are {mos_N[0]:g}: a constant has no correlation."
    if every is not None:
        return None, dict.fromkeys(MEASURES, every)
    if not needs_map:
        return None, {}
    if len(pred_N) < metrics.LOGISTIC_PARAMETERS:
        return None, dict.fromkeys(MAPPED, f"The logistic mapping needs four images, not {len(pred_N)}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said by the reason
        mapped_N = metrics.logistic_map(pred_N, mos_N)
    if np.isnan(mapped_N).any():
        return None, dict.fromkeys(MAPPED, "The fit of the logistic mapping did not converge.")
    if np.ptp(mapped_N) <= 1e-9 * np.ptp(mos_N):
        return mapped_N, {"plcc_mapped": "The fitted logistic is flat: it maps all predictions to one score."}
    return mapped_N, {}


def _values(
    pred_N: FloatArray, mos_N: FloatArray, mapped_N: FloatArray | None, names: Sequence[str]
) -> dict[str, float]:
    measures = {
        "srcc": lambda: metrics.srcc(pred_N, mos_N),
        "krcc": lambda: metrics.krcc(pred_N, mos_N),
        "plcc": lambda: metrics.plcc(pred_N, mos_N),
        "plcc_mapped": lambda: metrics.plcc(mapped_N, mos_N),  # type: ignore[arg-type]  # None has a reason
        "rmse": lambda: metrics.rmse(mapped_N, mos_N, mapped=False),  # type: ignore[arg-type]  # likewise
        "mae": lambda: metrics.mae(mapped_N, mos_N, mapped=False),  # type: ignore[arg-type]  # likewise
    }
    return {name: measures[name]() for name in names}


def _outlier_ratio(
    mapped_N: FloatArray | None, mos_N: FloatArray, std_N: FloatArray, reasons: dict[str, str]
) -> Measure:
    known_N = ~np.isnan(std_N)
    if mapped_N is None:
        return Measure(None, reason=reasons["rmse"])
    if not known_N.any():
        return Measure(None, reason="No deviation of the ratings is known.")
    return Measure(float((np.abs(mapped_N - mos_N) > 2 * std_N)[known_N].mean()))


def _check(pred_N: FloatArray, mos_N: FloatArray, std: Any, contents: Any, resamples: int, confidence: float) -> None:
    if len(mos_N) == 0:
        raise ValueError("There is no image to evaluate.")
    for what, values in (("rating deviations", std), ("contents", contents)):
        if values is not None and len(values) != len(mos_N):
            raise ValueError(f"There are {len(values)} {what} but {len(mos_N)} human scores; give one each per image.")
    if np.isinf(pred_N).any() or not np.isfinite(mos_N).all():
        raise ValueError("Human scores must be finite and predictions finite or NaN (nothing parsed).")
    if resamples < 0 or not 0 < confidence < 1:
        raise ValueError(f"resamples must be >= 0 and confidence in (0, 1), not {resamples} and {confidence}.")
