"""The update and the old and reference passes with each prompt read once for all its completions.

TRL repeats prompt and image for each of the G completions. Here the rows of one prompt form a group: its prompt and its
image go through the model once, its completions behind them (`mriqa.shared_prefix`). Log-probabilities, and so loss and
gradients, stay TRL's own. Legend: B rows (completions), N distinct prompts among them, G rows of a prompt at most, P
prompt tokens, C completion tokens.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import torch

from mriqa.policy.prompt_groups import (
    GROUP_FIELD,
    IMAGE_FIELDS,
    Fields,
    first_rows,
    group_rows,
    merge_images,
    rows_of_groups,
    split_by_prompt,
    split_images,
    take,
)
from mriqa.shared_prefix import Suffix, family_of, suffix_log_probs, why_not_shared

TOKEN_FIELDS = ("mm_token_type_ids", "token_type_ids")


class SharedPrefixUpdate:
    """Mixin for GRPOTrainer, governed by `args.shared_prefix`.

    Micro-batches hold the completions of a prompt together, whole groups where their size is a multiple of G, and the
    images once per prompt; `inputs["prompt_group"]` (B,) says which of these belongs to a row. A model whose prompts
    can't be shared is trained TRL's way, and a warning says why, once.
    """

    _prompt_group: torch.Tensor | None = None  # of the micro-batch whose images come once per prompt

    @cached_property
    def _shares_prompts(self: Any) -> bool:
        if not self.args.shared_prefix:
            return False
        reason = why_not_shared(self.model)
        if reason is None and self.aux_loss_enabled:
            reason = "its experts' load-balancing loss counts every copy of the prompt"
        if reason is None and self.tools:
            reason = "tools may add images to its completions"
        if reason is not None and self.accelerator.is_main_process:
            warnings.warn(f"shared_prefix has no effect on this model, because {reason}.", stacklevel=2)
        return reason is None

    def _prepare_inputs(self: Any, generation_batch: Any) -> Fields:
        """TRL's method, whose shuffle would scatter the completions of a prompt over the micro-batches."""
        if not (self.model.training and self._shares_prompts):
            return super()._prepare_inputs(generation_batch)  # type: ignore[misc]
        steps = self.args.steps_per_generation
        if self._step % (steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            self._buffered_inputs = split_by_prompt(self._generate_and_score_completions(generation_batch), steps)
        return self._buffered_inputs[self._step % steps]

    def _compute_loss(self: Any, model: Any, inputs: Fields) -> torch.Tensor:
        group = inputs.get(GROUP_FIELD)
        self._prompt_group = None if group is None else group.cpu()  # a resumed run reads it onto the accelerator
        try:
            return super()._compute_loss(model, inputs)  # type: ignore[misc]
        finally:
            self._prompt_group = None

    def _get_per_token_logps_and_entropies(
        self: Any,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **fields: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """Log-probabilities and entropies (B, C), in the rows' order, and no auxiliary loss."""
        if not self._shares_prompts or family_of(model) is None:
            return super()._get_per_token_logps_and_entropies(  # type: ignore[misc]
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size,
                compute_entropy,
                compute_aux_loss,
                **fields,
            )
        length = input_ids.shape[1] - logits_to_keep
        tokens = {name: fields[name][:, :length] for name in TOKEN_FIELDS if fields.get(name) is not None}
        tokens |= {"input_ids": input_ids[:, :length], "attention_mask": attention_mask[:, :length]}
        images = split_images({name: fields.get(name) for name in IMAGE_FIELDS})
        if (group_B := self._prompt_group) is None:
            group_B = group_rows(tokens["input_ids"], tokens["attention_mask"], images)
            images = take(images, first_rows(group_B))
        rows_NG, place_B = rows_of_groups(group_B)
        mask_BC = attention_mask[:, length:]

        prompts_at_once = max(1, batch_size // rows_NG.shape[1]) if batch_size else len(rows_NG)
        read = []
        for chunk in torch.arange(len(rows_NG)).split(prompts_at_once):
            rows = rows_NG[chunk]
            present = (rows >= 0)[..., None].to(mask_BC.device)
            suffix = Suffix.chains(input_ids[:, length:][rows.clamp_min(0)], mask_BC[rows.clamp_min(0)] * present)
            prompts = take(tokens, rows[:, 0]) | merge_images(take(images, chunk))
            prompts.pop("num_images", None)
            with self.accelerator.autocast():
                read.append(suffix_log_probs(model, prompts, suffix, self.temperature, compute_entropy))
        logps_NK, entropies_NK = zip(*read, strict=True)
        logps_BC = torch.cat(logps_NK).view(-1, logits_to_keep)[place_B]
        entropies_BC = torch.cat(entropies_NK).view(-1, logits_to_keep)[place_B] if compute_entropy else None
        return logps_BC, entropies_BC, None
