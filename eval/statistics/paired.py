"""Is one model better than another on the same images? Differences with intervals and p, and Holm's correction.

- Bootstrap: both models on the same resamples of images, or of contents; p inverts the interval of the difference.
- Williams' test (1959), as Steiger recommends it ("Tests for comparing elements of a correlation matrix",
  Psychological Bulletin 87, 1980, eq. 7): t for two correlations that share one variable, the human scores.
- Steiger's Z (the same paper, eqs. 3, 11 and 14): the same by Fisher's z.
- Holm ("A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6, 1979): over many pairs.

Williams' and Steiger's tests are made for Pearson correlations of normal scores. For SRCC they are put to the ranks,
and their statistic is divided by sqrt(1 + r²/2), as rank correlations vary more by that (Bonett and Wright, "Sample
size requirements for estimating Pearson, Kendall and Spearman correlations", Psychometrika 65, 2000); without it they
reject a true null in 8 % of cases instead of 5 %. They know nothing of contents: where several images show one, trust
the bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata, t

from .. import metrics
from ..metrics import FloatArray
from .intervals import LOWER_IS_BETTER, agreement, expanded_percentiles
from .resampling import measures_on_resamples, resample_counts

COUNTED = 20  # resamples


@dataclass(frozen=True)
class Difference:
    """Model `a` against model `b` on the images that both scored.

    Attributes:
        measure: what is compared.
        n: images that both scored.
        difference: measure of a less that of b; None where one cannot be had.
        low, high: interval of the difference.
        p: two-sided, of the bootstrap; p_williams, p_steiger: of those tests (correlations only).
        p_holm: `p` corrected for all pairs compared together; None where one pair stands alone.
        better: "a", "b", or None where p (corrected where there are several) is not below 1 − confidence.
        reason: why there is no difference, as one sentence.
    """

    a: str
    b: str
    measure: str
    n: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_williams: float | None = None
    p_steiger: float | None = None
    p_holm: float | None = None
    better: str | None = None
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def paired_difference(
    pred_a: npt.ArrayLike,
    pred_b: npt.ArrayLike,
    mos: npt.ArrayLike,
    contents: Sequence[Hashable] | None = None,
    *,
    measure: str = "srcc",
    names: tuple[str, str] = ("a", "b"),
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """The difference of two models' agreement with people, on the images that both scored.

    Arguments:
        pred_a, pred_b, mos: predicted scores of the two and human ones (N,); NaN where nothing parsed.
        contents: what each image shows (N); resamples then draw whole contents.
        measure: out of `resampling.MEASURES`.

    Raises:
        ValueError: lengths differ, or a human score is not finite.
    """
    a_N, mos_N = metrics.as_vectors(pred_a, mos)
    b_N, mos_N = metrics.as_vectors(pred_b, mos_N)
    both_N = ~np.isnan(a_N) & ~np.isnan(b_N)
    a, b, y = a_N[both_N], b_N[both_N], mos_N[both_N]
    kept = None if contents is None else [content for content, parsed in zip(contents, both_N) if parsed]
    nothing = Difference(*names, measure, len(y))
    if len(y) == 0:
        return replace(nothing, reason="There is no image that both models scored.")
    single = {"resamples": 0, "names": [measure]}
    value_a, value_b = (agreement(pred, y, **single)[measure] for pred in (a, b))  # type: ignore[arg-type]  # a dict
    if value_a.value is None or value_b.value is None:
        model, reason = (names[0], value_a.reason) if value_a.value is None else (names[1], value_b.reason)
        return replace(nothing, reason=f"{model}: {reason}")

    mapped = [_mapped(pred, y) if measure in ("plcc_mapped", "rmse", "mae") else None for pred in (a, b)]
    blocks = []
    for counts_BN in resample_counts(len(y), resamples, seed, kept):
        of_a = measures_on_resamples(a, y, mapped[0], counts_BN, [measure])[measure]
        blocks.append(of_a - measures_on_resamples(b, y, mapped[1], counts_BN, [measure])[measure])
    difference_R = np.concatenate(blocks)
    units = len(y) if kept is None else len(set(kept))
    low, high = expanded_percentiles(difference_R, units, confidence)
    difference = value_a.value - value_b.value
    if math.isnan(low):
        return replace(nothing, difference=difference, reason="No interval: there are too few images that differ.")
    p = _bootstrap_p(difference_R, units)
    p_williams, p_steiger = _correlation_tests(a, b, y, mapped, measure)
    better = None if p >= 1 - confidence else _better(difference, measure)
    return replace(
        nothing, difference=difference, low=low, high=high, p=p, p_williams=p_williams, p_steiger=p_steiger,
        better=better,
    )  # fmt: skip


def compare_models(
    predictions: Mapping[str, npt.ArrayLike],
    mos: npt.ArrayLike,
    contents: Sequence[Hashable] | None = None,
    *,
    measure: str = "srcc",
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Difference]:
    """`paired_difference` of every pair of models, with Holm's correction over the pairs; options as there."""
    found = [
        paired_difference(
            predictions[a], predictions[b], mos, contents,
            measure=measure, names=(a, b), resamples=resamples, confidence=confidence, seed=seed,
        )
        for a, b in combinations(predictions, 2)
    ]  # fmt: skip
    return corrected(found, confidence)


