"""What `recipes/conord.py` trains a ConOrdModel with: the loss (eq. 9), the published learning rates, and checkpoints.

Everything random in an epoch comes from the seed and the epoch's number, so a run that was killed ends with the same
weights as a run that was not. Several processes (accelerate) share each batch; the losses see the whole batch.

Legend: N items, B batch, D embedding width.
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
from torch import Tensor, nn

from mriqa.conord.model import ConOrdModel, View
from mriqa.files import replacing
from mriqa.heads.center import ReferencePoints
from mriqa.heads.inputs import HeadError
from mriqa.heads.ordinal_contrast import conord_loss
from mriqa.heads.pairs import RankDistance
from mriqa.heads.weightings import LearnableWeighting

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast to train.

    Attributes:
        learning_rate: base rate η.
        epochs: E.
        warmup_epochs: w; the rate rises linearly from η to warmup_factor × η over them, ...
        warmup_factor: ... five times in the paper (Appendix B.2), and falls to 0 along a cosine until E.
        batch_size: items of all processes together; an epoch's last, smaller batch is left out.
        weight_decay, optimizer: "adamw" or, for ages, "adam".
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
    flip: bool = False
    seed: int = 0

    def rate(self, epoch: float) -> float:
        """The learning rate at a time counted in epochs, 0..E."""
        peak = self.learning_rate * (self.warmup_factor if self.warmup_epochs else 1.0)
        if epoch < self.warmup_epochs:
            return self.learning_rate + (peak - self.learning_rate) * epoch / self.warmup_epochs
        done = (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
        return peak * (1 + math.cos(math.pi * min(1.0, done))) / 2


class ConOrdObjective(nn.Module):
    """L_ConOrd + weight × L_center (eq. 9) of a batch of views and their ranks, with all that it trains."""

    def __init__(
        self,
        model: ConOrdModel,
        points: ReferencePoints,
        weighting: str = "VIII",
        tau: float = 0.07,
        eps: float = 1e-7,
        center_weight: float = 1.0,
        distance: RankDistance | None = None,
        gap_width: float = 1.0,
    ):
        super().__init__()
        self.model, self.points = model, points
        self.weighting = LearnableWeighting(width=gap_width, eps=eps) if weighting == "X" else weighting
        self.tau, self.eps, self.center_weight, self.distance = tau, eps, center_weight, distance

    def forward(self, views_B: View, ranks_B: Tensor) -> Tensor:
        z_BD = self.model(views_B)
        loss = conord_loss(z_BD, ranks_B, self.weighting, self.tau, self.eps, distance=self.distance, gather=True)
        return loss + self.center_weight * self.points(z_BD, ranks_B, gather=True)


def check_training(settings: TrainingSettings, items: int, processes: int = 1) -> None:
    """HeadError where these settings cannot train on so many items."""
    if settings.optimizer not in OPTIMIZERS:
        raise HeadError(f"Unknown optimizer {settings.optimizer!r}; choose one of: {', '.join(OPTIMIZERS)}.")
    if not 0 <= settings.warmup_epochs < settings.epochs:
        raise HeadError(f"{settings.warmup_epochs} warm-up epochs do not fit into {settings.epochs}; raise epochs.")
    batch = min(settings.batch_size, items)
    if batch < 2 * processes:
        raise HeadError(
            f"A batch of {batch} is too small for {processes} processes, each of which needs two items; raise "
            "batch_size or give more rows."
        )


def build_optimizer(objective: ConOrdObjective, settings: TrainingSettings) -> torch.optim.Optimizer:
    """The optimiser of everything in the objective that is not frozen."""
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    return OPTIMIZERS[settings.optimizer](parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def epoch_batches(items: int, settings: TrainingSettings, epoch: int) -> Iterator[list[int]]:
    """Places of an epoch's batches: all items shuffled, whole batches only; a single batch where items are few."""
    order = torch.randperm(items, generator=torch.Generator().manual_seed(combined_seed(settings.seed, epoch)))
    size = min(settings.batch_size, items)
    for start in range(0, items - size + 1, size):
        yield order[start : start + size].tolist()


def combined_seed(*numbers: int) -> int:
    """A seed that depends on each of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def save_checkpoint(
    path: Path, objective: ConOrdObjective, optimizer: torch.optim.Optimizer, history: list[dict[str, float]]
) -> None:
    """Write weights, optimiser state and the log of the epochs so far to a safetensors file, whole or not at all."""
    tensors = {f"objective.{name}": tensor for name, tensor in objective.state_dict().items()}
    for place, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{place}.{name}": tensor for name, tensor in state.items()}
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with replacing(path, sync=True) as temporary:
        save_file(contiguous, temporary, {"history": json.dumps(history)})


def load_checkpoint(path: Path, objective: ConOrdObjective, optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
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
