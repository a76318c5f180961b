"""Train a ConOrdModel: the total loss (eq. 9), the published learning rates, and runs that can be killed and go on.

All that is random in an epoch comes from the seed and the epoch's number, so a run that was killed ends with the same
weights as one that was not. Several processes (accelerate) share each batch; the losses see the whole of it.

Legend: N items, B batch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mriqa.conord.model import ConOrdModel, View, to_device
from mriqa.conord.ranked_sets import Drawn
from mriqa.files import replacing
from mriqa.heads.center import ReferencePoints
from mriqa.heads.inputs import HeadError
from mriqa.heads.ordinal_contrast import conord_loss
from mriqa.heads.pairs import RankDistance
from mriqa.heads.weightings import LearnableWeighting

if TYPE_CHECKING:
    from accelerate import Accelerator

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Attributes:
        learning_rate: base rate η.
        epochs: E.
        warmup_epochs: w; the rate rises linearly from η to warmup_factor × η over them, ...
        warmup_factor: ... five times in the paper (Appendix B.2), and falls to 0 along a cosine until E.
        batch_size: items of all processes together; an epoch's last, smaller batch is left out.
        weight_decay, optimizer: "adamw" or, for ages, "adam".
        flip: mirror every other picture.
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


class Objective(nn.Module):
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


def fit(
    objective: Objective,
    views: Dataset[list[View]],
    ranks_N: Tensor,
    plan: Plan,
    accelerator: Accelerator,
    *,
    workers: int = 0,
    checkpoint: Path | None = None,
    checkpoint_due: Callable[[], bool] = lambda: True,
    on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, log: None,
) -> list[dict[str, float]]:
    """Train by the plan; the mean loss and the last learning rate of each epoch.

    Arguments:
        objective: what to train, on the accelerator's device.
        views: of the N training items, as `Looked` or `Computed` gives them.
        ranks_N: their ranks, (N,) or (N, R).
        plan: how long and how fast.
        accelerator: accelerate's, for several processes and mixed precision.
        workers: processes that read pictures ahead.
        checkpoint: a file to go on from where it exists, written after an epoch where `checkpoint_due()`.
        on_epoch: told the number of epochs done, and the log of the last.

    Raises:
        HeadError: a plan that cannot be, a broken checkpoint, or embeddings that became NaN.
        ImageError: a picture or video that cannot be read.
    """
    check_plan(plan, len(ranks_N), accelerator.num_processes)
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = OPTIMIZERS[plan.optimizer](parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)  # type: ignore[call-arg]
    history = _restore(checkpoint, objective, optimizer) if checkpoint and checkpoint.is_file() else []
    wrapped = accelerator.prepare_model(objective)
    for epoch in range(len(history), plan.epochs):
        torch.manual_seed(hash_of(plan.seed, epoch, accelerator.process_index))  # dropout
        objective.train()
        batches = list(epoch_batches(len(ranks_N), plan, epoch))
        share = [batch[accelerator.process_index :: accelerator.num_processes] for batch in batches]
        loader = DataLoader(Drawn(views, plan.seed, epoch, plan.flip), batch_sampler=share, num_workers=workers)
        losses = []
        for step, (views_B, places_B) in enumerate(loader):
            for group in optimizer.param_groups:
                group["lr"] = plan.rate(epoch + step / len(batches))
            ranks_B = ranks_N[places_B].float().to(accelerator.device)
            loss = wrapped(to_device(_pair(views_B), accelerator.device), ranks_B)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            losses.append(loss.item())
        history.append({"loss": sum(losses) / len(losses), "learning_rate": optimizer.param_groups[0]["lr"]})
        if checkpoint and epoch + 1 < plan.epochs and accelerator.is_main_process and checkpoint_due():
            _keep(checkpoint, objective, optimizer, history)
        on_epoch(epoch + 1, history[-1])
    return history


def check_plan(plan: Plan, items: int, processes: int = 1) -> None:
    """HeadError where a plan cannot be carried out with so many training items."""
    if plan.optimizer not in OPTIMIZERS:
        raise HeadError(f"Unknown optimizer {plan.optimizer!r}; choose one of: {', '.join(OPTIMIZERS)}.")
    if not 0 <= plan.warmup_epochs < plan.epochs:
        raise HeadError(f"{plan.warmup_epochs} warm-up epochs do not fit into {plan.epochs}; raise epochs.")
    if min(plan.batch_size, items) < 2 * processes:
        raise HeadError(
            f"A batch of {min(plan.batch_size, items)} is too small for {processes} processes, each of which needs two "
            "items; raise batch_size or give more rows."
        )


def epoch_batches(items: int, plan: Plan, epoch: int) -> Iterator[list[int]]:
    """Places of an epoch's batches: all items shuffled, whole batches only, or one of all items where they are few."""
    order = torch.randperm(items, generator=torch.Generator().manual_seed(hash_of(plan.seed, epoch)))
    size = min(plan.batch_size, items)
    for start in range(0, items - size + 1, size):
        yield order[start : start + size].tolist()


def hash_of(*numbers: int) -> int:
    """One seed of several numbers."""
    import numpy as np

    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _pair(views_B: Any) -> View:
    return views_B if isinstance(views_B, Tensor) else (views_B[0], views_B[1])


def _keep(path: Path, objective: Objective, optimizer: torch.optim.Optimizer, history: list[dict[str, float]]) -> None:
    tensors = {f"objective.{name}": tensor for name, tensor in objective.state_dict().items()}
    for place, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{place}.{name}": tensor for name, tensor in state.items()}
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with replacing(path, sync=True) as temporary:
        save_file(contiguous, temporary, {"history": json.dumps(history)})


def _restore(path: Path, objective: Objective, optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
    try:
        with safe_open(path, "pt") as file:
            history = json.loads(file.metadata()["history"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        objective.load_state_dict(
            {name.removeprefix("objective."): t for name, t in tensors.items() if name.startswith("objective.")}
        )
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        first = str(error).split("\n")[0]
        raise HeadError(
            f"The checkpoint {path} cannot be used ({first}); delete it to begin this split again."
        ) from error
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, place, key = name.split(".")
            states.setdefault(int(place), {})[key] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return history
