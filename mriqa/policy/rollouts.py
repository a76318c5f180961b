"""Rollouts that read each prompt once: TRL's GRPOTrainer with its sampling exchanged.

TRL repeats a prompt for each of its G completions, through the processor (twice), the vision tower and the prefill.
Here each distinct prompt and picture goes through all of them once (`mriqa.policy.prompts_once`,
`mriqa.policy.sampling`), for the architectures of `mriqa.shared_prefix`; the samples come from the same distribution
and the same random numbers. Everything else takes TRL's own way.

Legend: R rows, one completion each.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import LogitsProcessor
from trl.extras.profiling import profiling_context
from trl.models import unwrap_model_for_generation

from mriqa.answer_grammar import AnswerGrammar
from mriqa.answers import AnswerFormat
from mriqa.policy.checks import SettingsError
from mriqa.policy.prompt_groups import GROUP_FIELD, first_rows
from mriqa.policy.prompts_once import PromptsOnce
from mriqa.policy.sampling import logits_processors, sample_completions, unusual_setting
from mriqa.policy.validation import checkpointing_options
from mriqa.policy.vllm_images import one_token_per_image
from mriqa.shared_prefix import why_not_shared


class SharedPrefillRollouts:
    """A mixin for GRPOTrainer, before it in the bases; `args` is a `ScoreGRPOConfig`.

    With `args.constrain_answers` every completion is a well-formed answer of `answer_format`. The log-probabilities of
    the update stay TRL's: those of the unconstrained policy at the sampling temperature, on either side of the ratio.
    They are not renormalised over the grammar, so the update also moves probability towards or away from well-formed
    answers, by the sign of the advantage. The less of the policy's mass lies outside the grammar, the smaller the
    difference; after a warm start it is next to nothing.

    Raises SettingsError for `constrain_answers` with settings or a model under which it could not be kept.
    """

    answer_format: AnswerFormat
    processing_class: Any
    _grammar: AnswerGrammar | None = None
    _prompt_group: torch.Tensor | None = None  # as in SharedPrefixUpdate, whose passes take images once per prompt

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.constrain_answers:
            if reason := self._why_not_own_sampling():
                raise SettingsError(f"constrain_answers doesn't work here: {reason}. Leave out --constrain_answers.")
            self._grammar = AnswerGrammar.build(self._tokenizer, self.answer_format, self.eos_token_ids)
            if self._grammar.longest > self.max_completion_length:
                raise SettingsError(
                    f"constrain_answers needs room for the longest answer, {self._grammar.longest} tokens with its "
                    f"end: raise --max_completion_length from {self.max_completion_length}."
                )

    def _generate_and_score_completions(self: Any, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's rollout. Where the update shares prompts too, it holds the images once per prompt, and "prompt_group"
        (R,) says which of them belongs to a row."""
        with self._prompts_processed_once():
            rollout = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
            return rollout if self._prompt_group is None else {**rollout, GROUP_FIELD: self._prompt_group}

    @contextmanager
    def _prompts_processed_once(self: Any) -> Iterator[None]:
        if self._why_not_shared_rows():
            yield
            return
        processor = self.processing_class
        logs_images = self.log_completions and self.log_multimodal  # beside each completion
        images_per_row = logs_images or not getattr(self, "_shares_prompts", False)
        self.processing_class = PromptsOnce(processor, self._prepare_input, images_per_row)
        try:
            yield
        finally:
            self.processing_class, self._prompt_group = processor, None

    def _generate(self: Any, prompts: list[Any]) -> tuple[Any, ...]:
        *generated, images, tool_images = super()._generate(prompts)  # type: ignore[misc]
        once = self.processing_class
        if isinstance(once, PromptsOnce) and once.prompts and not once.images_per_row:
            self._prompt_group = torch.tensor(once.prompt_of_R)
            images = images and [images[row] for row in first_rows(self._prompt_group).tolist()]
        return *generated, images, tool_images

    def _generate_single_turn(
        self: Any, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, *args: Any, **kwargs: Any
    ) -> tuple[list[list[int]], Any]:
        once = self.processing_class
        if isinstance(once, PromptsOnce) and once.prompts:
            reason = self._why_not_own_sampling()
            if reason is None:
                return self._sample(once), None
            if not self.use_vllm:
                warnings.warn(f"Rollouts read each prompt once for every completion, because {reason}.", stacklevel=2)
                multimodal_fields = once.tokens_of_rows() | once.images_of_rows()
        if self.use_vllm and self.vllm_mode == "colocate" and images is not None:
            prompt_ids = one_token_per_image(prompt_ids, images, self.processing_class.image_token_id)
        return super()._generate_single_turn(  # type: ignore[misc]
            prompt_ids, images, multimodal_fields, num_generations, *args, **kwargs
        )

    def _sample(self: Any, once: PromptsOnce) -> list[list[int]]:
        with (
            profiling_context(self, "transformers.generate"),
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                **checkpointing_options(unwrap_model_for_generation, self.args),
            ) as model,
            self._dist.summon_full_params(self.model_wrapped, recurse=False),
        ):
            return sample_completions(
                model,
                once.prompts,
                once.prompt_of_R,
                logits_processors(self.generation_config, self.accelerator.device, self._constraint(once)),
                max_new_tokens=self.generation_config.max_new_tokens,
                eos_ids=self.eos_token_ids,
                pad_id=self._tokenizer.pad_token_id,
                finished=self._all_finished,
            )

    def _constraint(self, once: PromptsOnce) -> LogitsProcessor | None:
        return self._grammar.processor(once.prompts["input_ids"].shape[1]) if self._grammar else None

    def _all_finished(self: Any, ended: torch.Tensor) -> bool:
        # Where parameters lie scattered, every forward pass of one process needs all the others.
        if self._dist.is_fsdp or self._dist.is_zero3:
            ended = self.accelerator.gather(ended.int()[None]).all()
        return bool(ended)

    def _why_not_shared_rows(self: Any) -> str | None:
        """Why the rows of a prompt can't share their inputs, in a few words; None where they can."""
        if not self.args.shared_prefix:
            return "shared_prefix is off"
        if not self._is_vlm:
            return "the model takes no images"
        if self.tools or self.environment_factories is not None or self.rollout_func is not None:
            return "tools and environments take TRL's own way"
        return why_not_shared(self.model)

    def _why_not_own_sampling(self: Any) -> str | None:
        """Why completions aren't sampled by `sample_completions`, in a few words; None where they are."""
        if self.use_vllm:
            return "vLLM samples by itself"
        if self.use_transformers_continuous_batching:
            return "continuous batching samples by itself"
        if self.max_completion_length is None:
            return "max_completion_length is not set"
        if unusual := unusual_setting(self.generation_config, self.model.generation_config):
            return f"{unusual} is not among the sampling settings it knows"
        return self._why_not_shared_rows()
