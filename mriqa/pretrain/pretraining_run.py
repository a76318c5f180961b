"""The run: steps by the plan, a log, and checkpoints from which a run that was killed goes on to the same weights.

Everything random follows from the seed and the step. On CPUs the weights are the same to the last bit; on accelerators
up to the order in which they add.

Legend: N images of a batch.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Parameter
from torch.utils.data import DataLoader

from mriqa.choices import check_choice
from mriqa.files import replacing
from mriqa.pretrain.graphs.graph_mixture import COLLAPSED
from mriqa.pretrain.graphs.layout import PretrainError
from mriqa.pretrain.pretraining_objective import PretrainingObjective
from mriqa.pretrain.tiny_batches import Batch, TinyBatches, collate, seed_of

if TYPE_CHECKING:
    from accelerate import Accelerator

History = list[dict[str, Any]]
OPTIMIZERS = ("sgd", "adamw")


@dataclass(frozen=True)
class PretrainPlan:
    """How long and how fast: a learning rate that falls from `learning_rate` to `final_rate` along one cosine.

    Attributes:
        steps: in all; none keeps the encoder as it is, to compare with.
        optimizer: "sgd", the paper's, or "adamw".
        momentum: of SGD; the first beta of AdamW.
        weight_decay: of every parameter, norms and biases too.
        log_every: steps that a line of the log is the mean of.
        workers: processes that load, and distort, ahead.
        seed: of weights' noise, such as dropout; that of the data is `TinyBatchSettings.seed`.
    """

    steps: int
    optimizer: str = "sgd"
    learning_rate: float = 1.5e-3
    final_rate: float = 1e-6
    momentum: float = 0.9
    weight_decay: float = 1e-4
    log_every: int = 50
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("log_every", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise PretrainError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        check_choice("optimizer", self.optimizer, OPTIMIZERS, PretrainError)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        fall = (1 + math.cos(math.pi * min(1.0, step / self.steps))) / 2
        return self.final_rate + (self.learning_rate - self.final_rate) * fall

    def optimizer_of(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        """The optimiser of those that are to be trained."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if self.optimizer == "adamw":
            betas = (self.momentum, 0.999)
            return torch.optim.AdamW(trained, lr=self.learning_rate, betas=betas, weight_decay=self.weight_decay)
        return torch.optim.SGD(trained, self.learning_rate, self.momentum, weight_decay=self.weight_decay)


