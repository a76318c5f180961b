"""What a whole GRPO step costs beside TRL's own GRPOTrainer, and how the cost grows with completions and prompt.

    python benchmarks/grpo_step.py                  # under 5 minutes on a CPU core to itself
    python benchmarks/grpo_step.py --quick          # G = 6 and 16 only
    python benchmarks/grpo_step.py --size 2b        # Qwen3-VL-2B's own size, random weights, bfloat16; needs CUDA

A step is everything from one rollout to the next: sampling, rewards, the old and the reference policy's
log-probabilities, and all updates on that rollout. Both trainers run their own `train()`, in turn, with equal options
on equal models, pictures and rewards, after a step each to warm up. Completions have 10 tokens on either side, the
prompt 307, of which 196 are image. Costs are seconds of processor time in one thread, with CUDA seconds by the clock.

Three more things are compared, on the same completions: loss and gradients of one update, the bytes that it keeps for
backward (distinct storages, no weights), and with CUDA the peak memory of a step.

Legend: G completions per prompt, P prompt tokens, C tokens of a completion.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import argparse
import logging
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timing import Claim, in_turn, machine, parser, write

IMAGE_TOKENS = 196
GROUPS = (2, 4, 6, 8, 16, 32)
OTHER_IMAGE_TOKENS = (36, 100, 400)  # for the curve over P, at G = 6
STOCK = "TRL GRPOTrainer"
TOLERANCE = 1e-4  # relative, in float32
BFLOAT16_TOLERANCE = 0.05  # either side rounds to 3 digits at every layer


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a benchmark, the size of the model, and where the plot goes."""
    own = parser(__doc__)
    own.add_argument("--size", choices=("tiny", "2b"), default="tiny", help="size of the random Qwen3-VL")
    own.add_argument("--plot", type=Path, metavar="FILE", help="where to draw the curves, if at all")
    arguments = own.parse_args(argv)

    import torch

    if arguments.size == "2b" and not torch.cuda.is_available():
        own.error("--size 2b needs an accelerator with CUDA, and there is none here")
    return arguments


def measure(model_folder: Path, folder: Path, setting: Any, rounds: int) -> list[Claim]:
    """The claims of one point: whole step, activation memory, gradients, with CUDA also peak memory."""
    import torch
    from grpo_sides import last_rollout, move_weights, sides, step_seconds, update_once

    from mriqa.policy.prompt_groups import split_by_prompt

    ours, stock = sides(model_folder, setting, folder)
    for trainer in (ours, stock):
        step_seconds(trainer)  # warm-up
    rollout = last_rollout(stock)
    n_rows, prompt = rollout["prompt_ids"].shape
    settings = {
        "G": setting.group,
        "P": prompt,
        "C": rollout["completion_ids"].shape[1],
        "image_tokens": setting.image_tokens,
        "prompts": setting.prompts,
        "updates": setting.updates,
        "parameters": sum(parameter.numel() for parameter in ours.model.parameters()),
        "dtype": str(ours.model.dtype).removeprefix("torch."),
        "beta": ours.beta,
        "rounds": rounds,
        **machine(),
    }
    if int(rollout["completion_mask"].sum()) != n_rows * setting.completion:
        raise RuntimeError(f"Completions are not all {setting.completion} tokens long.")
    name = f"G={setting.group}, P={prompt}"
    limit = setting.group * (prompt + setting.completion) / (prompt + setting.group * setting.completion)

    # The same completions on both sides.
    move_weights(ours.model, stock.model)
    loss, size, gradients = update_once(ours, split_by_prompt(rollout, 1)[0])
    stock_loss, stock_size, stock_gradients = update_once(stock, rollout)
    squared = {key: each.double().square().sum() for key, each in stock_gradients.items()}
    apart = {key: (gradients[key] - each).double().square().sum() for key, each in stock_gradients.items()}
    difference = (sum(apart.values()) / sum(squared.values())).sqrt().item()
    worst = max((apart[key] / squared[key]).sqrt().item() for key in apart)
    agreement = {"loss": loss, "baseline_loss": stock_loss, "worst_parameter": worst}
    del gradients, stock_gradients

    # Whole steps, in turn.
    peaks: dict[str, list[float]] = {"ours": [], "stock": []}

    def steps(trainer: Any, side: str) -> list[float]:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        taken = step_seconds(trainer)
        if torch.cuda.is_available():
            peaks[side].append((torch.cuda.max_memory_allocated() - before) / 2**30)
        return [taken]

    own, other = in_turn(lambda: steps(ours, "ours"), lambda: steps(stock, "stock"), rounds)
    tokens = n_rows * setting.completion
    speed = {"tokens_per_s": tokens / own, "baseline_tokens_per_s": tokens / other, "ratio_by_token_count": limit}
    claims = [
        Claim(f"grpo_step/{name}", own, other, STOCK, "s", settings | speed),
        Claim(f"activation_memory/{name}", size / 2**20, stock_size / 2**20, STOCK, "MiB", settings),
    ]
    if peaks["ours"]:
        claims.append(Claim(f"peak_memory/{name}", max(peaks["ours"]), max(peaks["stock"]), STOCK, "GiB", settings))
    required = TOLERANCE if settings["dtype"] == "float32" else BFLOAT16_TOLERANCE
    claims.append(
        Claim(f"gradient_difference/{name}", difference, required, "required", "relative", settings | agreement)
    )
    return claims


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry."""
    arguments = parse_arguments(argv)
    warnings.filterwarnings("ignore")

    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("mriqa.reward").setLevel(logging.ERROR)  # a random model writes nothing that parses
    from grpo_sides import Setting, build_model

    rounds = {6: 2, 16: 1} if arguments.quick else dict.fromkeys(GROUPS, 3)
    if arguments.size == "2b":
        rounds.pop(32, None)  # TRL's activations would not fit into 140 GB
    points = [Setting(group, IMAGE_TOKENS) for group in rounds]
    points += [] if arguments.quick else [Setting(6, tokens) for tokens in OTHER_IMAGE_TOKENS]
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model_folder = build_model(folder / "model", arguments.size)
        for point in points:
            print(f"G={point.group}, {point.image_tokens} image tokens …", flush=True)
            found = measure(model_folder, folder, point, rounds[point.group])
            print("  " + "\n  ".join(map(str, found)), flush=True)
            claims += found
    write(claims, arguments.json)
    if arguments.plot is not None:
        from grpo_plot import draw

        draw(claims, arguments.plot)
        print(f"The curves are in {arguments.plot}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
