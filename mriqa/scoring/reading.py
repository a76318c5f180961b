"""What a readout reads off a model for one view of an image, and how readings become one score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mriqa.answers import AnswerFormat
from mriqa.errors import UserError


class ReadoutError(UserError, ValueError):
    """A readout that this model or answer format cannot give, as one sentence naming another."""


class BackendError(UserError, RuntimeError):
    """A backend that does not start, does not answer or has died, as one sentence naming the cure."""


@dataclass(frozen=True)
class Reading:
    """Scores (S,) in 1..5 with their weights (S,): a whole distribution where `exact`, parsed samples otherwise.

    `head_score` is the second opinion of a head, if there is one.
    """

    scores_S: np.ndarray
    weights_S: np.ndarray
    exact: bool
    texts: tuple[str, ...] = ()
    head_score: float | None = None


@dataclass(frozen=True)
class Distribution:
    """How likely each score is: scores (S,) in 1..5, each once and lowest first, and their shares (S,), of sum 1."""

    scores_S: np.ndarray
    shares_S: np.ndarray


def read_answers(answer_format: AnswerFormat, texts: Sequence[str]) -> Reading:
    """The scores that generated answers state, each of weight 1; what doesn't parse stays in the texts only."""
    scores_S = np.array([s for s in map(answer_format.parse, texts) if not math.isnan(s)], dtype=np.float64)
    return Reading(scores_S, np.ones_like(scores_S), exact=False, texts=tuple(texts))


def summarise(readings: Sequence[Reading]) -> tuple[float, float]:
    """Mean and standard deviation over the readings of one image's views, each reading counting by its weights.

    The deviation is that of the averaged distribution, or the sample deviation (ddof 1) of the parsed answers. Both
    numbers are NaN where nothing parsed, the deviation also where only one answer did.
    """
    scores_S = np.concatenate([reading.scores_S for reading in readings])
    weights_S = np.concatenate([reading.weights_S for reading in readings])
    if len(scores_S) == 0:
        return math.nan, math.nan
    mean = float(np.average(scores_S, weights=weights_S))
    variance = float(np.average((scores_S - mean) ** 2, weights=weights_S))
    if all(reading.exact for reading in readings):
        return mean, math.sqrt(variance)
    n = len(scores_S)
    return mean, math.sqrt(variance * n / (n - 1)) if n > 1 else math.nan


def distribution(readings: Sequence[Reading]) -> Distribution | None:
    """That of the readings of one image's views, each counting by its weights; None where nothing parsed."""
    weights = np.concatenate([reading.weights_S for reading in readings])
    if len(weights) == 0:
        return None
    scores_S, places = np.unique(np.concatenate([reading.scores_S for reading in readings]), return_inverse=True)
    return Distribution(scores_S, np.bincount(places, weights) / weights.sum())


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
