"""What a policy trainer has to remember, beside its weights, to go on as if it had never stopped.

TRL samples a rollout once and trains on it for steps_per_generation × num_iterations batches. It keeps neither the
rollout nor its place in it in a checkpoint, so that a resumed run would sample anew, from other weights, in the middle
of a rollout. Here each process keeps its part of the rollout beside its random states. Between two rollouts there is
nothing to keep but the place, and the file is tiny: with save_steps × batches a step a multiple of
steps_per_generation × num_iterations it always is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

Batch = dict[str, Any]


def rollout_file(checkpoint: str | Path, process_index: int) -> Path:
    """Where a process keeps its part of the rollout in a checkpoint."""
    return Path(checkpoint, f"rollout_{process_index}.safetensors")


def save_rollout(file: str | Path, step: int, batches: Sequence[Batch]) -> None:
    """Write the batches of a rollout (tensors, or plain values as JSON has them) and the trainer's batch count."""
    tensors: dict[str, torch.Tensor] = {}
    plain: list[Batch] = []
    for index, batch in enumerate(batches):
        plain.append({})
        for name, value in batch.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}/{name}"] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            else:
                plain[-1][name] = value
    save_file(tensors, file, metadata={"step": str(step), "plain": json.dumps(plain)})


def load_rollout(file: str | Path, device: torch.device | str = "cpu") -> tuple[int, list[Batch]]:
    """The trainer's batch count and the batches that `save_rollout` wrote, their tensors on `device`."""
    with safe_open(file, framework="pt", device=str(device)) as stored:
        metadata = stored.metadata()
        batches: list[Batch] = json.loads(metadata["plain"])
        for key in stored.keys():  # noqa: SIM118  (no mapping)
            index, name = key.split("/", 1)
            batches[int(index)][name] = stored.get_tensor(key)
    return int(metadata["step"]), batches
