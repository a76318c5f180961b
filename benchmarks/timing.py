"""What every benchmark shares: its two options, its measurements side by side, and the form of its results.

The sides are measured in turn (ours, baseline, ours, baseline, …) after a warm-up of both, so that whatever else the
machine does meets them alike, and a claim compares their medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from mriqa.files import write_json


@dataclass(frozen=True)
class Claim:
    """One comparison. `ours` and `baseline` are costs in `unit`, the less the better."""

    name: str
    ours: float
    baseline: float
    baseline_name: str
    unit: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """How many times less ours costs."""
        return self.baseline / self.ours

    def __str__(self) -> str:
        costs = f"{self.ours:.4g} {self.unit} for {self.baseline:.4g} {self.unit} ({self.baseline_name})"
        return f"{self.name}: {costs}, ratio {self.ratio:.3g}"


def parser(description: str | None) -> argparse.ArgumentParser:
    """A command line with the options that every benchmark takes."""
    own = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    own.add_argument("--quick", action="store_true", help="fewer and smaller measurements, in less than 40 seconds")
    own.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    return own


def in_turn(ours: Callable[[], Sequence[float]], baseline: Callable[[], Sequence[float]], rounds: int) -> list[float]:
    """Medians [ours, baseline] of the costs that the two functions return, called in turn `rounds` times."""
    costs: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        costs[0].extend(ours())
        costs[1].extend(baseline())
    return [statistics.median(side) for side in costs]


def peak_bytes(work: Callable[[], object], on_cuda: bool = False) -> int:
    """Most bytes that torch holds at once while `work` runs, beyond those it holds before; on CUDA at a second run."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    if on_cuda:
        work()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    held = peak = 0
    for event in sorted(recorded.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()  # negative where it is given back
            peak = max(peak, held)
    return peak


def machine() -> dict[str, Any]:
    """What the figures depend on beside the settings."""
    import torch

    found: dict[str, Any] = {"date": date.today().isoformat(), "python": platform.python_version()}
    found |= {"torch": torch.__version__, "cpus": os.cpu_count(), "threads": torch.get_num_threads()}
    found["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return found


def write(claims: Sequence[Claim], path: Path | None) -> None:
    """Print the claims, and write them to `path`, where there is one, as a JSON list."""
    print("\n".join(map(str, claims)))
    if path is not None:
        write_json([{**asdict(claim), "ratio": claim.ratio} for claim in claims], path)
