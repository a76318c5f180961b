"""The two sides of `grpo_step.py`: TRL's own GRPOTrainer and ours, on equal models, images and settings.

Both get a random Qwen3-VL of a given size from the same folder, the same prompts and pictures, and one set of TRL
options; `check_equal_settings` compares what became of these. Special tokens are never sampled, the end of an answer
among them, so that every completion has the same length on either side.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    PrinterCallback,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer

from mriqa.answers import load_format
from mriqa.embedded import build_tiny_qwen3_vl
from mriqa.embedded.contents import procedural_scenes, wheel_photographs
from mriqa.manifest import RatedImage
from mriqa.models import load_vlm
from mriqa.policy.trainer import ScoreGRPOTrainer
from mriqa.reward import load
from mriqa.training.config import ScoreGRPOConfig
from mriqa.training.training_sets import policy_dataset

CELL = 32  # pixels on a side that one image token stands for
FORMAT = load_format("thinking")

TINY = {  # `build_tiny_qwen3_vl` with twice its layers
    "text": {"num_hidden_layers": 4},
    "vision": {"num_position_embeddings": 256, "deepstack_visual_indexes": [0, 1]},
}
QWEN3_VL_2B = {  # as in the config.json of Qwen/Qwen3-VL-2B-Instruct
    "text": {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 262144,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [24, 20, 20],
            "mrope_interleaved": True,
        },
    },
    "vision": {
        "depth": 24,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_heads": 16,
        "out_hidden_size": 2048,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [5, 11, 17],
    },
}
SIZES: dict[str, dict[str, Any]] = {"tiny": TINY, "2b": QWEN3_VL_2B}


@dataclass(frozen=True)
class Setting:
    """One point of measurement."""

    group: int  # G, completions per prompt
    image_tokens: int  # of the prompt; a square number
    prompts: int = 2  # in a rollout, each with one image
    completion: int = 10  # tokens of each completion, C
    updates: int = 2  # optimiser steps on each rollout


def build_model(folder: Path, size: str) -> Path:
    """A random Qwen3-VL of that size with the tiny tokenizer, in `folder`; bfloat16 unless it is tiny."""
    build_tiny_qwen3_vl(folder, image_size=40 * CELL)  # pictures go in as large as they are
    small: Any = Qwen3VLConfig.from_pretrained(folder)
    text = {**small.text_config.to_dict(), **SIZES[size]["text"]}
    vision = {**small.vision_config.to_dict(), **SIZES[size]["vision"]}
    special = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        **{name: getattr(small, name) for name in special},
    )
    generation_config = GenerationConfig.from_pretrained(folder)
    torch.manual_seed(0)
    model: Any = Qwen3VLForConditionalGeneration(config)
    model.to(torch.float32 if size == "tiny" else torch.bfloat16)
    model.generation_config = generation_config
    model.save_pretrained(folder)
    return folder


def rated_images(folder: Path, image_tokens: int, count: int) -> list[RatedImage]:
    """Square pictures of `image_tokens` tokens: the photographs that installed packages carry, then drawn scenes."""
    side = round(image_tokens**0.5) * CELL
    contents = wheel_photographs()[:count]
    contents += procedural_scenes(count - len(contents), seed=0)
    rows = []
    for index, content in enumerate(contents):
        path = folder / f"{image_tokens}-{content.name}.png"
        if not path.exists():
            content.pristine(side).resize((side, side)).save(path)
        mos = 1.5 + 3.0 * index / max(1, count - 1)
        rows.append(RatedImage(image=path, mos=mos, std=0.5, dataset="bench", content=content.name, id=content.name))
    return rows


class Watch(TrainerCallback):
    """Times the loop of a call of `train`, from before the first batch is read to the end of the last update.

    Without an accelerator this is processor time, which leaves out what other programs do with the machine.
    """

    seconds = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._began = _now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds = _now() - self._began


def _now() -> float:
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def sides(model_folder: Path, setting: Setting, folder: Path) -> tuple[Any, Any]:
    """(Ours, TRL's own), each a trainer that makes one rollout and its updates in a call of `train`."""
    cuda = torch.cuda.is_available()
    rows = rated_images(folder, setting.image_tokens, setting.prompts)
    classes: list[tuple[Any, Any, dict[str, Any]]] = [
        (ScoreGRPOTrainer, ScoreGRPOConfig, {"answer_format": FORMAT}),
        (GRPOTrainer, GRPOConfig, {}),
    ]
    trainers: list[Any] = []
    for trainer_class, config_class, own_arguments in classes:
        model, processor = load_vlm(model_folder, device="cuda" if cuda else "cpu")
        options = {
            "output_dir": str(folder / "run"),
            "num_generations": setting.group,
            "per_device_train_batch_size": setting.group * setting.prompts,
            "num_iterations": setting.updates,
            "num_train_epochs": 1,
            "max_steps": setting.updates,
            "max_completion_length": setting.completion,
            "generation_kwargs": {"suppress_tokens": processor.tokenizer.all_special_ids},
            "temperature": 0.7,
            "beta": 0.02,
            "epsilon": 0.2,
            "learning_rate": 1e-6,
            "loss_type": "grpo",
            "gradient_checkpointing": False,
            "bf16": model.dtype == torch.bfloat16,
            "use_cpu": not cuda,
            "save_strategy": "no",
            "eval_strategy": "no",
            "eval_on_start": False,
            "load_best_model_at_end": False,
            "logging_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        }
        trainer = trainer_class(
            model=model,
            processing_class=processor,
            args=config_class(**options),
            reward_funcs=[load("margin", answer_format=FORMAT), load("format", answer_format=FORMAT)],
            train_dataset=policy_dataset(rows, FORMAT),
            **own_arguments,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.watch = Watch()
        trainer.add_callback(trainer.watch)
        trainers.append(trainer)
    check_equal_settings(*(trainer.args for trainer in trainers))
    return trainers[0], trainers[1]


VALIDATION_ONLY = {"num_generations_eval", "metric_for_best_model", "greater_is_better", "eval_steps"}
HOUSEKEEPING = {"output_dir", "logging_dir", "save_steps", "save_total_limit", "logging_steps"}


def check_equal_settings(ours: ScoreGRPOConfig, stock: GRPOConfig) -> None:
    """RuntimeError unless TRL's options are equal on both sides, but for what neither of them does."""
    names = {option.name for option in dataclasses.fields(stock)} - VALIDATION_ONLY - HOUSEKEEPING
    if different := sorted(name for name in names if getattr(ours, name) != getattr(stock, name)):
        raise RuntimeError(f"The two sides differ in {', '.join(different)}.")


def step_seconds(trainer: Any) -> float:
    """Seconds of one whole step: rollout, rewards, old and reference pass, and all updates."""
    trainer.train()
    return trainer.watch.seconds


def last_rollout(stock: Any) -> dict[str, Any]:
    """The last rollout of TRL's own trainer, its advantages drawn at random: a random model's rewards are all alike."""
    (rollout,) = stock._buffered_inputs
    drawn = torch.randn(rollout["advantages"].shape, generator=torch.Generator().manual_seed(1))
    return {**rollout, "advantages": drawn.to(rollout["advantages"].device)}


@torch.no_grad()
def move_weights(ours: Any, stock: Any) -> None:
    """Equal weights for both models, a little off the reference, so that probability ratio and KL term are at work."""
    generator = torch.Generator().manual_seed(2)
    for own, other in zip(ours.parameters(), stock.parameters(), strict=True):
        step = torch.randn(own.shape, generator=generator).to(own)
        own.copy_(other + 0.05 * other.std(unbiased=False) * step)
        other.copy_(own)


def saved_tensors(model: Any) -> tuple[dict[int, torch.Tensor], Any]:
    """(Tensors saved for backward by storage, the context that collects them); the model's weights don't count."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage().data_ptr()
        if storage not in weights:
            kept[storage] = tensor  # held, so that no other tensor gets the same address
        return tensor

    return kept, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)


def update_once(trainer: Any, rollout: dict[str, Any]) -> tuple[float, int, dict[str, torch.Tensor]]:
    """(Loss, bytes saved for backward, gradients by name) of one update on a rollout."""
    trainer.current_gradient_accumulation_steps = 1
    kept, collecting = saved_tensors(trainer.model)
    with collecting, trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model, rollout, num_items_in_batch=rollout["completion_mask"].sum())
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    kept.clear()
    loss.backward()
    gradients = {name: each.grad for name, each in trainer.model.named_parameters() if each.grad is not None}
    trainer.model.zero_grad()
    return loss.item(), size, gradients
