"""The format reward: the whole completion is one well-formed answer of the prompt mode, and nothing else.

It judges the form alone: a well-formed answer whose number is out of range still earns it (and nothing elsewhere).

Legend: B completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mriqa.answers import AnswerFormat, completion_text

from .comparison import FloatArray, resolve_format
from .score_table import every_score


def format_reward(texts: Sequence[str], answer_format: AnswerFormat) -> list[float]:
    """1.0 for each text that `answer_format` calls well formed, else 0.0."""
    return [float(answer_format.is_well_formed(text)) for text in texts]


@dataclass(frozen=True)
class FormatReward:
    """`format_reward` with TRL's contract: a callable from completions to one float each. Needs no dataset column.

    Arguments:
        mode: "non_thinking" (`<answer>3.52</answer>`) or "thinking"
            (`<thinking>…</thinking><answer>{"rating": 3.52}</answer>`).
        answer_format: another answer format (object, name or YAML path); goes before `mode`.
    """

    mode: str = "non_thinking"
    answer_format: AnswerFormat | str | None = None
    parser: AnswerFormat = field(init=False, repr=False)

    compares_images = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "parser", resolve_format(self.mode, self.answer_format))

    @property
    def __name__(self) -> str:
        """The name TRL logs it under."""
        return "format"

    def __call__(self, completions: Sequence[Any], **_: Any) -> list[float]:
        """Rewards in the order of `completions`."""
        return format_reward([completion_text(completion) for completion in completions], self.parser)

    def table(self, values_S: FloatArray, probs_NS: FloatArray, mos_N: FloatArray, std_N: FloatArray) -> FloatArray:
        """Reward (N, S) of every score, 1: an answer that states one is well formed; see `exact.py`."""
        return np.ones_like(every_score(values_S, mos_N))
