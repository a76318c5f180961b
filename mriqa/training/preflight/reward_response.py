"""Whether the rewards move with the answer: an advantage is a difference, and equal rewards teach nothing.

Legend: N images, G answers of each, S stated scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import TrainerState

from mriqa.manifest import RatedImage
from mriqa.training.preflight.findings import Finding, left_out, passed, problem
from mriqa.training.preflight.planned_run import PlannedRun
from mriqa.training.runs import evenly_spread

STATED = (1.0, 2.0, 3.0, 4.0, 5.0)
MALFORMED = "I would rather not say."
IMAGES = 8
SMALLEST = 1e-9


def check_rewards_move(run: PlannedRun) -> Finding:
    """The rewards of good, bad and malformed answers to a few training images."""
    if not run.rewards:
        return left_out("The warm start has no rewards.")
    rows = evenly_spread(run.rows, min(IMAGES, len(run.rows)))
    texts = [*(run.answer_format.format(score) for score in STATED), MALFORMED]
    rewards = {_name(reward): _judge(run, reward, rows, [texts] * len(rows)) for reward in run.rewards}
    for name, values_NG in rewards.items():
        if not np.isfinite(values_NG).any():
            return problem(f"The reward {name} gives no answer a number: it would teach nothing.")
        if np.nanmax(np.nanmax(values_NG, axis=1) - np.nanmin(values_NG, axis=1)) < SMALLEST:
            return problem(
                f"The reward {name} gives every answer to an image the same ({np.nanmean(values_NG):.3g}), whatever "
                "score it states and even where it is malformed, so every advantage is zero: mend it or leave it out."
            )
    total_NS = _total(run, list(rewards.values()))[:, : len(STATED)]
    if np.max(np.ptp(total_NS, axis=1)) < SMALLEST:
        return problem(
            "No reward depends on the score that a well-formed answer states, so the policy would learn the format and "
            "nothing else: add a reward such as margin, or weigh the rewards otherwise."
        )
    right = [[run.answer_format.format(row.mos)] * 2 for row in rows]
    reversed_ = [[run.answer_format.format(6 - row.mos)] * 2 for row in rows]
    earned, lost = (
        float(np.mean(_total(run, [_judge(run, reward, rows, answers) for reward in run.rewards])))
        for answers in (right, reversed_)
    )
    if earned < lost - SMALLEST:
        return problem(
            f"Answers that state the human score earn less ({earned:.3g}) than those that state its reverse "
            f"({lost:.3g}), so the policy would learn to be wrong: check the rewards and the signs of their weights."
        )
    return passed(f"Stating the human score earns {earned:.3g}, its reverse {lost:.3g} ({', '.join(rewards)}).")


def _name(reward: Any) -> str:
    return str(getattr(reward, "__name__", type(reward).__name__))


def _total(run: PlannedRun, rewards: Sequence[np.ndarray]) -> np.ndarray:
    """The weighted sum, an answer without a reward earning nothing."""
    weights = getattr(run.config, "reward_weights", None) or [1.0] * len(rewards)
    return np.sum([weight * np.nan_to_num(each) for weight, each in zip(weights, rewards, strict=True)], axis=0)


def _judge(run: PlannedRun, reward: Any, rows: Sequence[RatedImage], texts_NG: Sequence[Sequence[str]]) -> np.ndarray:
    """Rewards (N, G), NaN where there is none, called as TRL calls them."""
    asked = [(row, text) for row, texts in zip(rows, texts_NG, strict=True) for text in texts]
    tokenizer: Any = run.processor.tokenizer  # type: ignore[attr-defined]  # set by subclasses
    columns = ("mos", "std", "dataset", "content")
    values = reward(
        prompts=[run.answer_format.messages() for _ in asked],
        completions=[[{"role": "assistant", "content": text}] for _, text in asked],
        completion_ids=tokenizer([text for _, text in asked], add_special_tokens=False)["input_ids"],
        answers=[run.answer_format.read(text) for _, text in asked],
        image_id=[row.id for row, _ in asked],
        **{name: [getattr(row, name) for row, _ in asked] for name in columns},
        trainer_state=TrainerState(),
        log_extra=lambda *_: None,
        log_metric=lambda *_: None,
    )
    return np.array([np.nan if value is None else value for value in values], dtype=float).reshape(len(rows), -1)
