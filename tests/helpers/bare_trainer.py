"""TRL's loss on a model and a ready batch, without data set, tokenizer and rollout."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from trl.trainer.utils import add_fused_lm_head

from mriqa.policy.trainer import ScoreGRPOTrainer
from mriqa.shared_prefix import core_of

TEMPERATURE = 0.7


def bare(
    cls: type,
    model: Any,
    beta: float = 0.04,
    steps: int = 1,
    accelerator: Any = None,
    head_temperature: float = TEMPERATURE,
    logps_temperature: float | None = None,
) -> Any:
    """A trainer of class `cls` with what the loss needs and no more; `model` gets TRL's fused head once.

    `head_temperature` is that of TRL's head, which divides logits by it whatever the trainer's.
    """
    core = core_of(model)
    if "forward" not in vars(core):
        add_fused_lm_head(core, temperature=head_temperature, outputs=("log_probs", "entropy"))
    trainer = object.__new__(cls)
    settings = {
        "model": model,
        "args": SimpleNamespace(
            shared_prefix=True,
            delta=None,
            use_bias_correction_kl=False,
            steps_per_generation=steps,
            loss_type="grpo",
            logps_temperature=logps_temperature,
        ),
        "accelerator": accelerator or Accelerator(cpu=True),
        "temperature": TEMPERATURE,
        "beta": beta,
        "loss_type": "grpo",
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "importance_sampling_level": "token",
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "aux_loss_enabled": False,
        "tools": [],
        "use_vllm": False,
        "current_gradient_accumulation_steps": 1,
        "num_iterations": 1,
        "_entropy_bonus_enabled": True,
        "entropy_coef": 0.01,
        "use_adaptive_entropy": False,
        "_metrics": {"train": defaultdict(list), "eval": defaultdict(list)},
        "_step": 0,
        "_buffered_inputs": None,
        "_group_B": None,
        "head": None,
        "guard": SimpleNamespace(saw=lambda *_: None),
        "why_not_shared": None,
    }
    for name, value in settings.items():
        setattr(trainer, name, value)
    if cls is ScoreGRPOTrainer:
        trainer.environment_factories, trainer.rollout_func, trainer._is_vlm = None, None, True
        trainer.why_not_shared = trainer._why_not_shared()
    return trainer


def rollout(prompts: dict[str, Any], completions_NGC: torch.Tensor, mask_NGC: torch.Tensor) -> dict[str, Any]:
    """TRL's batch of these completions: a row for each, prompt and image repeated as the processor flattens them."""
    n_prompts, group, length = completions_NGC.shape
    rows = torch.arange(n_prompts).repeat_interleave(group)
    generator = torch.Generator().manual_seed(5)
    batch = {
        "prompt_ids": prompts["input_ids"][rows],
        "prompt_mask": prompts["attention_mask"][rows],
        "completion_ids": completions_NGC.flatten(0, 1),
        "completion_mask": mask_NGC.flatten(0, 1),
        "advantages": torch.randn(len(rows), generator=generator),
        "old_per_token_logps": -3 * torch.rand(len(rows), length, generator=generator),
        "ref_per_token_logps": -3 * torch.rand(len(rows), length, generator=generator),
        "num_items_in_batch": mask_NGC.sum(),
        "num_images": [1] * len(rows),
    }
    if "image_grid_thw" in prompts:
        sizes = prompts["image_grid_thw"].prod(-1).tolist()
        pixels = prompts["pixel_values"].split(sizes)
        batch["pixel_values"] = torch.cat([pixels[row] for row in rows])
        batch["image_grid_thw"] = prompts["image_grid_thw"][rows]
        types = prompts["mm_token_type_ids"][rows]
        batch["mm_token_type_ids"] = torch.cat([types, types.new_zeros(len(rows), length)], dim=1)
    else:
        batch["pixel_values"] = prompts["pixel_values"][rows]
    if "pixel_attention_mask" in prompts:
        batch["pixel_attention_mask"] = prompts["pixel_attention_mask"][rows]
    return batch
