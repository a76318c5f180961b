"""What a policy trainer has to remember, beside its weights, to go on as if it had never stopped.

TRL samples a rollout once and trains on it for steps_per_generation × num_iterations batches. It keeps neither the
rollout nor its place in it in a checkpoint, so that a resumed run would sample anew, from other weights, in the middle
of a rollout; and its sampler draws each epoch's order from a generator that no checkpoint holds.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler

from mriqa.policy.checks import SettingsError
from mriqa.policy.schedule import Schedule, ScheduledSampler

Batch = dict[str, Any]


class EpochRepeatSampler(RepeatSampler):
    """TRL's RepeatSampler whose order is a function of the seed and the epoch."""

    def set_epoch(self, epoch: int) -> None:
        if self.shuffle:
            self.generator.manual_seed((self.seed or 0) + epoch)


class ResumableRollouts:
    """Mixin for GRPOTrainer: each process keeps its part of the rollout, and its place in it, in the checkpoint.

    Between two rollouts there is nothing to keep but the place, and the file is tiny: with save_steps × batches a step
    a multiple of steps_per_generation × num_iterations it always is.
    """

    schedule: Schedule | None = None
    """What an epoch trains on; None for every image of the training set once."""
    _buffered_inputs: Any

    @property
    def _rows_per_image(self: Any) -> int:
        """How often an image comes in a row: once for each of its completions."""
        return self.num_generations

    def _get_train_sampler(self: Any, dataset: Any = None) -> Sampler[int]:
        shape = {
            "mini_repeat_count": self._rows_per_image,
            "batch_size": self.args.generation_batch_size // self.num_generations,
            "repeat_count": self.num_iterations * self.args.steps_per_generation,
        }
        if self.schedule is not None:
            return ScheduledSampler(self.schedule, **shape)
        return EpochRepeatSampler(
            data_source=dataset if dataset is not None else self.train_dataset,
            shuffle=self.shuffle_dataset,
            seed=self.args.seed,
            **shape,
        )

    def _init_training_state(
        self: Any, max_steps: int, epoch_steps: int, epochs: int, resume_from_checkpoint: Any, trial: Any
    ) -> Any:
        if resume_from_checkpoint and self.args.sync_ref_model:
            raise SettingsError(
                "sync_ref_model changes the reference model, which no checkpoint holds, so this run can't be resumed: "
                "start it again, and leave sync_ref_model out if it is to survive an interruption."
            )
        progress = super()._init_training_state(max_steps, epoch_steps, epochs, resume_from_checkpoint, trial)  # type: ignore[misc]
        # Until the rollout is loaded, and for checkpoints without one: TRL counts from 0 in a resumed run too.
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        return progress

    # The random states are the one thing that every process writes, and the last that is read before training goes on.
    def _save_rng_state(self: Any, output_dir: str) -> None:
        super()._save_rng_state(output_dir)  # type: ignore[misc]
        between = self._step % (self.args.steps_per_generation * self.num_iterations) == 0
        save_rollout(self._rollout_file(output_dir), self._step, [] if between else self._buffered_inputs)

    def _load_rng_state(self: Any, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)  # type: ignore[misc]
        if checkpoint is None or not any(Path(checkpoint).glob("rollout_*.safetensors")):
            return
        file = self._rollout_file(checkpoint)
        if not file.is_file():
            warnings.warn(
                f"{checkpoint} was saved by fewer processes than the {self.args.world_size} of this run, which goes on "
                "from its weights but with other random numbers.",
                stacklevel=2,
            )
            return
        self._step, batches = load_rollout(file, self.accelerator.device)
        if len(batches) == self.args.steps_per_generation:
            self._buffered_inputs = batches

    def _rollout_file(self: Any, checkpoint: str) -> Path:
        return Path(checkpoint, f"rollout_{self.args.process_index}.safetensors")


def save_rollout(file: str | Path, step: int, batches: Sequence[Batch]) -> None:
    """Write the batches of a rollout (tensors, or plain values as JSON has them) and the trainer's batch count."""
    tensors: dict[str, torch.Tensor] = {}
    plain: list[Batch] = []
    for index, batch in enumerate(batches):
        plain.append({})
        for name, value in batch.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}/{name}"] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            else:
                plain[-1][name] = value
    save_file(tensors, file, metadata={"step": str(step), "plain": json.dumps(plain)})


def load_rollout(file: str | Path, device: torch.device | str = "cpu") -> tuple[int, list[Batch]]:
    """The trainer's batch count and the batches that `save_rollout` wrote, their tensors on `device`."""
    with safe_open(file, framework="pt", device=str(device)) as stored:
        metadata = stored.metadata()
        batches: list[Batch] = json.loads(metadata["plain"])
        for key in stored.keys():  # noqa: SIM118  (no mapping)
            index, name = key.split("/", 1)
            batches[int(index)][name] = stored.get_tensor(key)
    return int(metadata["step"]), batches
