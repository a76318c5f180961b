"""How `recipes/conord.py` trains an objective: the published learning rates, the batches of an epoch, and checkpoints.

Everything random in an epoch comes from the seed and the epoch's number, so a run that was killed ends with the same
weights as a run that was not. Several processes (accelerate) share each batch; the losses see the whole batch.

"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mriqa.conord.objective import Objective
from mriqa.files import replacing
from mriqa.heads.inputs import HeadError

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast to train.

    Attributes:
        learning_rate: base rate η.
        epochs: E.
        warmup_epochs: w; the rate rises linearly from η to warmup_factor × η over them, ...
        warmup_factor: ... five times in the paper (Appendix B.2), and falls to 0 along a cosine until E.
        batch_size: draws of all processes together; an epoch's last, smaller batch is left out.
        draws: of each item in a batch: 2 for losses that compare augmented views, and 1.
        weight_decay, optimizer: "adamw" or, for ages, "adam".
        points_learning_rate: base rate of the reference points, which rises and falls likewise; None for η.
        flip: mirror each picture with probability 1/2.
        seed: of the batches, the crops and the mirroring.
    """

    learning_rate: float
    epochs: int
    warmup_epochs: int = 5
    warmup_factor: float = 5.0
    batch_size: int = 32
    weight_decay: float = 2e-3
    optimizer: str = "adamw"
    points_learning_rate: float | None = None
    flip: bool = False
    seed: int = 0
    draws: int = 1

    @property
    def batch_items(self) -> int:
        """Items of a batch, all processes together."""
        return self.batch_size // self.draws

    def rate(self, epoch: float) -> float:
        """The learning rate at a time counted in epochs, 0..E."""
        peak = self.learning_rate * (self.warmup_factor if self.warmup_epochs else 1.0)
        if epoch < self.warmup_epochs:
            return self.learning_rate + (peak - self.learning_rate) * epoch / self.warmup_epochs
        done = (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
        return peak * (1 + math.cos(math.pi * min(1.0, done))) / 2


def check_training(settings: TrainingSettings, items: int, processes: int = 1) -> None:
    """HeadError where these settings cannot train on so many items."""
    if settings.optimizer not in OPTIMIZERS:
        raise HeadError(f"Unknown optimizer {settings.optimizer!r}; choose one of: {', '.join(OPTIMIZERS)}.")
    if not 0 <= settings.warmup_epochs < settings.epochs:
        raise HeadError(f"{settings.warmup_epochs} warm-up epochs do not fit into {settings.epochs}; raise epochs.")
    batch = min(settings.batch_items, items)
    if batch < 2 * processes:
        raise HeadError(
            f"A batch of {batch} is too small for {processes} processes, each of which needs two items; raise "
            "batch_size or give more rows."
        )


def build_optimizer(objective: Objective, settings: TrainingSettings) -> torch.optim.Optimizer:
    """The optimiser of everything in the objective that is not frozen; `set_rate` sets its learning rates."""
    points = list(objective.points.parameters())
    others = [
        parameter
        for name, parameter in objective.named_parameters()
        if parameter.requires_grad and not name.startswith("points.")
    ]
    own_rate = settings.learning_rate if settings.points_learning_rate is None else settings.points_learning_rate
    groups = [{"params": others, "times": 1.0}, {"params": points, "times": own_rate / settings.learning_rate}]
    return OPTIMIZERS[settings.optimizer](groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let everything train at this rate, and the reference points at their own in proportion."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["times"]


def epoch_batches(items: int, settings: TrainingSettings, epoch: int) -> Iterator[list[int]]:
    """Places of an epoch's batches: all items shuffled, whole batches only; a single batch where items are few."""
    order = torch.randperm(items, generator=torch.Generator().manual_seed(combined_seed(settings.seed, epoch)))
    size = min(settings.batch_items, items)
    for start in range(0, items - size + 1, size):
        yield order[start : start + size].tolist()


def combined_seed(*numbers: int) -> int:
    """A seed that depends on each of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def save_checkpoint(
    path: Path, objective: Objective, optimizer: torch.optim.Optimizer, history: list[dict[str, float]]
) -> None:
    """Write weights, optimiser state and the log of the epochs so far to a safetensors file, whole or not at all."""
    tensors = {f"objective.{name}": tensor for name, tensor in objective.state_dict().items()}
    for place, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{place}.{name}": tensor for name, tensor in state.items()}
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with replacing(path, sync=True) as temporary:
        save_file(contiguous, temporary, {"history": json.dumps(history)})


def load_checkpoint(path: Path, objective: Objective, optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
    """Put what `save_checkpoint` wrote into objective and optimiser; the log of the epochs that are done.

    Raises:
        HeadError: a broken file, or the checkpoint of another model.
    """
    try:
        with safe_open(path, "pt") as file:
            history = json.loads(file.metadata()["history"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        objective.load_state_dict(
            {name.removeprefix("objective."): t for name, t in tensors.items() if name.startswith("objective.")}
        )
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = str(error).split("\n")[0]
        raise HeadError(
            f"The checkpoint {path} cannot be used ({reason}); delete it to begin this split again."
        ) from error
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, place, key = name.split(".")
            states.setdefault(int(place), {})[key] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return history
