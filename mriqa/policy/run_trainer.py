"""One run of training on transformers' Trainer: safe checkpoints, exact resuming, validation, finite weights, a head.

`RunTrainer` is the base of the policy's trainer, of its exact form and of the warm start. Where it is named beside a
trainer of TRL's it comes first, and `super()` is TRL's method. Its methods stand in the order in which a run calls
them; each hands on to `checkpoints`, `finite_guard`, `validation`, `auxiliary` or `resuming`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer
from trl import SFTTrainer

from mriqa.answers import AnswerFormat
from mriqa.errors import SettingsError
from mriqa.images import ImageError
from mriqa.models import save_scoring_settings
from mriqa.policy.auxiliary import Auxiliary, HeadTraining
from mriqa.policy.checkpoints import (
    ARGUMENTS_FILE,
    STAGING,
    STATE_FILE,
    discard_old,
    has_plain_weights,
    load_weights,
    plain_data_only,
    whole_or_absent,
)
from mriqa.policy.finite_guard import FiniteGuard
from mriqa.policy.resuming import load_rollout, rollout_file, save_rollout
from mriqa.policy.validation import Validation, evaluation_mode, validate

if TYPE_CHECKING:
    from transformers import ProcessorMixin


class RunTrainer(Trainer):
    """transformers' Trainer, or the trainer of TRL's that is named behind it among the bases.

    Args (keywords, beside the Trainer's):
        answer_format: how a score is asked for and read; saved with every model.
        validation: what `evaluate()` scores; None where evaluation is off.
        views: how `mriqa score` is to look at pictures (`mriqa.views`), saved beside the weights.
        auxiliary: a head that learns beside the policy; none by default.

    Attributes:
        processor: the model's own processor.
        guard: stops the run at the first number that isn't finite.
        head: the training of `auxiliary`, or None.
        batches_per_rollout: how many batches of the loader one comparison set serves; None where there is no such set.
    """

    batches_per_rollout: int | None = None

    # What the Trainer and TRL type too narrowly, or leave open.
    args: Any
    model: Any
    train_dataset: Any
    processing_class: Any
    _step: int  # batches trained on
    _buffered_inputs: Any  # the batches of the comparison set in work, or None
    _metrics: Any  # numbers by name of this line of the log

    def __init__(
        self,
        *args: Any,
        answer_format: AnswerFormat,
        validation: Validation | None = None,
        views: Mapping[str, Any] | None = None,
        auxiliary: Auxiliary | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.answer_format, self.validation, self.views = answer_format, validation, views
        self.processor: ProcessorMixin = kwargs["processing_class"]
        self.guard = FiniteGuard(self.accelerator, self.args, kwargs["train_dataset"])
        self.head = HeadTraining(auxiliary, self, self.guard) if auxiliary else None

    # Resuming, before the first step.

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: Any,
        trial: Any,
    ) -> Any:
        """Find the best checkpoint where the run has been moved, and the place in the rollout."""
        if resume_from_checkpoint and getattr(self.args, "sync_ref_model", False):
            raise SettingsError(
                "sync_ref_model changes the reference model, which no checkpoint holds, so this run can't be resumed: "
                "start it again, and leave sync_ref_model out if it is to survive an interruption."
            )
        progress = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if resume_from_checkpoint and self.state.best_global_step and self.state.best_model_checkpoint is None:
            # The state names the best checkpoint by where the run was; it may have been moved, say to a larger disk.
            moved = Path(resume_from_checkpoint).parent / f"checkpoint-{self.state.best_global_step}"
            self.state.best_model_checkpoint = str(moved) if moved.is_dir() else None
        self._step = self.state.global_step * self.args.gradient_accumulation_steps  # TRL starts from 0
        return progress

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        with plain_data_only(resume_from_checkpoint, self.is_deepspeed_enabled):
            return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if has_plain_weights(self):
            load_weights(self.accelerator.unwrap_model(model or self.model), resume_from_checkpoint)
            return
        with plain_data_only(resume_from_checkpoint, self.is_deepspeed_enabled):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.head and checkpoint is not None:
            self.head.load(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """The last that is read before training goes on: the random states, and the rollout that was in work."""
        with plain_data_only(checkpoint, self.is_deepspeed_enabled):
            super()._load_rng_state(checkpoint)
        if checkpoint is None or not any(Path(checkpoint).glob("rollout_*.safetensors")):
            return
        file = rollout_file(checkpoint, self.args.process_index)
        if not file.is_file():
            warnings.warn(
                f"{checkpoint} was saved by fewer processes than the {self.args.world_size} of this run, which goes on "
                "from its weights but with other random numbers.",
                stacklevel=2,
            )
            return
        self._step, batches = load_rollout(file, self.accelerator.device)
        if len(batches) == getattr(self.args, "steps_per_generation", 0):
            self._buffered_inputs = batches

    # A step. `_prepare_inputs` and what the loss is are the subclasses'.

    def _run_epoch(self, model: Any, epoch: int, train_dataloader: Any, *args: Any, **options: Any) -> None:
        if self.state.global_step >= self.state.max_steps:  # resumed from the last step, which may be within an epoch
            self.control.should_training_stop = True
            return
        # The Trainer tells the loader it makes to skip batches, which on several processes doesn't pass it on.
        train_dataloader.set_epoch(epoch)
        super()._run_epoch(model, epoch, train_dataloader, *args, **options)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        try:
            return super().get_batch_samples(epoch_iterator, num_batches, device)
        except ImageError as error:  # a worker process of the loader puts a whole traceback before its sentence
            raise ImageError(re.split(rf"\b{ImageError.__name__}: ", str(error))[-1].strip()) from error

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The policy's loss; with a head beside it, policy loss + w(t) · head's loss on features of the same pass."""
        if self.head is None:
            output = self.policy_loss(model, inputs, *args, **kwargs)
        else:
            with self.head.reading(model, self.prompt_length(inputs)) as features:
                output = self.policy_loss(model, inputs, *args, **kwargs)
            weight, loss = self.head.weight(self.state), self.head.loss(features.rows_RD, inputs)
            self.note("aux/loss", self.accelerator.gather(loss.detach()).mean().item())
            self.note("aux/weight", weight)
            output = output + weight * loss / self.loss_divisor
        if model.training:
            self.guard.saw(output[0] if isinstance(output, tuple) else output, inputs)
        return output

    def policy_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """What is minimised without a head: TRL's loss, or the subclass's own."""
        return super().compute_loss(model, inputs, *args, **kwargs)

    def prompt_length(self, batch: Mapping[str, Any]) -> int:
        """Prompt tokens of a batch, padding on the left included."""
        ids: torch.Tensor = batch["prompt_ids"]
        return ids.shape[1]

    @property
    def loss_divisor(self) -> int:
        """By what `policy_loss` is divided already: 1 where the Trainer divides by the micro-batches of an update."""
        return 1

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Called once an update, when its gradients are there and before the optimiser steps."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        step = self.state.global_step + 1
        self.guard.check_update(norm, step)
        if self.head:
            self.note("aux/grad_norm", self.head.update(self._get_learning_rate(), step))
        return norm

    def note(self, name: str, value: float) -> None:
        """Log a number of this step; those of the steps between two lines of the log are averaged."""
        self._metrics["train"][name].append(value)

    # Validation.

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """Score `validation` and log its metrics as `eval_<name>`."""
        if self.validation is None:
            raise ValueError("This trainer has nothing to evaluate on: give it a Validation.")
        with evaluation_mode(self.model):  # GRPOTrainer.log reads the mode to tell its two kinds of metrics apart
            metrics = validate(self.validation, self, self.processor)
            logs = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
            self.log(logs)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, logs)
        return logs

    # Checkpoints, which the Trainer and TRL write to `_get_output_dir`, and the final model.

    def _get_output_dir(self, trial: Any) -> str:
        return str(Path(super()._get_output_dir(trial)) / STAGING)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._check_weights()
        run_dir = Path(self._get_output_dir(trial)).parent
        final = run_dir / f"checkpoint-{self.state.global_step}"
        best_before = self.state.best_model_checkpoint
        with whole_or_absent(final, self.accelerator) as staged:
            try:
                super()._save_checkpoint(model, trial)
                if self.head and self.args.should_save:
                    self.head.save(staged)
                if self.state.best_model_checkpoint == str(staged):  # the Trainer only knows where it wrote
                    self.state.best_model_checkpoint = str(final)
                    if self.args.should_save:
                        self.state.save_to_json(str(staged / STATE_FILE))
            except BaseException:
                self.state.best_model_checkpoint = best_before
                raise
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(final))
        limit = self.args.save_total_limit
        if limit is not None and limit > 0:
            keep = {final.name, Path(self.state.best_model_checkpoint or "").name}
            discard_old(run_dir, limit, keep, self.accelerator)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if Path(checkpoint_folder).parent.name != STAGING:  # a staged folder is pushed once it has its name
            super()._push_from_checkpoint(checkpoint_folder)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        save_scoring_settings(output_dir or str(self.args.output_dir), self.answer_format, self.views)

    def _save_rng_state(self, output_dir: str) -> None:
        """The random states are the one thing that every process writes; each adds its part of the rollout in work."""
        super()._save_rng_state(output_dir)
        if self.batches_per_rollout is not None:
            between = self._step % self.batches_per_rollout == 0  # then there is nothing to keep but the place
            batches = [] if between else self._buffered_inputs or []
            save_rollout(rollout_file(output_dir, self.args.process_index), self._step, batches)

    def _load_best_model(self) -> None:
        best = str(self.state.best_model_checkpoint)
        if has_plain_weights(self):
            load_weights(self.accelerator.unwrap_model(self.model), best)
        else:
            with plain_data_only(best, self.is_deepspeed_enabled):
                super()._load_best_model()
        if self.head:
            self.head.load(best)

    def save_final_model(self, folder: str | Path) -> Path:
        """Write the model and its processor to `folder`, whole or not at all, without the pickled arguments."""
        folder = Path(folder)
        self._check_weights()
        with whole_or_absent(folder, self.accelerator) as staged:
            self.save_model(str(staged), _internal_call=True)
            (staged / ARGUMENTS_FILE).unlink(missing_ok=True)
            if self.head:
                self.head.save_trained(self, self.processor, staged)
        best = self.state.best_model_checkpoint
        if self.args.save_total_limit == 1 and best is not None:  # the last one was kept to resume from till now
            discard_old(Path(str(self.args.output_dir)), 1, {Path(best).name}, self.accelerator)
        return folder

    def _check_weights(self) -> None:
        self.guard.check_weights(self.model, self.state.global_step)
        if self.head:
            self.head.check_weights(self.state.global_step)


class ScoreSFTTrainer(RunTrainer, SFTTrainer):
    """TRL's SFTTrainer on `mriqa.training.training_sets.answer_dataset`: the warm start."""
