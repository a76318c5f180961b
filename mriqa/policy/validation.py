"""Validation by correlation with human scores, on the Trainer's own schedule.

TRL would evaluate a policy by its reward on sampled answers. What we want to know, and to choose the best checkpoint
by, is how well its scores rank unseen images: `RunTrainer.evaluate` asks `validate` for that.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate.utils import gather_object
from trl.models import unwrap_model_for_generation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin, Trainer

    from mriqa.manifest import RatedImage

ScoreFunction = Callable[["PreTrainedModel", "ProcessorMixin", "Sequence[RatedImage]"], Sequence[float]]
Metric = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Validation:
    """What to validate on and how.

    `rows` are the rated images; `score(model, processor, rows)` returns one score (1..5, NaN where nothing parsed) per
    row; `metrics` maps a name such as "srcc" to a function of (predicted scores, MOS).
    """

    rows: Sequence[RatedImage]
    score: ScoreFunction
    metrics: Mapping[str, Metric]


def validate(validation: Validation, trainer: Trainer, processor: ProcessorMixin) -> dict[str, float]:
    """The metrics of `validation` by name, `parse_rate` and `runtime` among them, for the model in training.

    The rows are split over the processes, and every process returns the same numbers. Metrics are computed over the
    images whose answer parsed; `parse_rate` says how many those are. With fewer than two of them they are NaN,
    which never becomes the best checkpoint.
    """
    started = time.perf_counter()
    rows, accelerator = validation.rows, trainer.accelerator
    local = list(range(accelerator.process_index, len(rows), accelerator.num_processes))
    with evaluation_mode(trainer.model), whole_model(trainer) as model:
        scores = validation.score(model, processor, [rows[index] for index in local])
    scored = dict(gather_object(list(zip(local, map(float, scores), strict=True))))
    predicted_N = np.array([scored[index] for index in range(len(rows))])
    metrics = correlations(predicted_N, np.array([row.mos for row in rows]), validation.metrics)
    return {**metrics, "runtime": round(time.perf_counter() - started, 3)}


@contextmanager
def whole_model(trainer: Trainer) -> Iterator[PreTrainedModel]:
    """The model in training, unwrapped and whole on every process, as long as the block lasts."""
    args: Any = trainer.args
    with unwrap_model_for_generation(
        trainer.model_wrapped,
        trainer.accelerator,
        gather_deepspeed3_params=getattr(args, "ds3_gather_for_generation", True),
        **checkpointing_options(args),
    ) as model:
        yield model


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Evaluation mode for the block, and the mode from before it afterwards."""
    was_training = model.training
    model.eval()
    yield
    model.train(was_training)


def checkpointing_options(args: Any) -> dict[str, Any]:
    """What TRL 1.16 wants in order to switch gradient checkpointing back on; TRL 1.14, for Python 3.10, knows none."""
    name = "gradient_checkpointing_kwargs"
    known = inspect.signature(unwrap_model_for_generation).parameters
    return {name: getattr(args, name)} if name in known else {}


def correlations(predicted_N: np.ndarray, mos_N: np.ndarray, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Each metric over the images with a finite prediction (N,), and `parse_rate`, the share of those images."""
    parsed_N = np.isfinite(predicted_N)
    enough = parsed_N.sum() >= 2 and np.ptp(predicted_N[parsed_N]) > 0
    values = {
        name: float(metric(predicted_N[parsed_N], mos_N[parsed_N])) if enough else float("nan")
        for name, metric in metrics.items()
    }
    return {**values, "parse_rate": float(parsed_N.mean())}
