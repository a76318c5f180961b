"""A head that learns beside the policy: its loss on features of the policy's own forward pass, in the same backward.

    loss = policy loss + w(t) · head(features, mos),   t = step / steps

The features are those of the prompts (`mriqa.shared_prefix.features`), a row for each distinct image of a micro-batch
and not one for each of its G completions. Any module will do as a head. It is no part of the model: the head has an
optimiser of its own, so that the policy's optimiser, clipping and checkpoint formats, sharded ones included, are what
they are without it. Its weights are float32, and equal on all processes.

Legend: N distinct images of a micro-batch, B its rows, D features, R images of the training set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import nn

from mriqa.errors import SettingsError
from mriqa.policy.checkpoints import CheckpointError
from mriqa.policy.finite_guard import ROWS_FIELD, FiniteGuard
from mriqa.policy.prompt_groups import GROUP_FIELD, first_rows
from mriqa.policy.prompts_once import process_prompts
from mriqa.policy.validation import evaluation_mode, whole_model
from mriqa.shared_prefix import POOLINGS, PromptFeatures, prompt_features

if TYPE_CHECKING:
    from transformers import Trainer, TrainerState

STATE_FILE = "auxiliary.safetensors"

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "linear": lambda t: 1 - t,
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
}
"""What the weight is multiplied by at time t of the run, 0 at its start and 1 at its end."""


@dataclass(frozen=True)
class Auxiliary:
    """A head and how it is trained.

    Attributes:
        head: `head(features_ND, mos_N)` gives a scalar loss, summed or averaged over the images as it sees fit.
        pooling: which features it reads, one of `mriqa.shared_prefix.POOLINGS`.
        weight: of its loss beside the policy's, above 0.
        schedule: how the weight goes on: "constant", or down to 0 by "linear" or "cosine".
        learning_rate: of the head's AdamW; it follows the policy's schedule.
        save: writes the trained head to the final model's folder, given the features (R, D) and MOS (R,) of all
            training images under the final weights.
    """

    head: nn.Module
    pooling: str
    weight: float
    schedule: str
    learning_rate: float
    save: Callable[[Path, torch.Tensor, torch.Tensor], None]


def check_auxiliary(config: Any, pooling: str, weight: float, schedule: str, learning_rate: float) -> None:
    """Raises SettingsError for settings of a head that can't train, or not under the trainer's `config`.

    fp16 is refused because its loss scaling is unknown to the head's optimiser, the Liger loss because it doesn't run
    the model's own forward.
    """
    if pooling not in POOLINGS:
        raise SettingsError(f"aux_features is one of {', '.join(POOLINGS)}, not {pooling!r}.")
    if schedule not in SCHEDULES:
        raise SettingsError(f"aux_schedule is one of {', '.join(SCHEDULES)}, not {schedule!r}.")
    for name, value in (("aux_weight", weight), ("aux_learning_rate", learning_rate)):
        if not (math.isfinite(value) and value > 0):
            raise SettingsError(f"{name} must be a finite number above 0, not {value}.")
    for name in ("fp16", "use_liger_kernel"):
        if getattr(config, name):
            raise SettingsError(f"An auxiliary head doesn't train with {name}: leave out --{name} or --aux.")


class HeadTraining:
    """The training of an `Auxiliary`: its loss on a micro-batch, its optimiser, what a checkpoint keeps of it.

    Args:
        auxiliary: the head and its settings.
        trainer: the trainer of the policy, for its settings, its processes and its training set.
        guard: what stops the run where the head diverges.

    Raises SettingsError as `check_auxiliary` does.
    """

    def __init__(self, auxiliary: Auxiliary, trainer: Trainer, guard: FiniteGuard) -> None:
        self.auxiliary, self.head = auxiliary, auxiliary.head
        args, self._accelerator, self._guard = trainer.args, trainer.accelerator, guard
        check_auxiliary(args, auxiliary.pooling, auxiliary.weight, auxiliary.schedule, auxiliary.learning_rate)
        self._max_grad_norm, self._policy_rate = args.max_grad_norm, args.learning_rate
        self.head.to(self._accelerator.device, torch.float32).train()
        self._optimizer = torch.optim.AdamW(
            self.head.parameters(), auxiliary.learning_rate, weight_decay=args.weight_decay
        )
        rows: Any = trainer.train_dataset
        self._mos_R = torch.tensor(list(rows.with_format(None)["mos"]), dtype=torch.float32)

    @contextmanager
    def reading(self, model: nn.Module, prompt_length: int) -> Iterator[PromptFeatures]:
        """Take the head's features from the policy's pass within the block."""
        with prompt_features(model, self.auxiliary.pooling, prompt_length) as features:
            yield features

    def weight(self, state: TrainerState) -> float:
        """w(t)."""
        return self.auxiliary.weight * SCHEDULES[self.auxiliary.schedule](state.global_step / state.max_steps)

    def loss(self, features_RD: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """The head's loss on the distinct images of a micro-batch, NaN where one of their features isn't finite.

        A head may wait for the other processes, and all of them are to see NaN and stop together, so it always runs.
        """
        image_B, group_B = batch[ROWS_FIELD].cpu(), batch.get(GROUP_FIELD)
        if group_B is None:  # a row of features for each row of the batch, and several of them may be of one image
            first_N = first_rows(image_B.unique(return_inverse=True)[1])
            features_RD = features_RD[first_N.to(features_RD.device)]
        else:
            first_N = first_rows(group_B.cpu())
        mos_N = self._mos_R[image_B[first_N]].to(features_RD.device)
        finite = features_RD.isfinite()
        loss: torch.Tensor = self.head(features_RD.where(finite, 0.0), mos_N)
        return loss.where(finite.all(), torch.nan)

    def update(self, policy_learning_rate: float, step: int) -> float:
        """One step of the head's optimiser, its rate following the policy's; the norm of its gradient."""
        parameters = [parameter for parameter in self.head.parameters() if parameter.grad is not None]
        for parameter in parameters:
            parameter.grad = self._accelerator.reduce(parameter.grad, reduction="mean")
        norm = nn.utils.clip_grad_norm_(parameters, self._max_grad_norm or math.inf)
        if not norm.isfinite():
            self._guard.stop(f"The gradient of the auxiliary head became NaN or infinite at step {step}")
        factor = policy_learning_rate / self._policy_rate if self._policy_rate else 1.0
        for group in self._optimizer.param_groups:
            group["lr"] = self.auxiliary.learning_rate * factor
        self._optimizer.step()
        self._optimizer.zero_grad()
        return norm.item()

    def check_weights(self, step: int) -> None:
        """NotFiniteError where a weight of the head is NaN or infinite."""
        if not all(weight.isfinite().all() for weight in self.head.parameters()):
            self._guard.stop(f"The weights of the auxiliary head became NaN or infinite by step {step}")

    def save(self, folder: Path) -> None:
        """Write what a resumed run needs into a checkpoint's folder."""
        save_head_state(folder / STATE_FILE, self.head, self._optimizer)

    def load(self, checkpoint: str | Path) -> None:
        """Go on with the head of a checkpoint. Raises CheckpointError where it has none, or another one."""
        file = Path(checkpoint, STATE_FILE)
        if not file.is_file():
            raise CheckpointError(
                f"{checkpoint} was saved by a run without an auxiliary head ({STATE_FILE} is missing): leave out "
                "--aux, or start again with it."
            )
        load_head_state(file, self.head, self._optimizer)

    @torch.no_grad()
    def save_trained(self, trainer: Trainer, processor: Any, folder: Path) -> None:
        """Write the trained head beside the final model, with the features of all training images (`Auxiliary.save`).

        Features (R, D) are taken under the present weights; the processes share that work.
        """
        from tqdm.auto import tqdm

        args: Any = trainer.args
        rows: Any = trainer.train_dataset
        local_R = torch.arange(self._accelerator.process_index, len(rows), self._accelerator.num_processes)
        batches = local_R.split(max(1, args.per_device_train_batch_size // args.num_generations))
        found = []
        with evaluation_mode(trainer.model), whole_model(trainer) as model:
            hidden = args.disable_tqdm or not self._accelerator.is_main_process
            for batch in tqdm(batches, "Features of the training images", disable=hidden):
                prompts = process_prompts(processor, [rows[row] for row in batch.tolist()], args.chat_template_kwargs)
                prompts = {name: value.to(self._accelerator.device) for name, value in prompts.items()}
                with self.reading(model, prompts["input_ids"].shape[1]) as features:
                    model(**prompts, use_cache=False, logits_to_keep=1)
                found.append(features.rows_RD.float().cpu())
        parts = gather_object([(local_R, torch.cat(found))] if found else [])
        features_RD = torch.empty(len(rows), parts[0][1].shape[1])
        for rows_of_part, part_RD in parts:
            features_RD[rows_of_part] = part_RD
        if args.should_save:
            self.auxiliary.save(folder, features_RD, self._mos_R)


def save_head_state(file: str | Path, head: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write the weights of a head and the state of its optimiser to a safetensors file."""
    slots = optimizer.state_dict()["state"]
    tensors = {f"head.{name}": value for name, value in head.state_dict().items()}
    tensors |= {f"optimizer.{place}.{key}": value for place, slot in slots.items() for key, value in slot.items()}
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, file)


def load_head_state(file: str | Path, head: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Read in place what `save_head_state` wrote. Raises CheckpointError where it is that of another head."""
    weights: dict[str, torch.Tensor] = {}
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in load_file(file).items():
        part, rest = name.split(".", 1)
        if part == "head":
            weights[rest] = value
        else:
            place, key = rest.split(".", 1)
            slots.setdefault(int(place), {})[key] = value
    try:
        head.load_state_dict(weights)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{file} holds another head than this run's: resume with the settings and the training images that the "
            "run began with."
        ) from error
