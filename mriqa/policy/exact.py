"""The exact estimator: the expected reward over all the scores an answer can state, differentiated as it stands.

GRPO samples G answers an image, rewards them and weighs their log-probabilities by normalised rewards. A non-thinking
answer has 401 possible scores, and their probabilities come from one pass (`mriqa.shared_prefix.score_tree`), so the
sum that sampling estimates can be had itself: no rollout, no sampling noise, no group normalisation, no clipping.

    J = 1/N Σ_i Σ_s π_i(s) R_i(s) - β KL(π_i ‖ π_ref,i)

π_i(s) is the probability of the whole answer at the sampling temperature: head, digits, tail and end of turn. It is not
renormalised, so what is malformed earns 0 and the format is held in place, as it is by sampling. Tail and end are read
behind one score of each image, the human one, and taken for all (see `score_tree`): there π R is largest once the
model is any good. Spellings of a score other than the template's, such as "3.5" for "3.50", count as malformed.

R_i(s) compares s with the other images' means under their own (renormalised) π. These means are constants to the
gradient, as in GRPO, whose rewards are numbers: the gradient is the one that sampling has on average, for G → ∞ and
without its division by standard deviation and answer length. KL is that between the distributions over the 401 scores
and "malformed".

Legend: N images of the comparison set, I images of a micro-batch, S scores.
"""

from __future__ import annotations

import math
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Sampler
from trl.data_utils import prepare_multimodal_messages
from trl.models.utils import disable_gradient_checkpointing

from mriqa.answers import AnswerFormat
from mriqa.errors import SettingsError
from mriqa.frozen.cached_tower import cache_towers_like
from mriqa.policy.finite_guard import ROWS_FIELD
from mriqa.policy.prompts_once import process_prompts
from mriqa.policy.reference import prepare_policy, reference_model, without_training
from mriqa.policy.run_trainer import RunTrainer
from mriqa.policy.schedule import Schedule, comparison_set_sampler
from mriqa.shared_prefix import why_not_shared
from mriqa.shared_prefix.score_tree import AnswerTree, ScoreTree, ScoreTreeError

