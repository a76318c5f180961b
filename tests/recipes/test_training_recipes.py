"""The two recipes end to end on a random Qwen3-VL, and the one sentence that each hostile input gets."""

from __future__ import annotations

import json
from pathlib import Path

import mr_grpo
import pytest
import sft

from mriqa.answers import load_format
from mriqa.models import save_scoring_settings

QUICK = [
    "--max_steps", "2",
    "--per_device_train_batch_size", "4",
    "--gradient_checkpointing", "false",
    "--preflight", "off",  # its own tests run it
    "--eval_steps", "1",
    "--save_steps", "1",
]  # fmt: skip
ROLLOUT = ["--num_generations", "2", "--max_completion_length", "4"]


@pytest.fixture
def common(tiny_model: Path, manifest: Path, tmp_path: Path) -> list[str]:
    data = ["--train_manifest", str(manifest), "--val_manifest", str(manifest), "--leaks", "allow"]
    return [
        "--model",
        str(tiny_model),
        *data,
        "--output_dir",
        str(tmp_path / "run"),
        *QUICK,
        "--vision_cache",
        str(tmp_path / "cache"),
    ]


def test_warm_start_then_policy_training(common: list[str], tmp_path: Path) -> None:
    from mriqa.scoring.scorer import Scorer

    assert sft.main([*common, "--target", "sampled", "--learning_rate", "1e-3", "--val_readout", "expected"]) == 0
    warm = tmp_path / "run" / "model"
    save_scoring_settings(warm, load_format("non_thinking"), {"limit": 80})

    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "def shorter(completions, **columns):\n    return [-float(len(c[0]['content'])) for c in completions]\n"
    )
    second = str(tmp_path / "second")
    options = [
        *common,
        *ROLLOUT,
        "--model",
        str(warm),
        "--output_dir",
        second,
        "--freeze_vision",
        "--val_readout",
        "expected",
    ]
    rewards = ["--reward", "margin", f"{plugin}:shorter", "--reward_weights", "1", "0.1", "--max_pixels", "4096"]
    assert mr_grpo.main([*options, *rewards]) == 0

    log = json.loads((tmp_path / "second" / "training_log.json").read_text())
    assert log["steps"] == 2
    assert any("rewards/shorter/mean" in entry for entry in log["history"])
    assert sum("eval_srcc" in entry for entry in log["history"]) == 3
    assert (tmp_path / "second" / "resolved_config.yaml").is_file()
    model = tmp_path / "second" / "model"
    assert Scorer.from_pretrained(model).views.limit == 80  # handed on from the model that training began with
    assert len(Scorer.from_pretrained(model).score([next((tmp_path.parent).rglob("0.png"))])) == 1
    preprocessor = "".join(path.read_text() for path in model.glob("*processor_config.json"))
    assert '"longest_edge": 4096' in preprocessor

    # A second start into the same folder is refused, resuming with more steps goes on.
    assert mr_grpo.main([*options, *rewards]) == 2
    more = [*options, *rewards, "--max_steps", "3", "--resume_from_checkpoint", "auto"]
    assert mr_grpo.main(more) == 0
    assert json.loads((tmp_path / "second" / "training_log.json").read_text())["steps"] == 3


def test_lora_saves_an_adapter_that_scores(common: list[str], manifest: Path, tmp_path: Path) -> None:
    from mriqa.scoring.scorer import Scorer

    lora = ["--lora_r", "2", "--freeze_vision", "--beta", "0.02", "--max_steps", "1", "--eval_on_start", "false"]
    assert mr_grpo.main([*common, *ROLLOUT, *lora]) == 0
    model = tmp_path / "run" / "model"
    assert (model / "adapter_model.safetensors").is_file() and not (model / "model.safetensors").exists()
    assert len(Scorer.from_pretrained(model).score([manifest.parent / "0.png"])) == 1


