"""Whether each prompt holds as many image tokens as its picture has features, in training and in a rollout.

TRL #6294: image tokens that were expanded already are expanded again. TRL #5785: the field that says which tokens are
of an image is padded on the other side than the tokens, so that it marks text.
"""

from __future__ import annotations

from typing import Any

import torch

from mriqa.policy.prompts_once import one_token_per_image, process_prompts
from mriqa.policy.trainer import ScoreGRPOTrainer
from mriqa.training.preflight.findings import Finding, left_out, passed, problem
from mriqa.training.preflight.planned_run import PlannedRun


def check_image_tokens(run: PlannedRun) -> Finding:
    """Counts of image tokens: alone, in a padded batch, by the picture's grid, and in the prompts of a rollout."""
    processor, trainer = run.processor, run.trainer
    token = image_token(processor, trainer.model if trainer else None)
    if token is None:
        return left_out("This model's processor names no image token.")
    options = getattr(run.config, "chat_template_kwargs", None)
    alone = [_count(process_prompts(processor, [row], options), token)[0] for row in run.samples]
    batch = process_prompts(processor, run.samples, options)
    together = _count(batch, token)
    if together != alone:
        return problem(
            f"Pictures have {_listed(alone)} image tokens alone and {_listed(together)} in a padded batch, so padding "
            "corrupts them: the processor (its version, or code of its own) has to be mended first."
        )
    if (grids := batch.get("image_grid_thw")) is not None:
        merge = processor.image_processor.merge_size  # type: ignore[attr-defined]  # set by subclasses
        features = (grids.prod(-1) // merge**2).tolist()
        if features != together:
            return problem(
                f"Pictures have {_listed(features)} features, but {_listed(together)} image tokens stand in "
                "their prompts, as if these had been expanded twice (TRL #6294): the processor has to be mended first."
            )
    types = batch.get("mm_token_type_ids")
    if types is not None and not torch.equal(types == 1, batch["input_ids"] == token):
        return problem(
            "mm_token_type_ids marks other tokens than the image's in a padded batch, as where it is padded on "
            "the other side (TRL #5785), so shorter prompts would be read without their picture: pad both on the left."
        )
    if isinstance(trainer, ScoreGRPOTrainer):
        conversations = _conversations(run)
        ids, images, _ = trainer._tokenize_prompts(conversations)
        in_rollout = [row.count(token) for row in ids]
        if in_rollout != together:
            return problem(
                f"A rollout's prompts hold {_listed(in_rollout)} image tokens, where training reads "
                f"{_listed(together)} (TRL #6294): policy and rollout would see different prompts."
            )
        if trainer.use_vllm and trainer.vllm_mode == "colocate":
            one_token_per_image(ids, images, token)  # refuses prompts that vLLM would expand wrongly
    return passed(f"{_listed(together)} image tokens for {len(together)} pictures, as many as each has features.")


def image_token(processor: Any, model: Any = None) -> int | None:
    """The token that stands for a piece of a picture, by the processor or by the model's configuration."""
    config = getattr(model, "config", None)
    known = (getattr(processor, "image_token_id", None), getattr(config, "image_token_id", None))
    return next((token for token in (*known, getattr(config, "image_token_index", None)) if token is not None), None)


def _conversations(run: PlannedRun) -> list[Any]:
    from trl.data_utils import prepare_multimodal_messages

    return [prepare_multimodal_messages(row["prompt"], images=[row["image"]]) for row in run.samples]


def _count(batch: dict[str, torch.Tensor], token: int) -> list[int]:
    return ((batch["input_ids"] == token) & batch["attention_mask"].bool()).sum(-1).tolist()


def _listed(counts: list[int]) -> str:
    return ", ".join(map(str, counts))