def corrected(differences: Sequence[Difference], confidence: float = 0.95) -> list[Difference]:
    """Differences that are read together, with `p_holm`, and `better` by it."""
    adjusted = iter(holm([each.p for each in differences if each.p is not None]))
    found = []
    for each in differences:
        if each.p is not None and each.difference is not None:
            p_holm = next(adjusted)
            better = None if p_holm >= 1 - confidence else _better(each.difference, each.measure)
            each = replace(each, p_holm=p_holm, better=better)
        found.append(each)
    return found


def williams(r_ay: float, r_by: float, r_ab: float, n: int, variance: float = 1.0) -> tuple[float, float]:
    """Williams' t and its two-sided p for corr(a, y) = corr(b, y), from the three correlations of n > 3 images.

    `variance`: by how much more the correlations vary than Pearson's do.
    """
    if n <= 3:
        raise ValueError(f"Williams' test needs more than three images, got {n}.")
    determinant = 1 - r_ay**2 - r_by**2 - r_ab**2 + 2 * r_ay * r_by * r_ab
    mean = (r_ay + r_by) / 2
    below = 2 * (n - 1) / (n - 3) * determinant + mean**2 * (1 - r_ab) ** 3
    if r_ay == r_by or below <= 0:  # equal correlations, or one model that repeats the other
        return 0.0, 1.0
    statistic = (r_ay - r_by) * math.sqrt((n - 1) * (1 + r_ab) / (below * variance))
    return statistic, float(2 * t.sf(abs(statistic), n - 3))


def steiger(r_ay: float, r_by: float, r_ab: float, n: int, variance: float = 1.0) -> tuple[float, float]:
    """Steiger's Z and its two-sided p for corr(a, y) = corr(b, y); arguments as in `williams`."""
    if n <= 3:
        raise ValueError(f"Steiger's test needs more than three images, got {n}.")
    if r_ay == r_by:
        return 0.0, 1.0
    if max(abs(r_ay), abs(r_by)) >= 1:
        return math.copysign(math.inf, r_ay - r_by), 0.0
    mean = (r_ay + r_by) / 2
    psi = r_ab * (1 - 2 * mean**2) - mean**2 * (1 - 2 * mean**2 - r_ab**2) / 2
    covariance = psi / (1 - mean**2) ** 2
    if covariance >= 1:
        return 0.0, 1.0
    statistic = (math.atanh(r_ay) - math.atanh(r_by)) * math.sqrt((n - 3) / (2 - 2 * covariance) / variance)
    return statistic, float(2 * norm.sf(abs(statistic)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected by Holm's step-down procedure, in the order given, at most 1."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, (len(p_values) - rank) * p_values[place])
        adjusted[place] = min(1.0, highest)
    return adjusted


def _bootstrap_p(difference_R: FloatArray, units: int) -> float:
    """Two-sided p by inverting `expanded_percentiles`: the level at which the interval just reaches 0.

    Where fewer than `COUNTED` resamples lie beyond 0 their share is too coarse, and the tail is that of the normal
    distribution with the resamples' mean and deviation, if that is smaller.
    """
    defined = difference_R[~np.isnan(difference_R)]
    below, above = int((defined <= 0).sum()) + 1, int((defined >= 0).sum()) + 1
    beyond = min(below, above, (len(defined) + 1) / 2)
    tail = beyond / (len(defined) + 1)
    if beyond < COUNTED and defined.std() > 0:
        tail = min(tail, float(norm.sf(abs(defined.mean()) / defined.std())))
    return float(min(1.0, 2 * t.cdf(norm.ppf(tail) / math.sqrt(units / (units - 1)), units - 1)))


def _correlation_tests(
    a: FloatArray, b: FloatArray, y: FloatArray, mapped: Sequence[FloatArray | None], measure: str
) -> tuple[float | None, float | None]:
    if measure not in ("srcc", "plcc", "plcc_mapped") or len(y) <= 3:
        return None, None
    if measure == "srcc":
        a, b, y = rankdata(a), rankdata(b), rankdata(y)
    elif mapped[0] is not None and mapped[1] is not None:
        a, b = mapped[0], mapped[1]
    correlations = metrics.plcc(a, y), metrics.plcc(b, y), metrics.plcc(a, b)
    variance = 1 + (correlations[0] + correlations[1]) ** 2 / 8 if measure == "srcc" else 1.0
    return williams(*correlations, len(y), variance)[1], steiger(*correlations, len(y), variance)[1]


def _mapped(pred: FloatArray, y: FloatArray) -> FloatArray:
    return metrics.logistic_map(pred, y)


def _better(difference: float, measure: str) -> str | None:
    if difference == 0:
        return None
    return "a" if (difference > 0) != (measure in LOWER_IS_BETTER) else "b"