def test_exact_estimator(common: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exact = ["--estimator", "exact", "--num_generations", "2", "--freeze_vision"]
    assert mr_grpo.main([*common, *exact, "--reward", "margin", "regression", "--reward_weights", "1", "0.5"]) == 0
    log = json.loads((tmp_path / "run" / "training_log.json").read_text())
    assert sum("score/entropy" in entry for entry in log["history"]) == 2
    assert list((tmp_path / "cache").rglob("*.safetensors"))
    for options, sentence in (
        ([*exact, "--estimator", "exactly"], 'estimator is "sampled" or "exact", not "exactly"'),
        ([*exact, "--prompt_mode", "thinking", "--overwrite"], "think first; use --estimator sampled"),
    ):
        assert mr_grpo.main([*common, *options]) == 2
        assert sentence in capsys.readouterr().err


def write_rows(path: Path, images: list[str], scores: list[float]) -> str:
    lines = [json.dumps({"image": image, "mos": mos}) for image, mos in zip(images, scores, strict=True)]
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--num_generations", "1"], "num_generations is 1"),
        (["--num_generations", "3"], "doesn't divide"),
        (["--per_device_train_batch_size", "16"], "6 images but one rollout needs 8"),
        (["--num_generations", "4", "--comparison", "local", "--per_device_train_batch_size", "6"], "divi"),
        (["--reward", "margins"], "margins"),
        (["--reward", "nowhere.py:reward"], "nowhere.py"),
        (["--reward_options", '{"margin": {"scale": "sigmoid"}}'], "sigmoid"),
        (["--reward_options", "scale=unit"], "not JSON"),
        (["--prompt_mode", "shouting"], "shouting"),
        (["--train_manifest", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--model", "/nowhere/model"], "/nowhere/model"),
        (["--resume_from_checkpoint", "/nowhere/checkpoint-1"], "/nowhere/checkpoint-1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_hostile_settings(
    options: list[str], sentence: str, common: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert mr_grpo.main([*common, *ROLLOUT, *options]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and sentence in error
    assert not list((tmp_path).rglob("checkpoint-*"))


def test_vllm_that_is_not_installed(
    common: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mr_grpo, "find_spec", lambda name: None)
    assert mr_grpo.main([*common, *ROLLOUT, "--use_vllm", "--vllm_mode", "colocate"]) == 2
    assert "mriqa[vllm]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "same", "sentence"),
    [(0, False, "empty|no image|no row|holds no"), (1, False, "one image only"), (6, True, "same score")],
)
def test_hostile_manifests(
    count: int,
    same: bool,
    sentence: str,
    common: list[str],
    manifest: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import re

    images = [str(manifest.parent / f"{index}.png") for index in range(count)]
    path = write_rows(tmp_path / "rows.jsonl", images, [3.0 if same else 2.0 + index / 4 for index in range(count)])
    assert mr_grpo.main([*common, *ROLLOUT, "--train_manifest", path, "--image_root", "/"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(sentence, error), error
    assert not (tmp_path / "run").exists()


def test_corrupt_image_is_named(
    common: list[str], manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = []
    for index in range(4):
        images.append(str(tmp_path / f"{index}.png"))
        Path(images[-1]).write_bytes((manifest.parent / f"{index}.png").read_bytes())
    Path(images[2]).write_bytes(Path(images[2]).read_bytes()[:500])
    path = write_rows(tmp_path / "rows.jsonl", [Path(image).name for image in images], [1.0, 2.0, 3.0, 4.0])
    assert mr_grpo.main([*common, *ROLLOUT, "--train_manifest", path]) == 2
    assert "2.png" in capsys.readouterr().err
    assert mr_grpo.main([*common, *ROLLOUT, "--train_manifest", path, "--on_bad_row", "skip"]) == 0
    assert "2.png" in (tmp_path / "rows.jsonl.rejects.jsonl").read_text()


def test_earlier_results_are_not_overwritten(
    common: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    precious = tmp_path / "run" / "precious.txt"
    precious.write_text("kept")
    assert mr_grpo.main([*common, *ROLLOUT]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert mr_grpo.main([*common, *ROLLOUT, "--overwrite"]) == 2  # no run of ours: not to be deleted
    assert "something else than an earlier run" in capsys.readouterr().err

    (tmp_path / "run" / "resolved_config.yaml").touch()
    (tmp_path / "run" / "checkpoint-7").mkdir()
    assert (
        mr_grpo.main(
            [
                *common,
                *ROLLOUT,
                "--overwrite",
                "--max_steps",
                "1",
                "--eval_strategy",
                "no",
                "--load_best_model_at_end",
                "false",
                "--eval_on_start",
                "false",
            ]
        )
        == 0
    )
    assert precious.read_text() == "kept" and not (tmp_path / "run" / "checkpoint-7").exists()
