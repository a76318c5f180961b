"""Agreement part by part: per distortion, per content, per range of human scores."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import metrics
from .intervals import agreement


def break_down(
    pred: npt.ArrayLike,
    mos: npt.ArrayLike,
    parts: Sequence[Hashable | None],
    contents: Sequence[Hashable] | None = None,
    *,
    std: npt.ArrayLike | None = None,
    **options: Any,
) -> dict[str, dict[str, Any]]:
    """The measures of `agreement` within each part, parts in the order in which they first occur.

    Arguments:
        pred, mos: predicted and human scores (N,).
        parts: the part of each image (N): its distortion, its content, its range; None leaves it out.
        contents, std, options: as `agreement` takes them.

    Returns:
        {part: {"n": images, "bias": mean of pred − mos over those that parsed, None where none did, then the measures}}

    Raises:
        ValueError: lengths differ, or as `agreement` does.
    """
    pred_N, mos_N = metrics.as_vectors(pred, mos)
    if len(parts) != len(mos_N):
        raise ValueError(f"There are {len(parts)} parts but {len(mos_N)} human scores; give one each per image.")
    std_N = None if std is None else np.asarray(std, dtype=np.float64).reshape(-1)
    found = {}
    for part in dict.fromkeys(part for part in parts if part is not None):
        here = np.flatnonzero([other == part for other in parts])
        own_contents = None if contents is None else [contents[k] for k in here]
        own_std = None if std_N is None else std_N[here]
        bias = float(np.mean(errors)) if len(errors := _errors(pred_N[here], mos_N[here])) else None
        measures = agreement(pred_N[here], mos_N[here], own_std, own_contents, **options)
        found[str(part)] = {"n": len(here), "bias": bias, **measures}
    return found


def quality_ranges(mos: npt.ArrayLike, edges: Sequence[float] = (1.0, 2.0, 3.0, 4.0, 5.0)) -> list[str | None]:
    """The range "2–3" of each human score, upper end excluded but for the last; None outside all ranges.

    Correlations within a range are lower than over the whole, for any model: compare models, not ranges.
    """
    names = [f"{low:g}–{high:g}" for low, high in pairwise(edges)]
    found: list[str | None] = []
    for score in np.asarray(mos, dtype=np.float64).reshape(-1):
        inside = not math.isnan(score) and edges[0] <= score <= edges[-1]
        place = min(int(np.searchsorted(edges, score, side="right")) - 1, len(names) - 1)
        found.append(names[place] if inside else None)
    return found


def _errors(pred_N: metrics.FloatArray, mos_N: metrics.FloatArray) -> metrics.FloatArray:
    errors_N = pred_N - mos_N
    return errors_N[~np.isnan(errors_N)]
