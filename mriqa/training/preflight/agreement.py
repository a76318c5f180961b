"""When two ways to the same log-probabilities agree, and the model's own forward as the way to compare with.

Legend: N prompts, P prompt tokens, C answer tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from mriqa.policy.run_trainer import RunTrainer
from mriqa.policy.validation import evaluation_mode
from mriqa.shared_prefix.forward import TOKEN_TYPES
from mriqa.training.preflight.planned_run import PlannedRun

STATED = 3.52  # the score of the answer whose probability is compared
LONGEST = 16  # tokens of it
LIMIT, LIMIT_OF_HALF = 1e-3, 0.1  # mean difference of a log-probability over an answer's tokens, in nats

Inputs = dict[str, Any]


@contextmanager
def quiet_passes(trainer: RunTrainer) -> Iterator[None]:
    """Evaluation mode, no gradients, mixed precision as in training, and random states as they were afterwards."""
    with torch.random.fork_rng(), evaluation_mode(trainer.model), torch.no_grad(), trainer.accelerator.autocast():
        yield


def limit_of(trainer: RunTrainer) -> float:
    """The largest disagreement that rounding explains."""
    half = trainer.args.bf16 or trainer.args.fp16 or trainer.model.dtype in (torch.bfloat16, torch.float16)
    return LIMIT_OF_HALF if half else LIMIT


def disagreement(one_NC: torch.Tensor, other_NC: torch.Tensor) -> float:
    """The mean difference over an answer's tokens, of the answer where it is largest; infinite where it is NaN."""
    largest = (one_NC.float() - other_NC.float()).abs().mean(-1).max().item()
    return largest if largest == largest else float("inf")


def stated_answers(run: PlannedRun, scores: tuple[float, ...] = (STATED,)) -> list[torch.Tensor]:
    """The tokens (C,) of answers that state these scores."""
    tokenizer: Any = run.processor.tokenizer  # type: ignore[attr-defined]  # set by subclasses
    texts = [run.answer_format.format(score) for score in scores]
    return [torch.tensor(ids[:LONGEST]) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def own_log_probs(model: Any, prompts: Mapping[str, Any], answers_NC: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (N, C) of answers by the model's own forward, each behind its own copy of the prompt."""
    inputs = {
        **prompts,
        "input_ids": torch.cat([prompts["input_ids"], answers_NC], dim=1),
        "attention_mask": torch.cat([prompts["attention_mask"], torch.ones_like(answers_NC)], dim=1),
    }
    for name in TOKEN_TYPES:
        if prompts.get(name) is not None:
            inputs[name] = torch.cat([prompts[name], torch.zeros_like(answers_NC)], dim=1)
    logits_NCV = model(**inputs, use_cache=False, logits_to_keep=answers_NC.shape[1] + 1).logits[:, :-1]
    return logits_NCV.float().log_softmax(-1).gather(-1, answers_NC[..., None])[..., 0]


def placed(trainer: RunTrainer, inputs: Mapping[str, Any]) -> Inputs:
    """Tensors where the model is."""
    device = trainer.accelerator.device
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
