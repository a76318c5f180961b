"""How long the rewards of one large comparison set take, beside a loop over all pairs of images.

    python benchmarks/rewards.py                    # 2,048 images × 8 completions, about two minutes
    python benchmarks/rewards.py --quick            # 256 images
    python benchmarks/rewards.py --json rewards.json

Ours is what TRL calls: `mriqa.reward.load(…)` with completions and columns, the parsing of the answers included. The
baseline is the loop by which the authors compute them, over every completion and every other image, here on plain
Python floats and reading the same answers. At full size it runs once, over all images. Costs are seconds of processor
time in one thread.

Legend: N images, G completions per image.
"""

from __future__ import annotations

import math
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

from timing import Claim, in_turn, machine, parser, write

from mriqa.answers import load_format

GROUP = 8
REWARDS = {
    "margin, unit": ("margin", {"scale": "unit"}),
    "margin, sigma": ("margin", {"scale": "sigma"}),
    "ranking": ("ranking", {}),
}


def comparison_set(n_images: int, seed: int = 0) -> dict[str, list[Any]]:
    """Completions and columns as TRL hands them to a reward; 1 answer in 50 doesn't parse, human scores tie."""
    draw, answer_format = random.Random(seed), load_format("non_thinking")
    columns: dict[str, list[Any]] = {"completions": [], "mos": [], "std": [], "image_id": []}
    for image in range(n_images):
        mos, std = round(draw.uniform(1.2, 4.8), 2), round(draw.uniform(0.3, 0.9), 2)
        for _ in range(GROUP):
            score = min(max(draw.gauss(mos, 0.5), 1.0), 5.0)
            text = answer_format.format(score) if draw.random() > 0.02 else "I cannot tell."
            columns["completions"].append([{"role": "assistant", "content": text}])
            columns["mos"].append(mos)
            columns["std"].append(std)
            columns["image_id"].append(f"image-{image}")
    return columns


def loop(name: str, columns: dict[str, list[Any]]) -> list[float]:
    """The same rewards by a loop over images i, completions k and partners j."""
    parse = load_format("non_thinking").parse
    scores = [parse(completion[0]["content"]) for completion in columns["completions"]]
    groups = [scores[start : start + GROUP] for start in range(0, len(scores), GROUP)]
    mos, std = columns["mos"][::GROUP], columns["std"][::GROUP]
    parsed = [[score for score in group if not math.isnan(score)] for group in groups]
    means = [statistics.fmean(group) for group in parsed]  # with this set, every image has two parsed answers
    variances = [statistics.variance(group) for group in parsed]

    def margin(i: int, score: float, j: int) -> float:
        tau = 1.0 if name == "margin, unit" else max(math.sqrt(std[i] ** 2 + std[j] ** 2), 1e-4)
        return math.exp(-0.5 * ((score - means[j] - (mos[i] - mos[j])) / tau) ** 2)

    def fidelity(i: int, score: float, j: int) -> float:
        z = (score - means[j]) / math.sqrt(variances[i] + variances[j] + 1e-6)
        p = 0.5 * (1.0 + math.erf(z / math.sqrt(2.0)))
        g = 1.0 if mos[i] > mos[j] else 0.0 if mos[i] < mos[j] else 0.5
        return math.sqrt(p * g + 1e-6) + math.sqrt((1.0 - p) * (1.0 - g) + 1e-6)

    agreement = fidelity if name == "ranking" else margin
    rewards = []
    for i, group in enumerate(groups):
        for score in group:
            total = 0.0
            if not math.isnan(score):
                for j in range(len(groups)):
                    if j != i:
                        total += agreement(i, score, j)
            rewards.append(total / (len(groups) - 1))
    return rewards


def seconds(work: Callable[[], Any], repeats: int = 1) -> list[float]:
    """Processor time of each call."""
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return taken


def measure(name: str, n_images: int, rounds: int) -> Claim:
    """One reward on `n_images` × 8 completions, ours called 5 times a round."""
    from mriqa.reward import load

    reward_name, options = REWARDS[name]
    reward: Any = load(reward_name, **options)
    columns = comparison_set(n_images)
    small = comparison_set(16)
    loop(name, small)
    ours = reward(**columns)  # both sides are warm now
    expected: list[float] = []

    def baseline() -> None:
        expected[:] = loop(name, columns)

    own, other = in_turn(lambda: seconds(lambda: reward(**columns), 5), lambda: seconds(baseline), rounds)
    tracemalloc.start()
    reward(**columns)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    settings = {
        "images": n_images,
        "completions": GROUP,
        "largest_difference": max(abs(a - b) for a, b in zip(ours, expected, strict=True)),
        "peak_mib": round(peak / 2**20, 2),
        "all_pairs_at_once_mib": n_images**2 * GROUP * 8 / 2**20,
        **machine(),
    }
    return Claim(f"rewards/{name}", own, other, "the authors' loop over pairs", "s", settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry."""
    arguments = parser(__doc__).parse_args(argv)

    import torch

    torch.set_num_threads(1)
    n_images, rounds = (256, 2) if arguments.quick else (2048, 1)
    claims = []
    for name in REWARDS:
        print(f"{name}: {n_images} images × {GROUP} completions …", flush=True)
        claims.append(measure(name, n_images, rounds))
    write(claims, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
