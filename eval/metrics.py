"""How well predicted scores agree with human ones: SRCC, KRCC, PLCC, RMSE and MAE, as the IQA literature reports them.

PLCC is reported raw, and after the monotone mapping of the Video Quality Experts Group (VQEG), the four-parameter
logistic f(x) = (β1 - β2) / (1 + exp(-(x - β3) / β4)) + β2; RMSE and MAE after the same mapping.

Every function takes `pred` and `mos` of equal length n >= 2, all finite: a prediction that did not parse must be left
out by the caller, who then also reports how many there were (`evaluate.evaluate_scores` does both).
A correlation with a constant is undefined: NaN, with a warning.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import expit
from scipy.stats import kendalltau, rankdata

FloatArray = npt.NDArray[np.float64]

LOGISTIC_PARAMETERS = 4
THINNED_FROM = 20_000
"""Images from which on the fit begins with an evenly drawn part of them, of about this many."""
FAR_OUT = 100
"""A deviation so many times the width of the predictions' middle half is that of a few of them."""


def srcc(pred: npt.ArrayLike, mos: npt.ArrayLike) -> float:
    """Spearman rank correlation in -1..1; tied values share their mean rank. NaN (and a warning) for constants.

    Raises:
        ValueError: lengths differ, fewer than two values, or a value is not finite.
    """
    pred_N, mos_N = checked(pred, mos)
    return _pearson(rankdata(pred_N), rankdata(mos_N), "SRCC")


def krcc(pred: npt.ArrayLike, mos: npt.ArrayLike) -> float:
    """Kendall rank correlation (tau-b) in -1..1. NaN (and a warning) for constants.

    Raises:
        ValueError: lengths differ, fewer than two values, or a value is not finite.
    """
    pred_N, mos_N = checked(pred, mos)
    return float("nan") if _is_constant(pred_N, mos_N, "KRCC") else float(kendalltau(pred_N, mos_N).statistic)


def plcc(pred: npt.ArrayLike, mos: npt.ArrayLike, mapped: bool = False) -> float:
    """Pearson correlation in -1..1, raw or after the logistic mapping. NaN (and a warning) for constants.

    Arguments:
        pred, mos: predicted and human scores (n,).
        mapped: map `pred` by the fitted logistic first; needs n >= 4. NaN (and a warning) where the fit fails.

    Raises:
        ValueError: lengths differ, fewer than two values (four if mapped), or a value is not finite.
    """
    pred_N, mos_N = checked(pred, mos)
    return _pearson(logistic_map(pred_N, mos_N) if mapped else pred_N, mos_N, "PLCC")


def rmse(pred: npt.ArrayLike, mos: npt.ArrayLike, mapped: bool = True) -> float:
    """Root mean squared error in units of `mos`, after the logistic mapping unless told otherwise.

    Arguments:
        pred, mos: predicted and human scores (n,).
        mapped: map `pred` by the fitted logistic first; needs n >= 4. NaN (and a warning) where the fit fails.

    Raises:
        ValueError: lengths differ, fewer than two values (four if mapped), or a value is not finite.
    """
    pred_N, mos_N = checked(pred, mos)
    return float(np.sqrt(np.mean(np.square((logistic_map(pred_N, mos_N) if mapped else pred_N) - mos_N))))


def mae(pred: npt.ArrayLike, mos: npt.ArrayLike, mapped: bool = True) -> float:
    """Mean absolute error in units of `mos`, after the logistic mapping unless told otherwise; arguments as `rmse`."""
    pred_N, mos_N = checked(pred, mos)
    return float(np.mean(np.abs((logistic_map(pred_N, mos_N) if mapped else pred_N) - mos_N)))


def logistic(x: npt.ArrayLike, top: float, bottom: float, centre: float, width: float) -> FloatArray:
    """VQEG's four-parameter logistic: (β1 - β2) / (1 + exp(-(x - β3) / β4)) + β2, without overflow."""
    return (top - bottom) * expit((np.asarray(x, dtype=np.float64) - centre) / width) + bottom


def fit_logistic(pred: npt.ArrayLike, mos: npt.ArrayLike) -> tuple[float, float, float, float] | None:
    """Least-squares β1..β4 of `logistic` from predictions to human scores; None where there is no such fit.

    Started at (max mos, min mos, mean pred, std pred / 4). There is no fit, and a warning says so, where predictions
    are constant or the iteration does not converge.

    Raises:
        ValueError: lengths differ, fewer than four values, or a value is not finite.
    """
    fit = _fit(pred, mos)
    if fit is None:
        return None
    (top, bottom, centre, width), (exponent, mean, std), _ = fit
    return top, bottom, math.ldexp(mean + std * centre, exponent), math.ldexp(width * std, exponent)


def logistic_map(pred: npt.ArrayLike, mos: npt.ArrayLike) -> FloatArray:
    """Predictions (n,) mapped by the logistic fitted to `mos`; all NaN where there is no fit (see `fit_logistic`)."""
    fit = _fit(pred, mos)
    return np.full(np.shape(pred), np.nan) if fit is None else logistic(fit[2], *fit[0])