RewardTable = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(values (S,), probabilities (N, S) that sum to 1, mos (N,), std (N,) with NaN where unknown) -> rewards (N, S)."""

Batch = dict[str, Any]
PROMPT = "prompt."
SMALLEST_REST = 1e-6  # of malformed answers: below it their share of the KL divergence is rounding


class ExactScoreTrainer(RunTrainer):
    """Trains on comparison sets of images_per_batch × steps_per_generation × processes images, sampling nothing.

    A process takes `args.images_per_batch` images at a time. Where a set serves several updates, its rewards are worked
    out once, at its start. Of `args`, a `ScoreGRPOConfig`, the options of sampling, of the loss's form and of clipping
    have no effect.

    Args (keywords, beside RunTrainer's):
        reward_table: the rewards of all scores; see `RewardTable`.
        comparison: "global" compares all images of a set, "local" those of each process.
        peft_config: an adapter to train in place of all weights.

    Attributes:
        schedule: what an epoch trains on; None for every image of the training set once.

    Logs: `reward`, the expected reward; `score/parse_rate`, the probability of a well-formed answer;
    `score/entropy` (nats) and `score/within_image_std` of the distribution over well-formed scores;
    `score/predicted_mean`, `score/predicted_std` of the images' means, `score/human_mean`, `score/human_std`; `kl`.

    Raises SettingsError for a model, an answer format or settings that have no exact form.
    """

    def __init__(
        self,
        *,
        model: Any,
        args: Any,
        processing_class: Any,
        train_dataset: Any,
        answer_format: AnswerFormat,
        reward_table: RewardTable,
        comparison: str = "global",
        peft_config: Any = None,
        **kwargs: Any,
    ) -> None:
        check_exact(args)
        set_seed(args.seed)  # an adapter's weights are drawn
        if args.ddp_find_unused_parameters is None and not (args.gradient_checkpointing_kwargs or {}).get(
            "use_reentrant"
        ):
            args.ddp_find_unused_parameters = True  # a frozen or cached tower has no gradients
        super().__init__(
            model=prepare_policy(model, processing_class.tokenizer, args, peft_config),
            args=args,
            processing_class=processing_class,
            data_collator=list,
            train_dataset=train_dataset,
            answer_format=answer_format,
            **kwargs,
        )
        if args.n_gpu > 1:
            raise SettingsError("Several GPUs in one process don't train here: start with accelerate launch.")
        self.model_accepts_loss_kwargs = False  # the Trainer divides the loss by the micro-batches of an update
        self.reward_table, self.comparison = reward_table, comparison
        self.schedule: Schedule | None = None
        self.answers = self._answer_tree()
        self.ref_model = reference_model(self)
        cache_towers_like(self.model, self.ref_model)
        self.batches_per_rollout = args.steps_per_generation * args.num_iterations
        self._step, self._buffered_inputs = 0, None
        self._metrics = {"train": defaultdict(list)}
        set_seed(args.seed, device_specific=True)

    def _answer_tree(self) -> AnswerTree:
        if reason := why_not_shared(self.model):
            raise SettingsError(f"The exact estimator doesn't work here: {reason}. Use --estimator sampled.")
        messages = prepare_multimodal_messages(self.answer_format.messages(), images=[None])
        options = {"add_generation_prompt": True, **(self.args.chat_template_kwargs or {})}
        prompt = self.processor.apply_chat_template(messages, tokenize=False, **options)
        tokenizer = self.processor.tokenizer
        try:
            tree = ScoreTree.build(tokenizer, self.answer_format, prompt)
        except ScoreTreeError as error:
            raise SettingsError(f"The exact estimator {error}; use --estimator sampled.") from error
        ends = self.model.generation_config.eos_token_id
        ends = [ends] if isinstance(ends, int) else list(ends or [])
        return AnswerTree(tree, ends if tokenizer.eos_token_id in ends else [tokenizer.eos_token_id, *ends])

    # The loader hands out whole comparison sets, each as often as it is trained on.

    @cached_property
    def images_per_batch(self) -> int:
        """Images that a process takes at a time."""
        return images_per_batch(self.args)

    def get_train_dataloader(self) -> DataLoader[Any]:
        loader: DataLoader[Any] = self._get_dataloader(
            dataset=self.train_dataset,
            description="Training",
            batch_size=self.images_per_batch * self.args.steps_per_generation,
            sampler_fn=self._get_train_sampler,
            is_training=True,
        )
        return loader

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        return comparison_set_sampler(
            dataset if dataset is not None else self.train_dataset,
            self.schedule,
            images_per_set=self.images_per_batch * self.args.steps_per_generation * self.args.world_size,
            rows_per_image=1,
            batches_per_set=self.args.steps_per_generation * self.args.num_iterations,
            shuffle=self.args.shuffle_dataset,
            seed=self.args.seed,
        )

    # A step.

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        began = time.perf_counter()
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        self._step += 1
        self.note("step_time", time.perf_counter() - began)
        return loss

    def _prepare_inputs(self, rows: Any) -> Batch:
        """The micro-batch in turn, of a new comparison set where the last one has served."""
        steps = self.args.steps_per_generation
        if self._step % (steps * self.args.num_iterations) == 0 or self._buffered_inputs is None:
            self._buffered_inputs = self.comparison_set(rows)
        return self._buffered_inputs[self._step % steps]

    @torch.no_grad()
    def comparison_set(self, rows: list[dict[str, Any]]) -> list[Batch]:
        """The micro-batches of this process's images, with what must be known before the first update."""
        size = len(rows) // self.args.steps_per_generation
        batches = [self._micro_batch(rows[start : start + size]) for start in range(0, len(rows), size)]
        with disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            if self.args.beta:
                for batch in batches:
                    batch["reference_logps"] = self._reference_log_probs(batch)
            if len(batches) * self.args.num_iterations > 1:
                logp_NS = torch.cat([self._log_probs(self.model, batch) for batch in batches])
                mos_N, std_N = (torch.cat([batch[name] for batch in batches]) for name in ("mos", "std"))
                tables = self._rewards(logp_NS, mos_N, std_N).split(size)
                for batch, table_IS in zip(batches, tables, strict=True):
                    batch["rewards"] = table_IS
        return batches

    def _micro_batch(self, rows: list[dict[str, Any]]) -> Batch:
        mos_I = torch.tensor([row["mos"] for row in rows], dtype=torch.float64)
        std = [float("nan") if row.get("std") is None else row["std"] for row in rows]
        distance_IS = (torch.from_numpy(self.answers.tree.values_S) - mos_I[:, None]).abs()
        prompts = process_prompts(self.processor, rows, self.args.chat_template_kwargs)
        batch = {
            **{PROMPT + name: value for name, value in prompts.items()},
            "ended": distance_IS.argmin(dim=1),
            "mos": mos_I.float(),
            "std": torch.tensor(std, dtype=torch.float32),
            ROWS_FIELD: self.guard.rows_of(row["image_id"] for row in rows),
        }
        return {
            name: value.to(self.accelerator.device) if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
        }

    def _log_probs(self, model: Any, batch: Batch) -> torch.Tensor:
        """Log-probability of each score's whole answer, (I, S)."""
        prompts = {name.removeprefix(PROMPT): value for name, value in batch.items() if name.startswith(PROMPT)}
        with self.accelerator.autocast():
            return self.answers.log_probs(model, prompts, batch["ended"], self.args.temperature)

    def _reference_log_probs(self, batch: Batch) -> torch.Tensor:
        if self.ref_model is not None:
            return self._log_probs(self.ref_model, batch)
        with without_training(self) as model:
            return self._log_probs(model, batch)

    def prompt_length(self, batch: Mapping[str, Any]) -> int:
        ids: torch.Tensor = batch[PROMPT + "input_ids"]
        return ids.shape[1]

    def policy_loss(self, model: Any, inputs: Batch, *_: Any, **__: Any) -> torch.Tensor:
        """-J of a micro-batch."""
        logp_IS = self._log_probs(model, inputs)
        rewards_IS = inputs.get("rewards")
        if rewards_IS is None:
            rewards_IS = self._rewards(logp_IS.detach(), inputs["mos"], inputs["std"])
        loss = -(logp_IS.exp() * rewards_IS).sum(dim=1).mean()
        if self.args.beta:
            kl = outcome_kl(logp_IS, inputs["reference_logps"]).mean()
            self.note("kl", self.accelerator.gather(kl.detach()).mean().item())
            loss = loss + self.args.beta * kl
        return loss

    def _rewards(self, logp_NS: torch.Tensor, mos_N: torch.Tensor, std_N: torch.Tensor) -> torch.Tensor:
        """Rewards (n, S) of every score of this process's n images, compared as `comparison` says; logged, too."""
        local = (logp_NS, mos_N, std_N)
        compared = self.accelerator.gather(local) if self.comparison == "global" else local
        probs_NS, mos, std = (values.double().cpu().numpy() for values in (compared[0].softmax(-1), *compared[1:]))
        probs_NS = probs_NS / probs_NS.sum(axis=1, keepdims=True)
        table_NS = torch.from_numpy(self.reward_table(self.answers.tree.values_S, probs_NS, mos, std))
        if self.comparison == "global":
            start = self.accelerator.process_index * len(mos_N)
            table_NS = table_NS[start : start + len(mos_N)]
        table_NS = table_NS.to(logp_NS)
        self._note_distributions(logp_NS, mos_N, table_NS)
        return table_NS

    def _note_distributions(self, logp_NS: torch.Tensor, mos_N: torch.Tensor, table_NS: torch.Tensor) -> None:
        values_S = torch.from_numpy(self.answers.tree.values_S).to(logp_NS)
        probs_NS, log_NS = logp_NS.softmax(-1), logp_NS.log_softmax(-1)
        mean_N = probs_NS @ values_S
        std_N = (probs_NS * (values_S - mean_N[:, None]).square()).sum(-1).sqrt()
        reward_N, mass_N = (logp_NS.exp() * table_NS).sum(-1), logp_NS.exp().sum(-1)
        entropy_N = -(probs_NS * log_NS).sum(-1)
        reward, mass, entropy, mean, std, mos = self.accelerator.gather(
            (reward_N, mass_N, entropy_N, mean_N, std_N, mos_N)
        )
        summary = {
            "reward": reward.mean(),
            "score/parse_rate": mass.mean(),
            "score/entropy": entropy.mean(),
            "score/within_image_std": std.mean(),
            "score/predicted_mean": mean.mean(),
            "score/predicted_std": mean.std(correction=0),
            "score/human_mean": mos.mean(),
            "score/human_std": mos.std(correction=0),
        }
        for name, value in summary.items():
            self.note(name, value.item())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The Trainer's line of the log, with the means of what was noted since the last line of training."""
        if self.model.training:
            for name, values in self._metrics["train"].items():
                finite = [value for value in values if not math.isnan(value)]
                logs[name] = sum(finite) / len(finite) if finite else math.nan
            self._metrics["train"].clear()
        super().log(logs, start_time)


def outcome_kl(logp_NS: torch.Tensor, reference_NS: torch.Tensor) -> torch.Tensor:
    """KL divergence (N,) from the reference of the distribution over S scores and the malformed rest, in nats.

    Both inputs are log-probabilities whose `exp` sums to at most 1.
    """
    probs_NS = logp_NS.exp()
    rest_N, reference_rest_N = ((1 - each.sum(-1)).clamp_min(SMALLEST_REST) for each in (probs_NS, reference_NS.exp()))
    return (probs_NS * (logp_NS - reference_NS)).sum(-1) + rest_N * (rest_N / reference_rest_N).log()


def images_per_batch(config: Any) -> int:
    """Images that a process takes at a time under the exact estimator.

    Where `images_per_batch` isn't set it is per_device_train_batch_size / num_generations, as settings were written
    before the option was there, and a warning says so. Raises SettingsError where that is no whole number.
    """
    if config.images_per_batch is not None:
        if config.images_per_batch < 1:
            raise SettingsError(f"images_per_batch is {config.images_per_batch}: set it to 1 or more.")
        return int(config.images_per_batch)
    if config.per_device_train_batch_size % config.num_generations:
        raise SettingsError(
            "The exact estimator takes whole images, per_device_train_batch_size / num_generations at a time, and "
            f"{config.num_generations} doesn't divide {config.per_device_train_batch_size}: set images_per_batch."
        )
    images = int(config.per_device_train_batch_size // config.num_generations)
    warnings.warn(
        f"images_per_batch isn't set, so the exact estimator takes per_device_train_batch_size / num_generations = "
        f"{images} images at a time: set images_per_batch: {images} to say so.",
        stacklevel=2,
    )
    return images


def check_exact(config: Any) -> None:
    """Raises SettingsError for settings under which the exact estimator makes no sense."""
    for name in ("use_vllm", "constrain_answers"):
        if getattr(config, name):
            raise SettingsError(f"The exact estimator samples no answers: leave out --{name} or --estimator exact.")
