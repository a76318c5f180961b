"""GRPO for image quality scores: TRL's trainer, seeing its rollout as one comparison set.

The method is MR-IQA's (margins between each sampled score and the other images' mean scores); see mriqa.reward for
the rewards themselves. TRL hands a reward function the completions of one process only, and even splits one image's
group over processes. Rewards that compare images need them together, which is what this class adds, with the log of
what the scores look like. Legend: N images, G completions per image, P processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer, SFTTrainer
from trl.data_utils import prepare_multimodal_messages

from mriqa.answers import AnswerFormat, completion_text
from mriqa.frozen.cached_tower import cache_towers_like
from mriqa.images import ImageError
from mriqa.models import save_scoring_settings
from mriqa.policy.auxiliary import AuxiliaryObjective
from mriqa.policy.checkpoints import SafeCheckpoints
from mriqa.policy.checks import SettingsError, check_rollout_size
from mriqa.policy.numerics import FiniteUpdates
from mriqa.policy.resuming import ResumableRollouts
from mriqa.policy.rollouts import SharedPrefillRollouts
from mriqa.policy.score_statistics import score_statistics
from mriqa.policy.shared_update import SharedPrefixUpdate
from mriqa.policy.token_credit import TokenCredit
from mriqa.policy.validation import ScoreValidation, Validation

NOT_GATHERED = ("prompt", "image", "images")


class _ScoreTrainer(FiniteUpdates, SafeCheckpoints, ScoreValidation):
    """What policy training and its warm start share: safe checkpoints of finite weights, validation, `mriqa.json`."""

    answer_format: AnswerFormat
    views: Mapping[str, Any] | None = None

    def get_batch_samples(self, *args: Any) -> Any:
        try:
            return super().get_batch_samples(*args)  # type: ignore[misc]
        except ImageError as error:  # a worker process of the loader puts a whole traceback before its sentence
            sentence = str(error).rsplit(f"{ImageError.__module__}.{ImageError.__name__}: ", 1)[-1].strip()
            raise ImageError(sentence) from error

    def _save(self: Any, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)  # type: ignore[misc]
        save_scoring_settings(output_dir or self.args.output_dir, self.answer_format, self.views)


class ScoreSFTTrainer(_ScoreTrainer, SFTTrainer):
    """TRL's SFTTrainer on `mriqa.policy.training_sets.answer_dataset`: the warm start."""

    def __init__(
        self,
        *args: Any,
        answer_format: AnswerFormat,
        validation: Validation | None = None,
        views: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.answer_format, self.validation, self.views = answer_format, validation, views
        super().__init__(*args, **kwargs)


class ScoreGRPOTrainer(
    AuxiliaryObjective,
    _ScoreTrainer,
    ResumableRollouts,
    TokenCredit,
    SharedPrefillRollouts,
    SharedPrefixUpdate,
    GRPOTrainer,
):
    """TRL's GRPOTrainer on `mriqa.policy.training_sets.policy_dataset`.

    Args (beside GRPOTrainer's):
        answer_format: how a score is asked for and read off a completion.
        comparison: "global" compares all N = generation_batch_size / num_generations images of a rollout, whichever
            process sampled them; "local" compares those of each process only (the published setting), and then every
            process must hold whole groups.
        validation: what `evaluate()` scores; None where evaluation is off.
        views: how `mriqa score` is to look at pictures (`mriqa.views`), saved beside the weights.
        auxiliary: a head to train beside the policy (`mriqa.policy.auxiliary`); none by default.

    A reward function is called with TRL's arguments. Under "global" with several processes it is called on the whole
    comparison set, so it must be a pure function of it, and it gets every dataset column except the images, which
    stay on their process.

    Raises SettingsError for batch shapes from which nothing could be learnt.
    """

    def __init__(
        self,
        *args: Any,
        answer_format: AnswerFormat,
        comparison: str = "global",
        validation: Validation | None = None,
        views: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.answer_format, self.comparison = answer_format, comparison
        self.validation, self.views = validation, views
        self._own_rows: slice | None = None
        config = kwargs["args"]
        check_rollout_size(
            images=len(kwargs["train_dataset"]),
            num_generations=config.num_generations,
            per_device_batch=config.per_device_train_batch_size,
            steps_per_generation=config.steps_per_generation,
            processes=config.world_size,
            comparison=comparison,
        )
        super().__init__(*args, **kwargs)
        cache_towers_like(self.model, self.ref_model)

    @property
    def _chat_options(self: Any) -> dict[str, Any]:
        return {"add_generation_prompt": True, "chat_template": self.chat_template, **self.chat_template_kwargs}

    def _prompt_inputs(self: Any, rows: list[dict[str, Any]]) -> Any:
        """What the processor makes of the prompts and images of rows of the data set, left-padded, on CPU."""
        return self.processing_class.apply_chat_template(
            [prepare_multimodal_messages(row["prompt"], images=[row["image"]]) for row in rows],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
            **self._chat_options,
        )

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[Any],
        completions: list[Any],
        completion_ids_list: list[list[int]],
    ) -> torch.Tensor:
        """Rewards of the whole rollout, (N·G, number of functions), in process order: what TRL normalises per group."""
        if self.comparison == "global" and self.accelerator.num_processes > 1:
            rewards = self._rewards_of_everyone(inputs, completions, completion_ids_list)
        else:
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self._check_rewards(rewards)
        self._log_score_statistics(inputs, completions, rewards)
        return rewards

    def _check_rewards(self: Any, rewards: torch.Tensor) -> None:
        """Raises SettingsError for infinite rewards, whose advantages would silently be 0; NaN means not applicable."""
        for name, column in zip(self.reward_func_names, rewards.isinf().unbind(dim=1), strict=True):
            if column.any():
                raise SettingsError(
                    f"The reward {name} is infinite for {int(column.sum())} of {len(column)} answers at step "
                    f"{self.state.global_step + 1}; give finite rewards, or None where one does not apply."
                )

    def _rewards_of_everyone(
        self, inputs: list[dict[str, Any]], completions: list[Any], completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        rows = [{name: value for name, value in row.items() if name not in NOT_GATHERED} for row in inputs]
        prompts = [row["prompt"] for row in inputs]
        everyone = gather_object(list(zip(rows, prompts, completions, completion_ids_list, strict=True)))
        start = self.accelerator.process_index * len(inputs)
        self._own_rows = slice(start, start + len(inputs))
        all_rows, all_prompts, all_completions, all_ids = map(list, zip(*everyone, strict=True))
        # Every process computes the rewards of the whole set. TRL then gathers all P equal copies, of which the first
        # is taken, so that even a reward that isn't a pure function gives every process the same advantages.
        copies = super()._calculate_rewards(all_rows, all_prompts, all_completions, all_ids)
        self._own_rows = None
        return copies[: len(everyone)]

    def _log_completion_extra(self, column: str, values: list[Any]) -> None:
        """A reward that saw the whole set logs it all, but TRL gathers this log: each process keeps its own part."""
        super()._log_completion_extra(column, values[self._own_rows] if self._own_rows else values)

    def _log_score_statistics(
        self: Any, inputs: list[dict[str, Any]], completions: list[Any], rewards: torch.Tensor
    ) -> None:
        device = self.accelerator.device
        own_scores = [self.answer_format.parse(completion_text(completion)) for completion in completions]
        scores, mos = self.accelerator.gather(
            (
                torch.tensor(own_scores, dtype=torch.float32, device=device),
                torch.tensor([row["mos"] for row in inputs], dtype=torch.float32, device=device),
            )
        )
        group = (len(rewards) // self.num_generations, self.num_generations)
        total = (rewards * self.reward_weights.to(rewards.device)).nansum(dim=1)
        summary = score_statistics(scores.view(group), mos.view(group)[:, 0], total.view(group))
        for name, value in summary.items():
            self._metrics["train"][f"score/{name}"].append(value)
