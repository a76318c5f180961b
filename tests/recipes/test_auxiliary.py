"""--aux in recipes/mr_grpo.py on a random Qwen3-VL: what it trains and saves, and that weight 0 is no head at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mr_grpo
import pytest
import torch
from safetensors.torch import load_file

import mriqa
from mriqa.heads.neighbour_head import HeadScorer
from mriqa.manifest import read_manifest


def options(tiny_model: Path, manifest: Path, output: Path, *more: str) -> list[str]:
    settings: dict[str, Any] = {
        "model": tiny_model,
        "train_manifest": manifest,
        "output_dir": output,
        "num_generations": 2,
        "per_device_train_batch_size": 4,
        "max_completion_length": 4,
        "max_steps": 3,
        "learning_rate": 1e-2,
        "gradient_checkpointing": False,
        "preflight": "off",
        "beta": 0.0,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "disable_tqdm": True,
    }
    return [str(part) for name, value in settings.items() for part in (f"--{name}", value)] + list(more)


def trained(tiny_model: Path, manifest: Path, output: Path, *more: str) -> dict[str, torch.Tensor]:
    assert mr_grpo.main(options(tiny_model, manifest, output, *more)) == 0
    return load_file(output / "model" / "model.safetensors")


def test_weight_0_is_no_head_and_a_head_is_saved_with_its_index(
    tiny_model: Path, manifest: Path, tmp_path: Path
) -> None:
    plain = trained(tiny_model, manifest, tmp_path / "plain")
    without = trained(tiny_model, manifest, tmp_path / "zero", "--aux", "conord", "--aux-weight", "0")
    joint = trained(tiny_model, manifest, tmp_path / "joint", "--aux", "conord", "--aux_weight", "0.5")
    assert all(torch.equal(weight, without[name]) for name, weight in plain.items())
    assert any(not torch.equal(weight, joint[name]) for name, weight in plain.items())
    for name in ("plain", "zero"):
        assert not (tmp_path / name / "model" / "conord").exists()
        history = json.loads((tmp_path / name / "training_log.json").read_text())["history"]
        assert not any(key.startswith("aux/") for entry in history for key in entry)

    rows = read_manifest(manifest)
    history = json.loads((tmp_path / "joint" / "training_log.json").read_text())["history"]
    assert sum("aux/loss" in entry for entry in history) == 3
    known = HeadScorer.load(tmp_path / "joint" / "model" / "conord")
    assert len(known.index) == len(rows)
    assert known.neighbours == 1, "of six images; each one's nearest neighbour is itself, in scoring as in training"
    scorer = mriqa.Scorer.from_pretrained(tmp_path / "joint" / "model", device="cpu", head="conord")
    scores = scorer.score([row.image for row in rows])
    assert [score.head_score for score in scores] == pytest.approx([row.mos for row in rows])


def test_a_lonely_picture_is_said_once(tiny_model: Path, manifest: Path, tmp_path: Path) -> None:
    argv = options(tiny_model, manifest, tmp_path, "--aux", "conord", "--per_device_train_batch_size", "2")
    with pytest.warns(UserWarning, match="one picture only .2 completions.* centre loss alone") as said:
        assert mr_grpo.main([*argv, "--max_steps", "1", "--gradient_accumulation_steps", "2"]) == 0
    assert sum("centre loss" in str(each.message) for each in said) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--aux", "center"], 'aux is "conord" or "none", not "center"'),
        (["--aux", "conord", "--aux_schedule", "step"], "aux_schedule is one of constant, linear, cosine"),
        (["--aux", "conord", "--aux-weight", "-1"], "aux_weight must be a finite number above 0"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    tiny_model: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture, wrong: list[str], said: str
) -> None:
    assert mr_grpo.main(options(tiny_model, manifest, tmp_path / "out", *wrong)) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
