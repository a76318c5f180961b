"""The estimate against the bytes of tensors that training holds; benchmarks/memory.py measures the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_policy import FORMAT, make_trainer

from mriqa.models import load_vlm
from mriqa.training.config import RunArguments, ScoreGRPOConfig
from mriqa.training.cpu_memory import return_freed_memory
from mriqa.training.preflight.counted_bytes import HeldBytes
from mriqa.training.preflight.model_shape import shape_of
from mriqa.training.preflight.planned_run import PlannedRun
from mriqa.training.preflight.step_time import describe_seconds, seconds_of_update
from mriqa.training.runs import lora_config


@pytest.mark.parametrize(
    ("batch", "options", "arguments"),
    [
        (24, {}, {}),
        (8, {"shared_prefix": False}, {"lora_r": 8}),
        (48, {"gradient_checkpointing": True, "beta": 0.02}, {}),
    ],
    ids=["full", "lora, repeated", "checkpoints, reference"],
)
def test_estimate_is_near_what_training_holds(
    batch: int, options: dict[str, Any], arguments: dict[str, Any], tiny_model: Path, rows: list, tmp_path: Path
) -> None:
    given = {"per_device_train_batch_size": batch, "num_generations": 8, "max_completion_length": 8, **options}
    planned = RunArguments(model=str(tiny_model), **arguments)
    config = ScoreGRPOConfig(output_dir=str(tmp_path), **{"beta": 0.0, "gradient_checkpointing": False, **given})
    estimate = PlannedRun(planned, config, rows, FORMAT, "sampled").memory
    with HeldBytes() as held:
        adapter = {"peft_config": lora_config(planned)} if planned.lora_r else {}
        trainer = make_trainer(tiny_model, rows, tmp_path, save_strategy="no", **given, **adapter)
        trainer.train()
    assert estimate.peak - estimate.own == pytest.approx(held.most, rel=0.2)


def test_weights_are_counted_without_being_loaded(tiny_model: Path) -> None:
    model, _ = load_vlm(tiny_model, device="cpu")
    shape = shape_of(RunArguments(model=str(tiny_model)))
    assert shape.parameters == sum(weight.numel() for weight in model.parameters())
    assert shape.weights == shape.trained == sum(weight.nbytes for weight in model.parameters())
    frozen = shape_of(RunArguments(model=str(tiny_model), freeze_vision=True))
    assert frozen.trained < shape.trained and not frozen.tower_trained


def test_held_bytes_follow_what_is_freed() -> None:
    with HeldBytes() as held:
        first = torch.zeros(1000)
        second = first.view(10, 100) + 1
        assert held.now == held.most == 8000
        del first
        assert (held.now, held.most) == (4000, 8000)
        del second
    assert held.now == 0


def test_time_is_positive_and_said_in_words(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    config = ScoreGRPOConfig(output_dir=str(tmp_path), per_device_train_batch_size=4, num_generations=2)
    run = PlannedRun(RunArguments(model=str(tiny_model)), config, rows, FORMAT, "sampled")
    assert seconds_of_update(run.shape, run.passes, config) > 0
    assert [describe_seconds(each) for each in (0.01, 5, 600)] == ["10 ms", "5 s", "10 min"]


def test_freed_memory_goes_back() -> None:
    assert isinstance(return_freed_memory(), bool)
