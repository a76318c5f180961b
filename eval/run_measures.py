"""The numbers of a protocol's run: measures, their means over data sets, comparisons, break-downs, distributions.

What is measured on random splits is the median over them, with its lowest and highest value; everything else has
bootstrap intervals, by content where pictures share contents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mriqa.datasets.splits import split_by_content

from . import statistics
from .predictors import Prediction
from .protocol_sets import LoadedSet
from .protocols import Protocol, RandomSplits
from .statistics import Difference, Measure
from .statistics.paired import corrected
from .statistics.predicted_distributions import calibration, distribution_distances, pair_probabilities

SMALLEST_PART = 5
"""Images from which on a part of a break-down is shown."""
MOST_CONTENTS = 60


@dataclass(frozen=True)
class Predicted:
    """What one model predicted on one data set, and at which size (width, height) it got each picture.

    `seconds` is how long the whole set took, with the opening of pictures.
    """

    model: str
    loaded: LoadedSet
    predictions: list[Prediction]
    sizes: list[tuple[int, int] | None]
    seconds: float


@dataclass(frozen=True)
class ScoresOnSet:
    """One data set: the scores (N,) of each model, the human scores (N,), and what each picture shows (N)."""

    scores: dict[str, np.ndarray]
    mos_N: np.ndarray
    contents: list[str]


def measure_run(
    protocol: Protocol, predicted: Sequence[Predicted], *, resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """The keys measures, mean, interval, differences, breakdowns and distributions of results.json."""
    options = {"resamples": resamples, "confidence": confidence, "seed": seed}
    measures: dict[str, dict[str, Any]] = {}
    breakdowns: dict[str, dict[str, Any]] = {}
    distributions: dict[str, dict[str, Any]] = {}
    for each in predicted:
        name = each.loaded.rated_set.name
        measures.setdefault(each.model, {})[name] = _measures(each, protocol.splits, options)
        breakdowns.setdefault(each.model, {})[name] = _breakdowns(each)
        distributions.setdefault(each.model, {})[name] = _distributions(each)
    return {
        "measures": _json(measures),
        "mean": {model: _json(_mean(sets, protocol)) for model, sets in measures.items()},
        "differences": compare_on_sets(_by_set(predicted), protocol.measures, options),
        "breakdowns": _json(breakdowns),
        "distributions": distributions,
    }  # fmt: skip


def _measures(each: Predicted, splits: RandomSplits | None, options: dict[str, Any]) -> dict[str, Any]:
    loaded = each.loaded
    pred_N, mos_N, std_N = _columns(each)
    counts = {"n": len(loaded.rows), "contents": len({row.content for row in loaded.rows})}
    if splits is None or loaded.rated_set.name in splits.whole:
        found = statistics.agreement(pred_N, mos_N, std_N, loaded.contents, **options)
        return {**counts, "interval": "bootstrap", **found}
    place = {row.id: k for k, row in enumerate(loaded.rows)}
    parts = []
    for split in range(splits.count):
        _, test = split_by_content(loaded.rows, [1 - splits.test, splits.test], seed=splits.seed + split)
        here = np.array([place[row.id] for row in test])
        std = None if std_N is None else std_N[here]
        parts.append(statistics.agreement(pred_N[here], mos_N[here], std, resamples=0))
    return {**counts, "interval": "splits", **{name: _median([part[name] for part in parts]) for name in parts[0]}}


def _median(measures: Sequence[Measure]) -> Measure:
    values = [measure.value for measure in measures if measure.value is not None]
    if len(values) < len(measures):
        reason = next(measure.reason for measure in measures if measure.value is None)
        return Measure(None, reason=f"In {len(measures) - len(values)} of {len(measures)} splits: {reason}")
    return Measure(float(np.median(values)), min(values), max(values))


def _mean(sets: dict[str, dict[str, Any]], protocol: Protocol) -> dict[str, Any]:
    """Each measure averaged over the data sets; none where one data set has no value."""
    if protocol.summary != "mean" or len(sets) < 2:
        return {}
    found = {}
    for name in protocol.measures:
        lacking = [data_set for data_set, measures in sets.items() if measures[name].value is None]
        if lacking:
            found[name] = Measure(None, reason=f"No mean: {lacking[0]} has no value.")
        else:
            found[name] = Measure(float(np.mean([measures[name].value for measures in sets.values()])))
    return found


def compare_on_sets(
    sets: Mapping[str, ScoresOnSet], measures: Sequence[str], options: dict[str, Any]
) -> list[dict[str, Any]]:
    """Every pair of models on every data set, as JSON, corrected by Holm over all of them for each measure."""
    found = []
    for measure in measures:
        pairs: list[tuple[str, Difference]] = []
        for name, scored in sets.items():
            contents = scored.contents if len(set(scored.contents)) < len(scored.contents) else None
            compared = statistics.compare_models(scored.scores, scored.mos_N, contents, measure=measure, **options)
            pairs += [(name, pair) for pair in compared]
        joint = corrected([pair for _, pair in pairs], options["confidence"])
        found += [{"dataset": name, **pair.as_json()} for (name, _), pair in zip(pairs, joint, strict=True)]
    return found


def _by_set(predicted: Sequence[Predicted]) -> dict[str, ScoresOnSet]:
    sets: dict[str, ScoresOnSet] = {}
    for each in predicted:
        pred_N, mos_N, _ = _columns(each)
        contents = [row.content for row in each.loaded.rows]
        sets.setdefault(each.loaded.rated_set.name, ScoresOnSet({}, mos_N, contents)).scores[each.model] = pred_N
    return sets


def _breakdowns(each: Predicted) -> dict[str, Any]:
    """By distortion, by range of human scores, and by content where there are few; values without intervals."""
    pred_N, mos_N, _ = _columns(each)
    rows = each.loaded.rows
    parts: dict[str, Sequence[str | None]] = {"quality": statistics.quality_ranges(mos_N)}
    if any(each.loaded.distortions):
        parts["distortion"] = each.loaded.distortions
    contents = [row.content for row in rows]
    if len(set(contents)) <= min(MOST_CONTENTS, len(rows) // SMALLEST_PART):
        parts["content"] = contents
    found = {}
    for kind, of_rows in parts.items():
        table = statistics.break_down(pred_N, mos_N, of_rows, resamples=0, names=("srcc", "plcc"))
        found[kind] = {part: measures for part, measures in sorted(table.items()) if measures["n"] >= SMALLEST_PART}
    return found


def _distributions(each: Predicted) -> dict[str, Any]:
    """How good the predicted distributions are, or why that can't be said."""
    known = [k for k, prediction in enumerate(each.predictions) if prediction.distribution is not None]
    if not known:
        return {"reason": "This model states no distribution of scores."}
    spread = [each.predictions[k].distribution for k in known]
    scores_S = np.unique(np.concatenate([one.scores_S for one in spread if one is not None]))
    shares_NS = np.zeros((len(known), len(scores_S)))
    for n, one in enumerate(spread):
        if one is not None:
            shares_NS[n, np.searchsorted(scores_S, one.scores_S)] = one.shares_S
    if len(scores_S) < 2 or (shares_NS.max(axis=1) > 1 - 1e-9).all():
        return {"reason": "Each picture got a single answer: there is no distribution."}
    mos_N = np.array([each.loaded.rows[k].mos for k in known])
    std_N = np.array([each.loaded.rows[k].std or math.nan for k in known])
    rated_N = ~np.isnan(std_N)
    found: dict[str, Any] = {"n": len(known), "calibration": calibration(scores_S, shares_NS, mos_N)}
    found["pairs"] = pair_probabilities(scores_S, shares_NS, mos_N, std_N if rated_N.all() else None)
    if rated_N.any():
        distances = distribution_distances(scores_S, shares_NS[rated_N], mos_N[rated_N], std_N[rated_N])
        found["distances"] = {name: float(values.mean()) for name, values in distances.items()}
    return found


def _columns(each: Predicted) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Predicted scores, human scores and their deviations (N,), the last None where no row has one."""
    rows = each.loaded.rows
    std_N = np.array([math.nan if row.std is None else row.std for row in rows])
    pred_N = np.array([prediction.score for prediction in each.predictions])
    return pred_N, np.array([row.mos for row in rows]), None if np.isnan(std_N).all() else std_N


def _json(value: Any) -> Any:
    if isinstance(value, Measure):
        return value.as_json()
    return {key: _json(item) for key, item in value.items()} if isinstance(value, dict) else value
