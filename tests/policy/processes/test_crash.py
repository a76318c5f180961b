"""Kill -9 and resume: the model at the end is, bit for bit, that of a run which was never killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_policy import make_trainer
from tiny_qwen2_5_vl import build_tiny_qwen2_5_vl

from mriqa.errors import SettingsError
from mriqa.manifest import write_manifest
from mriqa.policy.checkpoints import CheckpointError, find_checkpoint, restore_replaced
from mriqa.policy.validation import Validation

REWARD = """
import zlib

def by_text(completions, image_id, **_):
    return [zlib.crc32((c[0]["content"] + i).encode()) % 1000 / 1000 for c, i in zip(completions, image_id)]
"""


@pytest.fixture(scope="session")
def tiny_models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = build_tiny_qwen2_5_vl(tmp_path_factory.mktemp("tiny") / "qwen2_5_vl", tiny_model)
    return {"qwen3_vl": tiny_model, "qwen2_5_vl": folder}


@pytest.fixture
def options(rows: list, tmp_path: Path) -> list[str]:
    """Two updates on each rollout of two images, six an epoch; checkpoints between two rollouts and within one.

    The fourteen steps end within an epoch.
    """
    manifest = rows[0].image.parent / "rows.jsonl"
    write_manifest(rows, manifest)
    plugin = tmp_path / "reward.py"
    plugin.write_text(REWARD)
    settings = {
        "train_manifest": manifest,
        "val_manifest": manifest,
        "leaks": "allow",
        "reward": f"{plugin}:by_text",
        "num_generations": 2,
        "steps_per_generation": 2,
        "gradient_accumulation_steps": 1,
        "max_steps": 14,
        "max_completion_length": 4,
        "gradient_checkpointing": False,
        "preflight": "off",
        "beta": 0.02,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "cosine",
        "eval_steps": 3,
        "save_steps": 3,
        "save_total_limit": 2,
        "val_readout": "expected",
        "disable_tqdm": True,
        "resume_from_checkpoint": "auto",
    }
    return [str(part) for name, value in settings.items() for part in (f"--{name}", value)]


LORA = ["--lora_r", "2", "--lora_dropout", "0.1"]
HEAD = ["--aux", "conord", "--aux_schedule", "linear", "--aux_gather"]
MOMENTS: list[dict[str, float]] = [{"step": 11}, {"change": 40}]
MORE: list[dict[str, float]] = [{"change": 20}, {"change": 30}]


@pytest.mark.parametrize(
    ("family", "extra", "processes", "moments"),
    [
        pytest.param("qwen3_vl", [], 1, [*MOMENTS, *MORE], id="qwen3_vl"),
        pytest.param("qwen2_5_vl", LORA, 1, MOMENTS, id="qwen2_5_vl-lora"),
        pytest.param("qwen3_vl", LORA, 2, MOMENTS, id="qwen3_vl-lora-two_processes"),
        pytest.param("qwen2_5_vl", [], 2, MOMENTS, id="qwen2_5_vl-two_processes"),
        pytest.param("qwen3_vl", [*LORA, *HEAD], 2, MOMENTS, id="qwen3_vl-lora-head-two_processes"),
    ],
)
def test_killed_runs_end_with_the_same_weights(
    tiny_models: dict[str, Path],
    options: list[str],
    tmp_path: Path,
    family: str,
    extra: list[str],
    processes: int,
    moments: list[dict[str, float]],
) -> None:
    batch = ["--per_device_train_batch_size", str(2 // processes)]
    argv = [*options, *batch, "--model", str(tiny_models[family]), *extra, "--output_dir"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    plan = [
        {"argv": [*argv, str(whole)], "processes": processes, "kill": None},
        *({"argv": [*argv, str(killed)], "processes": processes, "kill": moment} for moment in moments),
        {"argv": [*argv, str(killed)], "processes": processes, "kill": None},
    ]
    carry_out(plan, tmp_path)
    for folder in ("model", "checkpoint-14"):  # the best one, and the last one
        same_weights(whole / folder, killed / folder, tiny_models[family])
        if "--aux" in extra:
            same_head(whole / folder, killed / folder)


@pytest.mark.skipif(
    "MRIQA_TEST_DEEPSPEED" not in os.environ, reason="MRIQA_TEST_DEEPSPEED=1 runs it: it compiles first"
)
@pytest.mark.parametrize(
    ("family", "extra"), [("qwen3_vl", []), ("qwen2_5_vl", LORA)], ids=["qwen3_vl", "qwen2_5_vl-lora"]
)
def test_killed_runs_under_zero2_end_with_the_same_weights(
    tiny_models: dict[str, Path],
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    extra: list[str],
) -> None:
    pytest.importorskip("deepspeed")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    settings = dict.fromkeys(("train_micro_batch_size_per_gpu", "gradient_accumulation_steps"), "auto")
    (tmp_path / "zero2.json").write_text(json.dumps({"zero_optimization": {"stage": 2}, **settings}))
    options = [*options, "--deepspeed", str(tmp_path / "zero2.json")]
    test_killed_runs_end_with_the_same_weights(tiny_models, options, tmp_path, family, extra, 2, MOMENTS)


def carry_out(plan: list[dict[str, Any]], folder: Path) -> None:
    (folder / "plan.json").write_text(json.dumps(plan))
    script = Path(__file__).with_name("crash_runs.py")
    finished = subprocess.run(
        [sys.executable, str(script), str(folder / "plan.json"), str(folder / "results.json")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    results = json.loads((folder / "results.json").read_text())
    for run, result in zip(plan, results, strict=True):
        if run["kill"]:  # where process 0 is gone, another one may fail by itself before it is killed too
            assert result["statuses"][0] == -signal.SIGKILL, finished.stderr[-3000:]
        else:
            assert set(result["statuses"]) == {0}, finished.stderr[-3000:]


def same_weights(expected_dir: Path, found_dir: Path, initial_dir: Path) -> None:
    (file,) = expected_dir.glob("*model.safetensors")
    expected, found = load_file(file), load_file(found_dir / file.name)
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        assert torch.equal(weight, found[name]), name
    if file.name == "model.safetensors":
        initial = load_file(initial_dir / file.name)
        assert any(not torch.equal(weight, expected[name]) for name, weight in initial.items())
    else:
        assert any("lora_B" in name and weight.abs().max() > 0 for name, weight in expected.items())


def same_head(expected_dir: Path, found_dir: Path) -> None:
    """The head in a checkpoint with the state of its optimiser, or in a final model with its index."""

    def parts(folder: Path) -> list[dict[str, torch.Tensor]]:
        files = [*folder.glob("auxiliary.safetensors"), *sorted(folder.glob("conord/*.safetensors"))]
        return [load_file(file) for file in files]

    assert len(parts(expected_dir)) == (1 if expected_dir.name.startswith("checkpoint") else 2)
    for expected, found in zip(parts(expected_dir), parts(found_dir), strict=True):
        assert expected.keys() == found.keys()
        assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_run_killed_after_its_last_step_trains_no_further(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    """An epoch has three steps, and the run ends after two."""
    make_trainer(tiny_model, rows, tmp_path, max_steps=2, save_steps=2).train()
    resumed = make_trainer(tiny_model, rows, tmp_path, max_steps=2, save_steps=2)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.state.global_step == 2
    saved = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert all(torch.equal(weight, resumed.model.state_dict()[name]) for name, weight in saved.items())


def test_only_whole_checkpoints_are_resumed_from(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    make_trainer(tiny_model, rows, tmp_path, save_steps=1).train()
    assert find_checkpoint(tmp_path, "auto") == str(tmp_path / "checkpoint-2")
    weights = tmp_path / "checkpoint-2" / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1)
    assert find_checkpoint(tmp_path, "auto") == str(tmp_path / "checkpoint-1")
    with pytest.raises(CheckpointError, match="checkpoint-2 .model.safetensors is missing or cut off"):
        find_checkpoint(tmp_path, str(tmp_path / "checkpoint-2"))
    (tmp_path / "checkpoint-1" / "contents.json").write_text('{"model.safe')
    assert find_checkpoint(tmp_path, "auto") is None


def test_a_folder_is_not_lost_between_two_renames(tmp_path: Path) -> None:
    """The process died after it had moved the old model away, or after the new one was in its place."""
    old = tmp_path / ".replaced" / "model"
    old.mkdir(parents=True)
    (old / "weights").write_text("old")
    restore_replaced(tmp_path)
    assert (tmp_path / "model" / "weights").read_text() == "old"

    old.mkdir()
    (old / "weights").write_text("older")
    restore_replaced(tmp_path)
    assert (tmp_path / "model" / "weights").read_text() == "old" and not old.exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_pickled_code_in_a_checkpoint_is_refused(tiny_model: Path, rows: list, tmp_path: Path, name: str) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "harm",)

    make_trainer(tiny_model, rows, tmp_path, max_steps=1, save_steps=1).train()
    torch.save({"state": Harmful()}, tmp_path / "checkpoint-1" / name)
    resumed = make_trainer(tiny_model, rows, tmp_path, max_steps=2, save_steps=2)
    with pytest.raises(CheckpointError, match="checkpoint-1 holds something else than tensors.*was not loaded"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert not (tmp_path / "harm").exists()


def test_a_moved_run_still_ends_with_its_best_checkpoint(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    values = iter([0.9, 0.1, 0.2])
    settings = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_steps": 1,
        "load_best_model_at_end": True,
        "validation": Validation(rows, lambda *_: [row.mos for row in rows], {"srcc": lambda *_: next(values)}),
    }
    make_trainer(tiny_model, rows, here, max_steps=2, **settings).train()
    here.rename(there)
    resumed = make_trainer(tiny_model, rows, there, max_steps=3, **settings)
    resumed.train(resume_from_checkpoint=find_checkpoint(there, "auto"))
    assert resumed.state.best_model_checkpoint == str(there / "checkpoint-1")
    best = load_file(there / "checkpoint-1" / "model.safetensors")
    assert all(torch.equal(weight, resumed.model.state_dict()[name]) for name, weight in best.items())


def test_the_reference_that_no_checkpoint_holds_is_not_resumed(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    options = {"beta": 0.02, "sync_ref_model": True, "ref_model_sync_steps": 1, "save_steps": 1}
    make_trainer(tiny_model, rows, tmp_path, max_steps=1, **options).train()
    with pytest.raises(SettingsError, match="sync_ref_model"):
        make_trainer(tiny_model, rows, tmp_path, **options).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
