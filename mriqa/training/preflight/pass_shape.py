"""How much goes through the model at a time: prompts, tokens, patches, read off a few real prompts.

Legend: N prompts of a micro-batch, P prompt tokens, G completions, C tokens of a completion, M suffix tokens that run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mriqa.answers import AnswerFormat
from mriqa.policy.exact import images_per_batch
from mriqa.policy.prompts_once import process_prompts
from mriqa.scoring.prompts import prompt_text
from mriqa.shared_prefix.families import FAMILIES
from mriqa.shared_prefix.score_tree import AnswerTree, ScoreTree
from mriqa.training.preflight.model_shape import ModelShape


@dataclass(frozen=True)
class PassShape:
    """One forward and backward pass of an update, and one rollout.

    Attributes:
        rows: sequences in the pass, N where prompts are shared and N·G where they aren't.
        tokens: of each sequence, P + M.
        read: positions of each sequence whose logits are read.
        shared: whether the log-probabilities are read in bounded pieces (`mriqa.shared_prefix`).
        images: pictures in the pass.
        patches: of one picture, 0 where its processor makes none.
        pixels: numbers in one picture's tensor.
        prompt_tokens: P.
        sampled: sequences that a rollout grows at once, over all steps of a rollout; 0 where nothing is sampled.
        sampled_images: pictures of that rollout.
        completion: longest answer, C.
    """

    rows: int
    tokens: int
    read: int
    shared: bool
    images: int
    patches: int
    pixels: int
    prompt_tokens: int
    sampled: int
    sampled_images: int
    completion: int


def pass_shape(
    config: Any,
    estimator: str,
    processor: Any,
    samples: Sequence[dict[str, Any]],
    answer_format: AnswerFormat,
    shape: ModelShape,
) -> PassShape:
    """The shape of a run's passes, at the size of the largest sample."""
    inputs = process_prompts(processor, samples, getattr(config, "chat_template_kwargs", None))
    prompt = inputs["input_ids"].shape[1]
    grids = inputs.get("image_grid_thw")
    patches = int(grids.prod(-1).max()) if grids is not None else 0
    pixels = inputs["pixel_values"].numel() // len(samples)
    if grids is not None:
        pixels = patches * inputs["pixel_values"].shape[-1]
    picture = {"patches": patches, "pixels": pixels, "prompt_tokens": prompt}

    if estimator == "exact":
        images = images_per_batch(config)
        tree = ScoreTree.build(processor.tokenizer, answer_format, prompt_text(processor, answer_format))
        suffix = AnswerTree(tree, [processor.tokenizer.eos_token_id]).suffix(torch.zeros(1, dtype=torch.long))
        running = len(set(suffix.parents_NK[0].tolist()) - {-1})
        return PassShape(images, prompt + running, running + 1, True, images, sampled=0, sampled_images=0,
                         completion=0, **picture)  # fmt: skip
    if estimator == "supervised":
        rows = config.per_device_train_batch_size
        answer = len(processor.tokenizer(answer_format.format(3.52), add_special_tokens=False)["input_ids"]) + 2
        tokens = prompt + answer
        return PassShape(rows, tokens, tokens, False, rows, sampled=0, sampled_images=0, completion=answer, **picture)

    group, rows = config.num_generations, config.per_device_train_batch_size
    longest = config.max_completion_length or 256
    sampled = rows * (config.steps_per_generation or 1)
    rollout = {"sampled": sampled, "sampled_images": max(1, sampled // group), "completion": longest}
    if config.shared_prefix and shape.config.model_type in FAMILIES:
        prompts = max(1, rows // group)
        together = min(rows, group)
        behind = together * (longest - 1)
        return PassShape(prompts, prompt + behind, behind + 1, True, prompts, **rollout, **picture)
    return PassShape(rows, prompt + longest, longest + 1, False, rows, **rollout, **picture)
