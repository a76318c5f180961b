"""GRPO for image quality scores, and the one seam to TRL: read this file from top to bottom and you have read a step.

The method is MR-IQA's: the policy samples G scores for each image of a comparison set, and each is rewarded for how
well its margins to the other images' mean scores match the human margins (`mriqa.reward`). TRL's GRPOTrainer brings
advantages, loss and logging. It repeats each prompt for its G completions and shows a reward the completions of one
process only, so the methods below, in the order in which a step calls them, exchange how prompts are read, answers
sampled and completions judged. What a run does around its steps is `mriqa.policy.run_trainer`.

Legend: N images, G completions per image, R rows of a process (one completion each), B rows of a micro-batch, A rows of
all processes, F reward functions, C completion tokens, P processes.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.utils.data import Sampler
from transformers import Trainer
from trl import GRPOTrainer
from trl.extras.profiling import profiling_context

from mriqa.answer_grammar import AnswerGrammar
from mriqa.answers import completion_text
from mriqa.errors import SettingsError
from mriqa.frozen.cached_tower import cache_towers_like
from mriqa.policy.completion_log_probs import completion_log_probs
from mriqa.policy.finite_guard import ROWS_FIELD
from mriqa.policy.prompt_groups import GROUP_FIELD, Fields, split_by_prompt
from mriqa.policy.prompts_once import PromptsOnce, one_token_per_image
from mriqa.policy.run_trainer import RunTrainer
from mriqa.policy.sampling import logits_processors, sample_completions, unusual_setting
from mriqa.policy.schedule import Schedule, comparison_set_sampler
from mriqa.policy.score_statistics import check_rewards_finite, score_statistics
from mriqa.policy.token_credit import FORMAT_REWARD, Judged, check_credit, credit_score_tokens
from mriqa.policy.validation import whole_model
from mriqa.shared_prefix import family_of, why_not_shared

NOT_GATHERED = ("prompt", "image", "images")  # columns that stay on their process


class ScoreGRPOTrainer(RunTrainer, GRPOTrainer):
    """TRL's GRPOTrainer on `mriqa.training.training_sets.policy_dataset`; `args` is a `ScoreGRPOConfig`.

    Args (keywords, beside GRPOTrainer's and RunTrainer's):
        comparison: "global" compares all N = generation_batch_size / num_generations images of a rollout, whichever
            process sampled them; "local" compares those of each process only (the published setting), and then every
            process must hold whole groups (`mriqa.training.checks.check_rollout_size`).

    A reward function is called with TRL's arguments and one more column, `answers`: what each completion says, as an
    `mriqa.answers.Answer`. Under "global" with several processes it is called on the whole comparison set, so it must
    be a pure function of it, and it gets every dataset column except the images, which stay on their process.

    With `args.constrain_answers` every completion is a well-formed answer. The log-probabilities of the update stay
    TRL's: those of the unconstrained policy at the sampling temperature, on either side of the ratio. They are not
    renormalised over the grammar, so the update also moves probability towards or away from well-formed answers, by
    the sign of the advantage. The less of the policy's mass lies outside the grammar, the smaller the difference;
    after a warm start it is next to nothing.

    Attributes:
        schedule: what an epoch trains on; None for every image of the training set once.
        why_not_shared: why each completion has a prompt of its own, TRL's way, in a few words; None where they share.

    Raises SettingsError for settings of sampling or credit that this model or format can't keep.
    """

    num_generations: Any  # int
    max_completion_length: Any  # int, or None for no limit
    chat_template_kwargs: Any
    shuffle_dataset: Any

    def __init__(self, *args: Any, comparison: str = "global", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.comparison = comparison
        self.schedule: Schedule | None = None
        self.batches_per_rollout = self.args.steps_per_generation * self.num_iterations
        check_credit(self.args.token_credit, self.multi_objective_aggregation)
        cache_towers_like(self.model, self.ref_model)
        self.why_not_shared = self._why_not_shared()
        if self.why_not_shared is None:
            # TRL calls its processor in the middle of a rollout, where no argument of ours reaches: it calls this one.
            logs_images = self.log_completions and self.log_multimodal  # beside each completion
            self.processing_class = PromptsOnce(
                self.processor, self._prepare_input, self.chat_template_kwargs, images_per_row=logs_images
            )
        elif self.args.shared_prefix and self.accelerator.is_main_process:
            warnings.warn(f"shared_prefix has no effect on this model, because {self.why_not_shared}.", stacklevel=2)
        self._grammar = self._answer_grammar() if self.args.constrain_answers else None
        # TRL's methods hand none of ours on, so these two are written by one method here and read by another:
        self._group_B: torch.Tensor | None = None  # the prompt of each row in work, where images come once per prompt
        self._judged: Judged | None = None  # the rollout in work

    # 1. The loader reads whole comparison sets, each image G times in a row.

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        return comparison_set_sampler(
            dataset if dataset is not None else self.train_dataset,
            self.schedule,
            images_per_set=self.args.generation_batch_size // self.num_generations,
            rows_per_image=self.num_generations,
            batches_per_set=self.args.steps_per_generation * self.num_iterations,
            shuffle=self.shuffle_dataset,
            seed=self.args.seed,
        )

    # 2. Every steps_per_generation × num_iterations batches there is a new rollout, dealt into micro-batches.

    def _prepare_inputs(self, generation_batch: Any) -> Fields:
        """TRL's method, whose shuffle would scatter the completions of a prompt over the micro-batches."""
        if self.why_not_shared or not self.model.training:
            return super()._prepare_inputs(generation_batch)
        steps = self.args.steps_per_generation
        if self._step % (steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            self._buffered_inputs = split_by_prompt(self._generate_and_score_completions(generation_batch), steps)
        return self._buffered_inputs[self._step % steps]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Fields:
        """TRL's rollout, which calls steps 3 to 6, with two fields more and advantages by token where asked for.

        "image_rows" (R,) is the place of each row's image in the training set; "prompt_group" (R,), where prompts are
        shared, says which of the images, then held once per prompt, belongs to a row.
        """
        rows_R = self.guard.rows_of(row["image_id"] for row in inputs)
        with self.guard.check_sampling(rows_R, self.state.global_step + 1):
            rollout = super()._generate_and_score_completions(inputs)
        rollout[ROWS_FIELD] = rows_R.to(rollout["prompt_ids"].device)
        if self._group_B is not None:
            rollout[GROUP_FIELD] = self._group_B
        if self.args.token_credit == "score" and self._judged is not None:
            rollout["advantages"] = credit_score_tokens(
                rollout, self._judged, self._tokenizer, self.num_generations, self.scale_rewards
            )
        return rollout

    # 3. Prompts and pictures go through the processor once each.

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], Any, dict[str, Any]]:
        if self.why_not_shared:
            self._group_B = None
            return super()._tokenize_prompts(prompts)
        once = self.processing_class
        ids_R = once.process(prompts)
        self._group_B = once.group_R
        return ids_R, once.images, {}

    # 4. G answers grow behind each prompt.

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, *args: Any, **kwargs: Any
    ) -> tuple[list[list[int]], Any]:
        if self.why_not_shared is None:
            once = self.processing_class
            reason = self._why_not_own_sampling()
            if reason is None:
                return self._sample(once), None
            if not self.use_vllm:
                warnings.warn(f"Rollouts read each prompt once for every completion, because {reason}.", stacklevel=2)
            images, multimodal_fields = once.images_of_R, once.tokens_of_rows() | once.tensors_of_rows()
        if self.use_vllm and self.vllm_mode == "colocate" and images is not None:
            prompt_ids = one_token_per_image(prompt_ids, images, self.processing_class.image_token_id)
        return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, *args, **kwargs)

    def _sample(self, once: PromptsOnce) -> list[list[int]]:
        with (
            profiling_context(self, "transformers.generate"),
            whole_model(self) as model,
            self._dist.summon_full_params(self.model_wrapped, recurse=False),
        ):
            constraint = self._grammar.processor(once.prompts["input_ids"].shape[1]) if self._grammar else None
            return sample_completions(
                model,
                once.prompts,
                once.prompt_of_R,
                logits_processors(self.generation_config, self.accelerator.device, constraint),
                max_new_tokens=self.generation_config.max_new_tokens,
                eos_ids=self.eos_token_ids,
                pad_id=self._tokenizer.pad_token_id,
                finished=self._all_finished,
            )

    def _all_finished(self, ended: torch.Tensor) -> bool:
        # Where parameters lie scattered, every forward pass of one process needs all the others.
        if self._dist.is_fsdp or self._dist.is_zero3:
            ended = self.accelerator.gather(ended.int()[None]).all()
        return bool(ended)

    # 5. Old and reference log-probabilities, and in step 7 the policy's: each prompt is read once for its completions.

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **fields: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Log-probabilities and entropies (B, C), in the rows' order, and no load-balancing loss."""
        if self.why_not_shared or family_of(model) is None:
            return super()._get_per_token_logps_and_entropies(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size,
                compute_entropy,
                compute_aux_loss,
                **fields,
            )
        logps_BC, entropies_BC = completion_log_probs(
            model,
            input_ids,
            attention_mask,
            logits_to_keep,
            fields,
            group_B=self._group_B,
            temperature=self.temperature,
            rows_at_once=batch_size,
            with_entropy=compute_entropy,
            autocast=self.accelerator.autocast,
        )
        return logps_BC, entropies_BC, None

    # 6. Each completion is read once, and the rewards judge the whole comparison set.

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[Any],
        completions: list[Any],
        completion_ids_list: list[list[int]],
    ) -> torch.Tensor:
        """Rewards (A, F) of the whole rollout, in process order: what TRL normalises per group."""
        texts = [completion_text(completion) for completion in completions]
        answers = [self.answer_format.read(text) for text in texts]
        rows = [{**row, "answers": answer} for row, answer in zip(inputs, answers, strict=True)]
        if self.comparison == "global" and self.accelerator.num_processes > 1:
            rewards_AF = self._rewards_of_everyone(rows, completions, completion_ids_list)
        else:
            rewards_AF = super()._calculate_rewards(rows, prompts, completions, completion_ids_list)
        check_rewards_finite(rewards_AF, self.reward_func_names, self.state.global_step + 1)
        self._judged = Judged(
            texts,
            answers,
            weighted_AF=rewards_AF * self.reward_weights.to(rewards_AF.device),
            is_format_F=torch.tensor([n == FORMAT_REWARD for n in self.reward_func_names], device=rewards_AF.device),
            first_row=self.accelerator.process_index * len(inputs),
        )
        self._note_scores(inputs, self._judged)
        return rewards_AF

    def _rewards_of_everyone(
        self, rows: list[dict[str, Any]], completions: list[Any], completion_ids: list[list[int]]
    ) -> torch.Tensor:
        light = [{name: value for name, value in row.items() if name not in NOT_GATHERED} for row in rows]
        everyone = gather_object(
            list(zip(light, [row["prompt"] for row in rows], completions, completion_ids, strict=True))
        )
        all_rows, all_prompts, all_completions, all_ids = map(list, zip(*everyone, strict=True))
        # Every process computes the rewards of the whole set. TRL then gathers all P equal copies, of which the first
        # is taken, so that even a reward that isn't a pure function gives every process the same advantages.
        copies: torch.Tensor = super()._calculate_rewards(all_rows, all_prompts, all_completions, all_ids)
        return copies[: len(everyone)]

    def _log_completion_extra(self, column: str, values: list[Any]) -> None:
        """A reward that saw the whole set logs it all, but TRL gathers this log: each process keeps its own part."""
        processes = self.accelerator.num_processes
        if self.comparison == "global" and processes > 1:
            count = len(values) // processes
            values = values[self.accelerator.process_index * count :][:count]
        super()._log_completion_extra(column, values)

    def _note_scores(self, inputs: list[dict[str, Any]], judged: Judged) -> None:
        device = self.accelerator.device
        scores_A, mos_A = self.accelerator.gather(
            (
                torch.tensor([answer.score for answer in judged.answers], dtype=torch.float32, device=device),
                torch.tensor([row["mos"] for row in inputs], dtype=torch.float32, device=device),
            )
        )
        group = (len(judged.weighted_AF) // self.num_generations, self.num_generations)
        total_NG = judged.weighted_AF.nansum(dim=1).view(group)
        summary = score_statistics(scores_A.view(group), mos_A.view(group)[:, 0], total_NG)
        for name, value in summary.items():
            self.note(f"score/{name}", value)

    # 7. TRL makes advantages of the rewards, and its loss of a micro-batch, by the log-probabilities of step 5.

    def _compute_loss(self, model: Any, inputs: Fields) -> torch.Tensor:
        group_B = inputs.get(GROUP_FIELD)
        self._group_B = None if group_B is None else group_B.cpu()  # a resumed run reads it onto the accelerator
        return super()._compute_loss(model, inputs)

    @property
    def loss_divisor(self) -> int:
        return self.current_gradient_accumulation_steps  # TRL's loss is divided by it

    # What can't be shared, sampled or constrained, decided once.

    def _why_not_shared(self) -> str | None:
        """Why the completions of a prompt can't share it, in a few words; None where they can."""
        if not self.args.shared_prefix:
            return "shared_prefix is off"
        if not self._is_vlm:
            return "the model takes no images"
        if self.tools or self.environment_factories is not None or self.rollout_func is not None:
            return "tools and environments take TRL's own way"
        if self.aux_loss_enabled:
            return "its experts' load-balancing loss counts every copy of the prompt"
        return why_not_shared(self.model)

    def _why_not_own_sampling(self) -> str | None:
        """Why completions aren't sampled by `sample_completions`, in a few words; None where they are."""
        if self.use_vllm:
            return "vLLM samples by itself"
        if self.use_transformers_continuous_batching:
            return "continuous batching samples by itself"
        if self.max_completion_length is None:
            return "max_completion_length is not set"
        if unusual := unusual_setting(self.generation_config, self.model.generation_config):
            return f"{unusual} is not among the sampling settings it knows"
        return self.why_not_shared

    def _answer_grammar(self) -> AnswerGrammar:
        if reason := self._why_not_own_sampling():
            raise SettingsError(f"constrain_answers doesn't work here: {reason}. Leave out --constrain_answers.")
        grammar = AnswerGrammar.build(self._tokenizer, self.answer_format, self.eos_token_ids)
        if grammar.longest > self.max_completion_length:
            raise SettingsError(
                f"constrain_answers needs room for the longest answer, {grammar.longest} tokens with its "
                f"end: raise --max_completion_length from {self.max_completion_length}."
            )
        return grammar


SEAM = {
    GRPOTrainer: """
        _get_train_sampler dataset
        _prepare_inputs generation_batch
        _generate_and_score_completions inputs
        _tokenize_prompts prompts
        _generate_single_turn prompt_ids images multimodal_fields num_generations has_tool_images
        _get_per_token_logps_and_entropies model input_ids attention_mask logits_to_keep batch_size compute_entropy \
            compute_aux_loss pixel_values image_grid_thw num_images pixel_attention_mask spatial_shapes num_tiles \
            image_sizes token_type_ids mm_token_type_ids image_position_ids
        _calculate_rewards inputs prompts completions completion_ids_list
        _log_completion_extra column values
        _compute_loss model inputs
        _prepare_input data
    """,
    Trainer: """
        _init_training_state max_steps num_update_steps_per_epoch num_train_epochs resume_from_checkpoint trial
        _prepare_for_training max_steps train_dataloader resume_from_checkpoint
        _load_from_checkpoint resume_from_checkpoint model
        _load_optimizer_and_scheduler checkpoint
        _load_rng_state checkpoint
        _run_epoch model epoch train_dataloader steps_in_epoch num_update_steps_per_epoch trial ignore_keys_for_eval \
            start_time resume_from_checkpoint epochs_trained steps_trained_in_current_epoch
        get_batch_samples epoch_iterator num_batches device
        training_step model inputs num_items_in_batch
        _prepare_inputs inputs
        compute_loss model inputs return_outputs num_items_in_batch
        _get_grad_norm model grad_norm
        _get_learning_rate
        log logs start_time
        evaluate eval_dataset ignore_keys metric_key_prefix
        _get_output_dir trial
        _save_checkpoint model trial
        _push_from_checkpoint checkpoint_folder
        _save output_dir state_dict
        _save_rng_state output_dir
        _load_best_model
        get_train_dataloader
        _get_dataloader dataset description batch_size sampler_fn is_training dataloader_key
        _get_train_sampler train_dataset
    """,
}
"""Every method of TRL's and transformers' trainers that is overridden or called by a private name, with its parameters,
here, in `run_trainer` and in `exact`. tests/policy/test_seam.py compares them with the installed release."""

TRL_ATTRIBUTES = ("_step", "_buffered_inputs", "_metrics", "_dist", "_tokenizer", "_is_vlm")
"""Attributes of GRPOTrainer that are used by a private name."""
