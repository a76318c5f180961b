"""A policy trainer on a random model and a few images of noise, quick enough to be trained in every test."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from mriqa.answers import load_format
from mriqa.models import load_vlm
from mriqa.policy.trainer import ScoreGRPOTrainer
from mriqa.training.config import ScoreGRPOConfig
from mriqa.training.training_sets import policy_dataset

FORMAT = load_format("non_thinking")


def by_text(completions: list[Any], **_: Any) -> list[float]:
    """A reward that tells any two completions apart."""
    return [zlib.crc32(completion[0]["content"].encode()) % 1000 / 1000 for completion in completions]


def make_trainer(
    model_path: Path, rows: list, folder: Path, cls: type = ScoreGRPOTrainer, rewards: Any = by_text, **options: Any
) -> Any:
    settings = {
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "num_generations": 2,
        "max_completion_length": 4,
        "gradient_checkpointing": False,
        "beta": 0.0,
        "learning_rate": 1e-2,
        "eval_strategy": "no",
        "eval_on_start": False,
        "load_best_model_at_end": False,
        "save_steps": 2,
        "disable_tqdm": True,
        **options,
    }
    comparison = settings.pop("comparison", "global")
    validation = settings.pop("validation", None)
    more = {name: settings.pop(name) for name in ("auxiliary", "peft_config") if name in settings}
    model, processor = load_vlm(model_path, device="cpu")
    return cls(
        model=model,
        processing_class=processor,
        args=ScoreGRPOConfig(output_dir=str(folder), **settings),
        reward_funcs=rewards if isinstance(rewards, list) else [rewards],
        train_dataset=policy_dataset(rows, FORMAT),
        eval_dataset=policy_dataset(rows, FORMAT) if validation else None,
        answer_format=FORMAT,
        comparison=comparison,
        validation=validation,
        **more,
    )
