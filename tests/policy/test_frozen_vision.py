"""A whole training run with a frozen vision tower, against the same run without a store of its features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from counted_passes import counted

import mriqa.reward
from mriqa.answers import load_format
from mriqa.embedded import build_tiny_qwen3_vl
from mriqa.policy.trainer import ScoreGRPOTrainer
from mriqa.training import runs
from mriqa.training.config import RunArguments, ScoreGRPOConfig
from mriqa.training.training_sets import policy_dataset
from mriqa.training.vision import freeze_vision


def test_a_whole_run_sees_each_image_once(tmp_path: Path, rows: list, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rollouts, reference passes and updates of two epochs: six images, and the weights of a run without a cache."""
    answer_format = load_format("non_thinking")
    build_tiny_qwen3_vl(tmp_path / "model")

    def trained(vision_cache: str) -> tuple[dict[str, torch.Tensor], list[int]]:
        arguments = RunArguments(model=str(tmp_path / "model"), freeze_vision=True, vision_cache=vision_cache)
        passes: list[list[int]] = []

        def freeze_and_count(model: Any) -> None:
            freeze_vision(model)
            passes.append(counted(model))

        monkeypatch.setattr(runs, "freeze_vision", freeze_and_count)
        model, processor = runs.load_policy(arguments)
        config = ScoreGRPOConfig(
            output_dir=str(tmp_path / "run"),
            num_train_epochs=2,
            per_device_train_batch_size=6,
            num_generations=2,
            max_completion_length=4,
            gradient_checkpointing=False,
            learning_rate=1e-3,
            beta=0.1,
            eval_strategy="no",
            eval_on_start=False,
            load_best_model_at_end=False,
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = ScoreGRPOTrainer(
            model=model,
            processing_class=processor,
            args=config,
            reward_funcs=[mriqa.reward.load("format"), by_length],
            train_dataset=policy_dataset(rows, answer_format),
            answer_format=answer_format,
        )
        trainer.train()
        return trainer.model.state_dict(), passes[0]

    plain, passes = trained("none")
    assert sum(passes) > 12
    cached, passes = trained(str(tmp_path / "cache"))
    assert sum(passes) == 6
    for name, weight in plain.items():
        assert (cached[name] - weight).abs().max() < 1e-4, name


def by_length(completions: list[Any], **_: Any) -> list[float]:
    return [len(completion[0]["content"]) / 10 for completion in completions]