def run_pretraining(
    objective: PretrainingObjective,
    tiny_batches: TinyBatches,
    plan: PretrainPlan,
    accelerator: Accelerator,
    *,
    checkpoint: Path | None = None,
    checkpoint_due: Callable[[], bool] = lambda: True,
    on_step: Callable[[int], None] = lambda done: None,
    on_log: Callable[[History], None] = lambda history: None,
    diagnose: Callable[[int], dict[str, float] | None] = lambda done: None,
    on_skipped: Callable[[tuple[str, ...]], None] = lambda reasons: None,
    on_warning: Callable[[str], None] = lambda sentence: None,
) -> History:
    """Train the objective, on the accelerator's device; the log, a line for every `log_every` steps.

    Args:
        objective: what to train.
        tiny_batches: what to learn from; each process takes its own out of every step.
        plan: how long and how fast.
        accelerator: accelerate's, for several processes and mixed precision.
        checkpoint: a file to go on from where it exists, written with a line of the log where `checkpoint_due()`.
        on_log: told, after a line, the log so far.
        on_step: told after a step how many are done; a checkpoint of the step comes after it, so that a run that was
            killed never goes on behind a step that `on_step` has not dealt with.
        diagnose: asked for more to log after every step; None for most.
        on_skipped: told what pictures were left out because they could not be read.
        on_warning: told in a sentence what a person should know.

    Raises:
        PretrainError: a broken checkpoint, a loss that is not finite, or no picture that can be read.
    """
    optimizer = plan.optimizer_of(objective.parameters())
    start, history = _restore(checkpoint, objective, optimizer) if checkpoint and checkpoint.is_file() else (0, [])
    wrapped = accelerator.prepare_model(objective)
    batches = _loader(objective, tiny_batches, plan, accelerator, start)
    images = objective.layout.nodes * accelerator.num_processes
    sums: dict[str, Tensor] = {}
    since, logged, warned = time.monotonic(), start, False
    for step, batch in enumerate(batches, start):
        if batch.skipped:
            on_skipped(batch.skipped)
        torch.manual_seed(seed_of(plan.seed, step, accelerator.process_index))
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(step)
        objective.train()
        found = wrapped(batch.images(accelerator.device), batch.compositions.varying_severity.to(accelerator.device))
        optimizer.zero_grad()
        accelerator.backward(found["loss"])
        optimizer.step()
        done = step + 1
        for name, value in found.items():
            sums[name] = sums.get(name, 0) + value.detach()
        more = diagnose(done) or {}
        logs = bool(done % plan.log_every == 0 or done == plan.steps or more)
        if logs:
            line = _line(sums, done - logged, objective)
            if not math.isfinite(line["loss"]):
                raise PretrainError(f"The loss is not finite at step {done}; lower learning_rate, or train in float32.")
            seconds = time.monotonic() - since
            speed = images * (done - logged) / seconds
            history.append({"step": done, **line, "learning_rate": plan.rate(step), "images_per_second": speed, **more})
            sums, since, logged = {}, time.monotonic(), done
            top, weight = max(line["omega"].items(), key=lambda pair: pair[1])
            if weight > COLLAPSED and len(line["omega"]) > 1 and not warned:
                warned = True
                on_warning(f"At step {done} the mixture is down to one graph: {top} has the weight {weight:.3f}.")
            if accelerator.is_main_process:
                on_log(history)
        on_step(done)
        if checkpoint and logs and done < plan.steps and accelerator.is_main_process and checkpoint_due():
            _keep(checkpoint, objective, optimizer, done, history)
    return history


def _loader(
    objective: PretrainingObjective, tiny_batches: TinyBatches, plan: PretrainPlan, accelerator: Accelerator, start: int
) -> Iterator[Batch]:
    """The batches of this process from a step on."""
    size, processes, own = objective.layout.tiny_batches, accelerator.num_processes, accelerator.process_index
    numbers = [[(step * processes + own) * size + each for each in range(size)] for step in range(start, plan.steps)]
    loader = DataLoader(
        tiny_batches,
        batch_sampler=numbers,
        num_workers=plan.workers,
        collate_fn=collate,
        pin_memory=accelerator.device.type == "cuda",
    )
    return iter(loader)


def _line(sums: dict[str, Tensor], steps: int, objective: PretrainingObjective) -> dict[str, Any]:
    """Means over the steps, the mixture's by graph."""
    means: dict[str, Any] = {name: (total / steps).tolist() for name, total in sums.items()}
    means["omega"] = dict(zip(objective.mixture.graphs, means["omega"]))
    return means


def _keep(
    path: Path, objective: PretrainingObjective, optimizer: torch.optim.Optimizer, done: int, history: History
) -> None:
    tensors = {f"objective.{name}": tensor for name, tensor in objective.state_dict().items()}
    for place, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{place}.{name}": tensor for name, tensor in state.items() if tensor is not None}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    about = {"step": str(done), "history": json.dumps(history)}
    with replacing(path) as temporary:
        save_file(contiguous, temporary, about)


def _restore(path: Path, objective: PretrainingObjective, optimizer: torch.optim.Optimizer) -> tuple[int, History]:
    states: dict[int, dict[str, Tensor]] = {}
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata()
            step, history = int(about["step"]), json.loads(about["history"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        objective.load_state_dict(
            {name.removeprefix("objective."): t for name, t in tensors.items() if name.startswith("objective.")}
        )
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, place, key = name.split(".")
                states.setdefault(int(place), {})[key] = tensor
        optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        first = str(error).split("\n")[0]
        raise PretrainError(f"The checkpoint {path} cannot be used ({first}); delete it to begin again.") from error
    return step, history
