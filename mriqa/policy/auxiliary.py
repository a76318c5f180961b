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
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import nn
from trl.models import unwrap_model_for_generation

from mriqa.policy.checkpoints import CheckpointError
from mriqa.policy.checks import SettingsError
from mriqa.policy.numerics import ROWS_FIELD
from mriqa.policy.prompt_groups import GROUP_FIELD, first_rows
from mriqa.policy.validation import checkpointing_options
from mriqa.shared_prefix import POOLINGS, prompt_features

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


class AuxiliaryObjective:
    """Mixin for GRPOTrainer, first among the bases: `auxiliary` trains beside the policy, None changes nothing.

    The policy's own loss is `_policy_loss`. Logs `aux/loss` (without its weight), `aux/weight` and `aux/grad_norm`.

    Raises SettingsError as `check_auxiliary` does.
    """

    def __init__(self: Any, *args: Any, auxiliary: Auxiliary | None = None, **kwargs: Any) -> None:
        self.auxiliary = auxiliary
        super().__init__(*args, **kwargs)
        if auxiliary is None:
            return
        check_auxiliary(self.args, auxiliary.pooling, auxiliary.weight, auxiliary.schedule, auxiliary.learning_rate)
        auxiliary.head.to(self.accelerator.device, torch.float32).train()
        self._head_optimizer = torch.optim.AdamW(
            auxiliary.head.parameters(), auxiliary.learning_rate, weight_decay=self.args.weight_decay
        )
        self._final_features: tuple[torch.Tensor, torch.Tensor] | None = None  # while the final model is being saved

    @property
    def _auxiliary_weight(self: Any) -> float:
        return self.auxiliary.weight * SCHEDULES[self.auxiliary.schedule](self.state.global_step / self.state.max_steps)

    def _policy_loss(self: Any, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        return super()._compute_loss(model, inputs)  # type: ignore[misc]

    def _compute_loss(self: Any, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        if self.auxiliary is None:
            return self._policy_loss(model, inputs)
        with prompt_features(model, self.auxiliary.pooling, self._prompt_length(inputs)) as seen:
            policy_loss = self._policy_loss(model, inputs)
        weight, loss = self._auxiliary_weight, self._auxiliary_loss(seen.rows_RD, inputs)
        log = self._metrics["train"]
        log["aux/loss"].append(self.accelerator.gather(loss.detach()).mean().item())
        log["aux/weight"].append(weight)
        return policy_loss + weight * loss / self.current_gradient_accumulation_steps

    def _prompt_length(self: Any, inputs: dict[str, Any]) -> int:
        return inputs["prompt_ids"].shape[1]

    def _auxiliary_loss(self: Any, features: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """The head's loss on the distinct images of a micro-batch, NaN where one of their features isn't finite.

        A head may wait for the other processes, and all of them are to see NaN and stop together, so it always runs.
        """
        image_B, group_B = inputs[ROWS_FIELD].cpu(), inputs.get(GROUP_FIELD)
        if group_B is None:  # a row of features for each row of the batch, and several of them may be of one image
            first_N = first_rows(image_B.unique(return_inverse=True)[1])
            features = features[first_N.to(features.device)]
        else:
            first_N = first_rows(group_B.cpu())
        mos_N = self._mos_R[image_B[first_N]].to(features.device)
        finite = features.isfinite()
        loss = self.auxiliary.head(features.where(finite, 0.0), mos_N)
        return loss.where(finite.all(), torch.nan)

    @cached_property
    def _mos_R(self: Any) -> torch.Tensor:
        return torch.tensor(list(self.train_dataset.with_format(None)["mos"]), dtype=torch.float32)

    def _get_grad_norm(self: Any, model: Any, grad_norm: Any = None) -> Any:
        """Called once an update, when its gradients are there; those of the policy are found finite by super()."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[misc]
        if self.auxiliary is not None:
            self._update_head()
        return norm

    def _update_head(self: Any) -> None:
        parameters = [each for each in self.auxiliary.head.parameters() if each.grad is not None]
        for parameter in parameters:
            parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")
        norm = nn.utils.clip_grad_norm_(parameters, self.args.max_grad_norm or math.inf)
        if not norm.isfinite():
            self._stop(f"The gradient of the auxiliary head became NaN or infinite at step {self._next_step}", [])
        self._metrics["train"]["aux/grad_norm"].append(norm.item())
        start = self.args.learning_rate
        factor = self._get_learning_rate() / start if start else 1.0
        for group in self._head_optimizer.param_groups:
            group["lr"] = self.auxiliary.learning_rate * factor
        self._head_optimizer.step()
        self._head_optimizer.zero_grad()

    @property
    def _next_step(self: Any) -> int:
        return self.state.global_step + 1

    def _check_weights(self: Any) -> None:
        super()._check_weights()  # type: ignore[misc]
        if self.auxiliary is not None and not all(each.isfinite().all() for each in self.auxiliary.head.parameters()):
            self._stop(f"The weights of the auxiliary head became NaN or infinite by step {self.state.global_step}", [])

    def _save(self: Any, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)  # type: ignore[misc]
        if self.auxiliary is None:
            return
        folder = Path(output_dir or self.args.output_dir)
        if self._final_features is None:
            save_head(folder / STATE_FILE, self.auxiliary.head, self._head_optimizer)
        else:
            self.auxiliary.save(folder, *self._final_features)

    def _load_optimizer_and_scheduler(self: Any, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if self.auxiliary is not None and checkpoint is not None:
            self._load_head(checkpoint)

    def _load_best_model(self: Any) -> None:
        super()._load_best_model()  # type: ignore[misc]
        if self.auxiliary is not None:
            self._load_head(self.state.best_model_checkpoint)

    def _load_head(self: Any, checkpoint: str) -> None:
        file = Path(checkpoint, STATE_FILE)
        if not file.is_file():
            raise CheckpointError(
                f"{checkpoint} was saved by a run without an auxiliary head ({STATE_FILE} is missing): leave out "
                "--aux, or start again with it."
            )
        load_head(file, self.auxiliary.head, self._head_optimizer)

    def save_final_model(self: Any, folder: Any) -> Any:
        if self.auxiliary is None:
            return super().save_final_model(folder)  # type: ignore[misc]
        self._check_weights()
        self._final_features = self._features_of_training_images()
        try:
            return super().save_final_model(folder)  # type: ignore[misc]
        finally:
            self._final_features = None

    @torch.no_grad()
    def _features_of_training_images(self: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (R, D) under the present weights and MOS (R,), on CPU; the processes share the work."""
        from tqdm.auto import tqdm

        count, device = len(self.train_dataset), self.accelerator.device
        mine = torch.arange(self.accelerator.process_index, count, self.accelerator.num_processes)
        batches = mine.split(max(1, self.args.per_device_train_batch_size // self.num_generations))
        was_training, found = self.model.training, []
        self.model.eval()
        with unwrap_model_for_generation(
            self.model_wrapped,
            self.accelerator,
            gather_deepspeed3_params=self.args.ds3_gather_for_generation,
            **checkpointing_options(unwrap_model_for_generation, self.args),
        ) as model:
            hidden = self.args.disable_tqdm or not self.accelerator.is_main_process
            for batch in tqdm(batches, "Features of the training images", disable=hidden):
                prompts = self._prompt_inputs([self.train_dataset[row] for row in batch.tolist()])
                prompts = {name: value.to(device) for name, value in prompts.items()}
                with prompt_features(model, self.auxiliary.pooling, prompts["input_ids"].shape[1]) as seen:
                    model(**prompts, use_cache=False, logits_to_keep=1)
                found.append(seen.rows_RD.float().cpu())
        self.model.train(was_training)
        everyones = gather_object([(mine, torch.cat(found))]) if found else gather_object([])
        features_RD = torch.empty(count, everyones[0][1].shape[1])
        for rows, features in everyones:
            features_RD[rows] = features
        return features_RD, self._mos_R


def save_head(file: str | Path, head: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write the weights of a head and the state of its optimiser to a safetensors file."""
    slots = optimizer.state_dict()["state"]
    tensors = {f"head.{name}": value for name, value in head.state_dict().items()}
    tensors |= {f"optimizer.{place}.{key}": value for place, slot in slots.items() for key, value in slot.items()}
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, file)


def load_head(file: str | Path, head: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Read in place what `save_head` wrote. Raises CheckpointError where it is that of another head."""
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