def _fit(
    pred: npt.ArrayLike, mos: npt.ArrayLike
) -> tuple[tuple[float, float, float, float], tuple[int, float, float], FloatArray] | None:
    """β of the standardised predictions; exponent, place and scale that standardise them; and these predictions.

    Standardised by mean and deviation, the fit is the same whatever the scale of the predictions, be it 1e-200 or an
    offset of 1e9. Where a few predictions lie so far out that all others are as good as one, the middle half of them
    sets place and scale as well, and the better fit of both is taken.
    """
    pred_N, mos_N = checked(pred, mos)
    if len(pred_N) < LOGISTIC_PARAMETERS:
        raise ValueError(f"The logistic mapping needs at least 4 images, got {len(pred_N)}; use mapped=False.")
    if _is_constant(pred_N, pred_N, "The logistic mapping"):
        return None
    exponent = _exponent(pred_N)
    share_N = np.ldexp(pred_N, -exponent)
    mean, std = float(share_N.mean()), float(share_N.std())
    low, median, high = (float(each) for each in np.quantile(share_N, (0.25, 0.5, 0.75)))
    scales = [(mean, std)] + ([(median, high - low)] if 0 < high - low < std / FAR_OUT else [])
    fits = [(beta, scale) for scale in scales if (beta := _least_squares((share_N - scale[0]) / scale[1], mos_N))]
    if not fits:
        warnings.warn("The logistic mapping did not converge: mapped metrics are NaN.", stacklevel=4)
        return None

    def error(fit: tuple[tuple[float, float, float, float], tuple[float, float]]) -> float:
        beta, (place, scale) = fit
        return float(np.square(logistic((share_N - place) / scale, *beta) - mos_N).sum())

    beta, (place, scale) = min(fits, key=error)
    return beta, (exponent, place, scale), (share_N - place) / scale


def _least_squares(z_N: FloatArray, mos_N: FloatArray) -> tuple[float, float, float, float] | None:
    """β of the logistic of standardised predictions; None where the iteration does not converge."""
    beta = np.array([mos_N.max(), mos_N.min(), 0.0, 0.25])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)  # about the covariance of β, which nobody asks for
            if len(z_N) > THINNED_FROM:  # begin near the end: a step over a million images takes long
                some = np.argsort(z_N)[:: len(z_N) // THINNED_FROM + 1]
                beta, _ = curve_fit(logistic, z_N[some], mos_N[some], p0=beta, jac=_slopes, maxfev=20_000)
            beta, _ = curve_fit(logistic, z_N, mos_N, p0=beta, jac=_slopes, maxfev=20_000, check_finite=False)
    except RuntimeError:
        return None
    top, bottom, centre, width = map(float, beta)
    return top, bottom, centre, width


def _slopes(z_N: FloatArray, top: float, bottom: float, centre: float, width: float) -> FloatArray:
    """Derivatives (n, 4) of `logistic` by its parameters."""
    distance_N = (z_N - centre) / width
    share_N = expit(distance_N)
    slope_N = (top - bottom) * share_N * (1 - share_N) / width
    return np.stack([share_N, 1 - share_N, -slope_N, -slope_N * distance_N], axis=1)


def as_vectors(pred: npt.ArrayLike, mos: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Both as float64 vectors; ValueError where lengths differ."""
    pred_N = np.asarray(pred, dtype=np.float64).reshape(-1)
    mos_N = np.asarray(mos, dtype=np.float64).reshape(-1)
    if len(pred_N) != len(mos_N):
        raise ValueError(f"There are {len(pred_N)} predictions but {len(mos_N)} human scores; give one each per image.")
    return pred_N, mos_N


def checked(pred: npt.ArrayLike, mos: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Both as float64 vectors; ValueError where lengths differ, n < 2, or a value is not finite."""
    pred_N, mos_N = as_vectors(pred, mos)
    if len(pred_N) < 2:
        raise ValueError(f"A correlation needs at least two images, got {len(pred_N)}.")
    for values, what, cure in (
        (pred_N, "predictions", "leave those images out, or use evaluate_scores, which does and reports their share"),
        (mos_N, "human scores", "every image needs one"),
    ):
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise ValueError(f"{bad} of {len(values)} {what} are NaN or infinite; {cure}.")
    return pred_N, mos_N


def _is_constant(a: FloatArray, b: FloatArray, what: str) -> bool:
    constant = a.min() == a.max() or b.min() == b.max()
    if constant:
        warnings.warn(f"{what} is undefined for constant scores: the result is NaN.", stacklevel=4)
    return bool(constant)


def _pearson(a: FloatArray, b: FloatArray, what: str) -> float:
    if np.isnan(a).any() or _is_constant(a, b, what):  # NaN: a mapping that failed, which has warned
        return float("nan")
    a, b = _centred(a), _centred(b)
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def _centred(values: FloatArray) -> FloatArray:
    """Less their mean, and of size about 1, so that squares neither overflow nor vanish."""
    values = np.ldexp(values, -_exponent(values))
    values = values - values.mean()
    return np.ldexp(values, -_exponent(values))


def _exponent(values: FloatArray) -> int:
    """The power of two above all values: dividing by it rounds nothing."""
    return int(np.frexp(np.abs(values).max())[1])
