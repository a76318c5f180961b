"""How long an update takes, roughly: its operations over the speed at which this device multiplies matrices.

A token costs two operations a weight forward and twice as many backward (Kaplan et al., "Scaling Laws for Neural
Language Models", 2020, section 2.1); weights that aren't trained need no gradient of their own, and checkpointed layers
run forward once more. A step of sampling reads all weights for a few tokens, so there the memory's speed counts too.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from mriqa.training.preflight.model_shape import ModelShape
from mriqa.training.preflight.pass_shape import PassShape

SIDE = 768  # of the matrices that are multiplied to measure the speed


def seconds_of_update(shape: ModelShape, passes: PassShape, config: Any) -> float:
    """Seconds of one optimiser step, with its share of the rollout."""
    operations, bandwidth = device_speed(config)
    tower = shape.tower_parameters
    text = max(1, shape.parameters - tower)
    merged = 2 * tower * passes.patches  # of one picture
    share = shape.trained / max(1, shape.weights)
    forward = 2 * text * passes.rows * passes.tokens + merged * passes.images
    backward = (
        forward * (1 + min(1.0, share)) if shape.tower_trained else 2 * text * passes.rows * passes.tokens * (1 + share)
    )
    if config.gradient_checkpointing:
        backward += forward
    micro_batches = config.gradient_accumulation_steps
    reference = 1 if getattr(config, "beta", 0) else 0
    iterations = getattr(config, "num_iterations", 1) or 1
    old = 1 if iterations > 1 else 0
    total = micro_batches * (forward + backward + (reference + old) * forward / iterations)
    seconds = total / operations
    if passes.sampled:
        prompts = passes.sampled_images if passes.shared else passes.sampled
        prefill = 2 * text * prompts * passes.prompt_tokens + merged * passes.sampled_images
        token = max(2 * text * passes.sampled / operations, shape.weights / bandwidth)
        seconds += (prefill / operations + passes.completion * token) / iterations
    return seconds


def device_speed(config: Any) -> tuple[float, float]:
    """Operations a second of a matrix product, and bytes a second of a matrix times a vector, on this device."""
    device = torch.device("cuda" if torch.cuda.is_available() and not config.use_cpu else "cpu")
    dtype = torch.bfloat16 if config.bf16 else torch.float32
    matrix, vector = (
        torch.ones(SIDE, SIDE, device=device, dtype=dtype),
        torch.ones(16 * SIDE, device=device, dtype=dtype),
    )
    tall = torch.ones(16 * SIDE, SIDE, device=device, dtype=dtype)
    product = _seconds(lambda: matrix @ matrix, device)
    reading = _seconds(lambda: vector @ tall, device)
    return 2 * SIDE**3 / product, tall.nbytes / reading


def describe_seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _seconds(work: Any, device: torch.device, repeats: int = 3) -> float:
    """The fastest of a few calls, after one to warm up."""
    taken = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return max(min(taken[1:]), 1e-9)
