"""Two processes, one image's group split between them: global rewards are those of one call on the whole set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mriqa.reward
from mriqa.manifest import write_manifest


def test_global_comparison_over_two_processes(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    manifest = rows[0].image.parent / "rows.jsonl"
    write_manifest(rows, manifest)
    script = Path(__file__).with_name("two_processes.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29517"]
    finished = subprocess.run(
        [*command, str(script), str(tiny_model), str(manifest), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    seen = json.loads((tmp_path / "seen.json").read_text())

    first, second = seen["global"]
    assert first["ids"][-1] == second["ids"][0], "the middle image's group is meant to be split"
    expected = direct_rewards(first, second)
    for process in (first, second):
        assert np.array(process["rewards"]) == pytest.approx(expected, abs=1e-6)
    assert expected[:, 0].max() > 0
    assert first["statistics"] == second["statistics"]
    assert first["statistics"]["score/parse_rate"] == pytest.approx(5 / 6)

    # Before training and after its one step; each process scored half of the images.
    whole = sum(row.mos + 0.1 * (int(row.id[1:]) % 2) for row in rows) / len(rows)
    for process in (first, second):
        assert process["eval_mean"] == pytest.approx([whole, whole])
    saved = {path.name for path in (tmp_path / "global" / "checkpoint-1").iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth", "model.safetensors", "mriqa.json"} <= saved

    first, second = seen["local"]
    expected = np.concatenate([direct_rewards(first), direct_rewards(second)])
    for process in (first, second):
        assert np.array(process["rewards"]) == pytest.approx(expected, abs=1e-6)
    assert not np.allclose(expected, direct_rewards(first, second))
    assert "on one process, but a process holds 3 completions" in seen["refused"]


def direct_rewards(*processes: dict[str, Any]) -> np.ndarray:
    """The rewards of these processes' completions taken together, (completions, 2)."""
    together = {
        name: [value for process in processes for value in process[name]] for name in ("ids", "mos", "std", "texts")
    }
    completions = [[{"role": "assistant", "content": text}] for text in together["texts"]]
    columns = {"image_id": together["ids"], "mos": together["mos"], "std": together["std"]}
    rewards = (mriqa.reward.load("margin"), mriqa.reward.load("regression", form="smooth"))
    return np.array([reward(completions=completions, **columns) for reward in rewards]).T
