"""Whether a run fits: the estimate beside the memory that there is, and how long an update takes, roughly."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import torch

from mriqa.training.preflight.findings import Finding, left_out, passed, problem
from mriqa.training.preflight.memory_estimate import gib
from mriqa.training.preflight.planned_run import PlannedRun
from mriqa.training.preflight.step_time import describe_seconds, seconds_of_update

CGROUP = Path("/sys/fs/cgroup")
CUDA_CONTEXT = 1 << 29  # bytes that CUDA's own libraries take on a card


def check_memory(run: PlannedRun) -> Finding:
    """The estimate of `memory_estimate` against the memory of the device."""
    if getattr(run.config, "deepspeed", None) or getattr(run.config, "fsdp", None):
        return left_out("The processes share weights or optimiser (DeepSpeed, FSDP), which the estimate doesn't know.")
    on_cpu = run.config.use_cpu
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if on_cpu else 1
    needed, room = run.memory.peak * processes, room_on_cpu() if on_cpu else room_on_card()
    where = "of memory" if on_cpu else "on the card"
    if room is None:
        return left_out(f"About {run.memory}; how much this accelerator has is not known.")
    if needed > room:
        each = f" for each of {processes} processes" if processes > 1 else ""
        return problem(
            f"The run needs about {run.memory}{each}, and {gib(room)} {where} are available: divide "
            "per_device_train_batch_size and multiply gradient_accumulation_steps, set --gradient_checkpointing true, "
            "lower --max_pixels, or train with LoRA (--lora_r 64) or in --dtype bfloat16."
        )
    return passed(f"About {run.memory}, {gib(room)} {where} available.")


def check_time(run: PlannedRun) -> Finding:
    """How long an update takes, from the operations it costs and how fast this device multiplies matrices."""
    seconds = seconds_of_update(run.shape, run.passes, run.config)
    return passed(f"About {describe_seconds(seconds)} for an update, rollout included; a rough figure, from shapes.")


def room_on_cpu() -> int:
    """Bytes that this process may still take: what the machine has available, or its control group leaves."""
    room = psutil.virtual_memory().available
    try:
        limit, used, statistics = (
            (CGROUP / name).read_text() for name in ("memory.max", "memory.current", "memory.stat")
        )
        cached = next(line.split()[1] for line in statistics.splitlines() if line.startswith("inactive_file "))
        return min(room, max(0, int(limit) - int(used) + int(cached)))
    except (OSError, ValueError, StopIteration):  # no control group, or one without a limit ("max")
        return room


def room_on_card() -> int | None:
    """Bytes that are free on the current card, None where the accelerator doesn't say."""
    if not torch.cuda.is_available():
        return None
    return torch.cuda.mem_get_info()[0] - CUDA_CONTEXT
