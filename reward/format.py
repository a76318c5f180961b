"""The format reward: the whole completion is one well-formed answer of the prompt mode, and nothing else.

It judges the form alone: a well-formed answer whose number is out of range still earns it (and nothing elsewhere). So
it is no function of scores, and has a class of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mriqa.answers import AnswerFormat

from .comparison import FloatArray, read_answers
from .score_table import every_score


def format_reward(texts: Sequence[str], answer_format: AnswerFormat) -> list[float]:
    """1.0 for each text that `answer_format` calls well formed, else 0.0."""
    return [float(answer_format.is_well_formed(text)) for text in texts]


@dataclass(frozen=True)
class FormatReward:
    """`format_reward` with TRL's contract: a callable from completions to one float each. Needs no dataset column."""

    answer_format: AnswerFormat

    compares_images = False

    @property
    def __name__(self) -> str:
        """The name TRL logs it under."""
        return "format"

    def __call__(self, completions: Sequence[Any], answers: Any = None, **_: Any) -> list[float]:
        """Rewards in the order of `completions`; `answers` are what they say, where that is known already."""
        return [float(answer.well_formed) for answer in read_answers(completions, answers, self.answer_format)]

    def table(self, values_S: FloatArray, probs_NS: FloatArray, mos_N: FloatArray, std_N: FloatArray) -> FloatArray:
        """Reward (N, S) of every score, 1: an answer that states one is well formed; see `score_table.py`."""
        return np.ones_like(every_score(values_S, mos_N))
