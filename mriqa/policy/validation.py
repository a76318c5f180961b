"""Validation by correlation with human scores, on the Trainer's own schedule.

TRL would evaluate a policy by its reward on sampled answers. What we want to know, and to choose the best checkpoint
by, is how well its scores rank unseen images, so `Trainer.evaluate` is replaced.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

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


class ScoreValidation:
    """Mixin for `transformers.Trainer`: `evaluate()` scores `self.validation` and logs its metrics as `eval_<name>`.

    The rows are split over the processes, and every process returns the same numbers. Metrics are computed over the
    images whose answer parsed; `eval_parse_rate` says how many those are. With fewer than two of them they are NaN,
    which never becomes the best checkpoint.
    """

    validation: Validation | None = None

    def evaluate(self: Any, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        from accelerate.utils import gather_object
        from trl.models import unwrap_model_for_generation

        if self.validation is None:
            raise ValueError("This trainer has nothing to evaluate on: give it a Validation.")
        started = time.perf_counter()
        rows = self.validation.rows
        mine = list(range(self.accelerator.process_index, len(rows), self.accelerator.num_processes))
        was_training = self.model.training
        self.model.eval()  # GRPOTrainer.log reads the mode to tell training metrics from evaluation metrics
        with unwrap_model_for_generation(
            self.model_wrapped,
            self.accelerator,
            gather_deepspeed3_params=getattr(self.args, "ds3_gather_for_generation", True),
            **checkpointing_options(unwrap_model_for_generation, self.args),
        ) as model:
            scores = self.validation.score(model, self.processing_class, [rows[index] for index in mine])
        scored = dict(gather_object(list(zip(mine, map(float, scores), strict=True))))

        predicted = np.array([scored[index] for index in range(len(rows))])
        metrics = correlations(predicted, np.array([row.mos for row in rows]), self.validation.metrics)
        metrics["runtime"] = round(time.perf_counter() - started, 3)
        logs = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(logs)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, logs)
        self.model.train(was_training)
        return logs


def checkpointing_options(unwrap: Callable[..., Any], args: Any) -> dict[str, Any]:
    """What TRL 1.16 wants in order to switch gradient checkpointing back on; TRL 1.14, for Python 3.10, knows none."""
    name = "gradient_checkpointing_kwargs"
    return {name: args.gradient_checkpointing_kwargs} if name in inspect.signature(unwrap).parameters else {}


def correlations(predicted: np.ndarray, mos: np.ndarray, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Each metric over the images with a finite prediction (N,), and `parse_rate`, the share of those images."""
    parsed = np.isfinite(predicted)
    enough = parsed.sum() >= 2 and np.ptp(predicted[parsed]) > 0
    values = {
        name: float(metric(predicted[parsed], mos[parsed])) if enough else float("nan")
        for name, metric in metrics.items()
    }
    return {**values, "parse_rate": float(parsed.mean())}
