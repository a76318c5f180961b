"""The recipes as modules, and what running them here wants."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate.state import AcceleratorState

os.environ.setdefault("HF_HUB_OFFLINE", "1")
RECIPES = Path(__file__).parents[2] / "recipes"
if str(RECIPES) not in sys.path:
    sys.path.insert(0, str(RECIPES))  # as Python does for the script it is asked to run


@pytest.fixture
def unshared_accelerator() -> Iterator[None]:
    """accelerate keeps one precision for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What recipes/compare_rewards.py starts as processes runs in this one instead, once for each."""
    import compare_rewards
    import mr_grpo

    def run(command: list[str], **_: object) -> SimpleNamespace:
        place = next(index for index, word in enumerate(command) if word.endswith("mr_grpo.py"))
        return SimpleNamespace(returncode=mr_grpo.main(command[place + 1 :]))

    monkeypatch.setattr(compare_rewards, "subprocess", SimpleNamespace(run=run, STDOUT=subprocess.STDOUT))
