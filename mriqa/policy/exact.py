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

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from trl.data_utils import prepare_multimodal_messages
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from mriqa.policy.checks import SettingsError
from mriqa.policy.numerics import ROWS_FIELD
from mriqa.policy.trainer import ScoreGRPOTrainer
from mriqa.shared_prefix import why_not_shared
from mriqa.shared_prefix.score_tree import AnswerTree, ScoreTree, ScoreTreeError

RewardTable = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(values (S,), probabilities (N, S) that sum to 1, mos (N,), std (N,) with NaN where unknown) -> rewards (N, S)."""

Batch = dict[str, Any]
PROMPT = "prompt."
SMALLEST_REST = 1e-6  # of malformed answers: below it their share of the KL divergence is rounding


class ExactScoreTrainer(ScoreGRPOTrainer):
    """`ScoreGRPOTrainer` without sampling. Its batches hold as many images as the sampled estimator's would.

    A process takes per_device_train_batch_size / num_generations images at a time, and a comparison set has the
    same N images. Where a set serves several updates, its rewards are worked out once, at its start. Among TRL's
    options those of sampling, of the loss's form and of clipping have no effect.

    Args (beside ScoreGRPOTrainer's):
        reward_table: the rewards of all scores; see `RewardTable`.

    Logs: `reward`, the expected reward; `score/parse_rate`, the probability of a well-formed answer;
    `score/entropy` (nats) and `score/within_image_std` of the distribution over well-formed scores;
    `score/predicted_mean`, `score/predicted_std` of the images' means, `score/human_mean`, `score/human_std`; `kl`.

    Raises SettingsError for a model, an answer format or settings that have no exact form.
    """

    def __init__(self, *args: Any, reward_table: RewardTable, **kwargs: Any) -> None:
        check_exact(kwargs["args"])
        super().__init__(*args, **kwargs)
        self.reward_table = reward_table
        if reason := why_not_shared(self.model):
            raise SettingsError(f"The exact estimator doesn't work here: {reason}. Use --estimator sampled.")
        messages = prepare_multimodal_messages(self.answer_format.messages(), images=[None])
        prompt = self.processing_class.apply_chat_template(messages, tokenize=False, **self._chat_options)
        try:
            tree = ScoreTree.build(self._tokenizer, self.answer_format, prompt)
        except ScoreTreeError as error:
            raise SettingsError(f"The exact estimator {error}; use --estimator sampled.") from error
        self.answers = AnswerTree(tree, self.eos_token_ids)

    @property
    def _rows_per_image(self: Any) -> int:
        return 1

    def get_train_dataloader(self: Any) -> DataLoader:
        """TRL's, but an image comes once and not G times."""
        return self._get_dataloader(
            dataset=self.train_dataset,
            description="Training",
            batch_size=self._train_batch_size * self.args.steps_per_generation // self.num_generations,
            sampler_fn=self._get_train_sampler,
            is_training=True,
        )

    def _prepare_inputs(self: Any, generation_batch: Any) -> Batch:
        steps = self.args.steps_per_generation
        if self._step % (steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            self._buffered_inputs = self._comparison_set(generation_batch)
        return self._buffered_inputs[self._step % steps]

    @torch.no_grad()
    def _comparison_set(self: Any, rows: list[dict[str, Any]]) -> list[Batch]:
        """The micro-batches of this process's images, with what must be known before the first update."""
        size = len(rows) // self.args.steps_per_generation
        batches = [self._micro_batch(rows[start : start + size]) for start in range(0, len(rows), size)]
        with disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            if self.beta:
                for batch in batches:
                    batch["reference_logps"] = self._reference_log_probs(batch)
            if len(batches) * self.num_iterations > 1:
                logp_NS = torch.cat([self._log_probs(self.model, batch) for batch in batches])
                mos_N, std_N = (torch.cat([batch[name] for batch in batches]) for name in ("mos", "std"))
                tables = self._rewards(logp_NS, mos_N, std_N).split(size)
                for batch, table_IS in zip(batches, tables, strict=True):
                    batch["rewards"] = table_IS
        return batches

    def _micro_batch(self: Any, rows: list[dict[str, Any]]) -> Batch:
        mos_I = torch.tensor([row["mos"] for row in rows], dtype=torch.float64)
        std = [float("nan") if row.get("std") is None else row["std"] for row in rows]
        distance_IS = (torch.from_numpy(self.answers.tree.values_S) - mos_I[:, None]).abs()
        batch = {
            **{PROMPT + name: value for name, value in self._prompt_inputs(rows).items()},
            "ended": distance_IS.argmin(dim=1),
            "mos": mos_I.float(),
            "std": torch.tensor(std, dtype=torch.float32),
            ROWS_FIELD: torch.tensor([self._row_of_image[str(row["image_id"])] for row in rows]),
        }
        return {
            name: value.to(self.accelerator.device) if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
        }

    def _log_probs(self: Any, model: Any, batch: Batch) -> torch.Tensor:
        """Log-probability of each score's whole answer, (I, S)."""
        prompts = {name.removeprefix(PROMPT): value for name, value in batch.items() if name.startswith(PROMPT)}
        with self.accelerator.autocast():
            return self.answers.log_probs(model, prompts, batch["ended"], self.temperature)

    def _reference_log_probs(self: Any, batch: Batch) -> torch.Tensor:
        if self.ref_model is not None:
            return self._log_probs(self.ref_model, batch)
        model = self.accelerator.unwrap_model(self.model)  # an adapter on top of the reference
        with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
            return self._log_probs(self.model, batch)

    def _prompt_length(self, inputs: Batch) -> int:
        return inputs[PROMPT + "input_ids"].shape[1]

    def _policy_loss(self: Any, model: Any, inputs: Batch) -> torch.Tensor:
        logp_IS = self._log_probs(model, inputs)
        rewards_IS = inputs.get("rewards")
        if rewards_IS is None:
            rewards_IS = self._rewards(logp_IS.detach(), inputs["mos"], inputs["std"])
        loss = -(logp_IS.exp() * rewards_IS).sum(dim=1).mean()
        if self.beta:
            kl = outcome_kl(logp_IS, inputs["reference_logps"]).mean()
            self._metrics["train"]["kl"].append(self.accelerator.gather(kl.detach()).mean().item())
            loss = loss + self.beta * kl
        return loss / self.current_gradient_accumulation_steps

    def _rewards(self: Any, logp_NS: torch.Tensor, mos_N: torch.Tensor, std_N: torch.Tensor) -> torch.Tensor:
        """Rewards (n, S) of every score of this process's n images, compared as `comparison` says; logged, too."""
        own = (logp_NS, mos_N, std_N)
        compared = self.accelerator.gather(own) if self.comparison == "global" else own
        probs_NS, mos, std = (values.double().cpu().numpy() for values in (compared[0].softmax(-1), *compared[1:]))
        probs_NS = probs_NS / probs_NS.sum(axis=1, keepdims=True)
        table_NS = torch.from_numpy(self.reward_table(self.answers.tree.values_S, probs_NS, mos, std))
        if self.comparison == "global":
            start = self.accelerator.process_index * len(mos_N)
            table_NS = table_NS[start : start + len(mos_N)]
        table_NS = table_NS.to(logp_NS)
        self._log_distributions(logp_NS, mos_N, table_NS)
        return table_NS

    def _log_distributions(self: Any, logp_NS: torch.Tensor, mos_N: torch.Tensor, table_NS: torch.Tensor) -> None:
        values_S = torch.from_numpy(self.answers.tree.values_S).to(logp_NS)
        probs_NS, log_NS = logp_NS.softmax(-1), logp_NS.log_softmax(-1)
        mean_N = probs_NS @ values_S
        std_N = (probs_NS * (values_S - mean_N[:, None]).square()).sum(-1).sqrt()
        reward_N, mass_N = (logp_NS.exp() * table_NS).sum(-1), logp_NS.exp().sum(-1)
        entropy_N = -(probs_NS * log_NS).sum(-1)
        reward, mass, entropy, mean, std, mos = self.accelerator.gather(
            (reward_N, mass_N, entropy_N, mean_N, std_N, mos_N)
        )
        logged = {
            "reward": reward.mean(),
            "score/parse_rate": mass.mean(),
            "score/entropy": entropy.mean(),
            "score/within_image_std": std.mean(),
            "score/predicted_mean": mean.mean(),
            "score/predicted_std": mean.std(correction=0),
            "score/human_mean": mos.mean(),
            "score/human_std": mos.std(correction=0),
        }
        for name, value in logged.items():
            self._metrics["train"][name].append(value.item())


def outcome_kl(logp_NS: torch.Tensor, reference_NS: torch.Tensor) -> torch.Tensor:
    """KL divergence (N,) from the reference of the distribution over S scores and the malformed rest, in nats.

    Both inputs are log-probabilities whose `exp` sums to at most 1.
    """
    probs_NS = logp_NS.exp()
    rest_N, reference_rest_N = ((1 - each.sum(-1)).clamp_min(SMALLEST_REST) for each in (probs_NS, reference_NS.exp()))
    return (probs_NS * (logp_NS - reference_NS)).sum(-1) + rest_N * (rest_N / reference_rest_N).log()


def check_exact(config: Any) -> None:
    """Raises SettingsError for settings under which the exact estimator makes no sense."""
    if config.per_device_train_batch_size % config.num_generations:
        raise SettingsError(
            "The exact estimator takes whole images, per_device_train_batch_size / num_generations at a time, and "
            f"{config.num_generations} doesn't divide {config.per_device_train_batch_size}: change one of them."
        )
    for name in ("use_vllm", "constrain_answers"):
        if getattr(config, name):
            raise SettingsError(f"The exact estimator samples no answers: leave out --{name} or --estimator exact.")
