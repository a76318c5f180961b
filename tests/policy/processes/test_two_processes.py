"""Two processes, one image's group split between them: rewards and advantages are the whole set's, in float64."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mriqa.answers import load_format
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

    for step, parse_rate in enumerate((5 / 6, 3 / 6)):
        first, second = (process["steps"][step] for process in seen["global"])
        assert first["ids"][-1] == second["ids"][0], "the middle image's group is meant to be split"
        expected = plain_rewards(first, second)
        assert expected[:, 0].max() > 0
        for process in (first, second):
            assert np.array(process["rewards"]) == pytest.approx(expected, abs=1e-6)
        advantages = np.concatenate([first["advantages"], second["advantages"]])
        assert advantages == pytest.approx(plain_advantages(expected.sum(axis=1)), abs=1e-4)
        assert first["statistics"] == second["statistics"]
        assert first["statistics"]["score/parse_rate"] == pytest.approx(parse_rate)

    # Before training and after both steps; one process scored three of the images, the other two.
    whole = sum(row.mos + 0.1 * (int(row.id[1:]) % 2) for row in rows[:5]) / 5
    for process in seen["global"]:
        assert process["eval_mean"] == pytest.approx([whole] * 3)
    saved = {path.name for path in (tmp_path / "global" / "checkpoint-2").iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth", "model.safetensors", "mriqa.json"} <= saved

    for step in (0, 1):
        first, second = (process["steps"][step] for process in seen["local"])
        expected = np.concatenate([plain_rewards(first), plain_rewards(second)])
        for process in (first, second):
            assert np.array(process["rewards"]) == pytest.approx(expected, abs=1e-6)
        if step == 0:  # afterwards the second process has no scores that could matter to the first
            assert not np.allclose(expected, plain_rewards(first, second))


def plain_rewards(*processes: dict[str, Any]) -> np.ndarray:
    """The rewards of these processes' completions taken together, (completions, 2), by loops over the definitions."""
    ids, mos, texts = ([value for each in processes for value in each[name]] for name in ("ids", "mos", "texts"))
    scores = [load_format("non_thinking").parse(text) for text in texts]
    means = {}
    for image in set(ids):
        parsed = [score for score, name in zip(scores, ids) if name == image and not math.isnan(score)]
        if parsed:
            means[image] = (math.fsum(parsed) / len(parsed), mos[ids.index(image)])
    rewards = []
    for score, image, truth in zip(scores, ids, mos):
        others = [values for name, values in means.items() if name != image]
        if math.isnan(score) or not others:
            margin = 0.0
        else:
            margin = math.fsum(math.exp(-(((score - s) - (truth - y)) ** 2) / 2) for s, y in others) / len(others)
        rewards.append((margin, 0.0 if math.isnan(score) else math.exp(-((score - truth) ** 2) / 2)))
    return np.array(rewards)


def plain_advantages(rewards: np.ndarray) -> np.ndarray:
    """TRL's: each reward less its group's mean, by the group's standard deviation; two completions a group."""
    groups = rewards.reshape(-1, 2)
    spread = groups.std(axis=1, ddof=1, keepdims=True) + 1e-4
    return ((groups - groups.mean(axis=1, keepdims=True)) / spread).ravel()
