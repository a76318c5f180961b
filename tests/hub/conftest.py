"""A finished run with a tiny model, and the Hub's stand-in in the place of the Hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from hub_stand_in import TOKEN, StandIn
from PIL import Image
from typer.testing import CliRunner

from mriqa.answers import load_format
from mriqa.cli import app
from mriqa.models import save_scoring_settings

SETTINGS = {
    "model": "Qwen/Qwen3-VL-2B-Instruct", "train_manifest": "train.jsonl", "val_manifest": "val.jsonl",
    "reward": ["margin", "format"], "reward_options": {"margin": {"scale": "sigma"}}, "estimator": "sampled",
    "comparison": "global", "num_generations": 6, "learning_rate": 1e-5, "max_steps": -1, "num_train_epochs": 10.0,
    "beta": 0.02, "seed": 1234, "lora_r": 0, "lora_alpha": 64, "prompt_mode": "non_thinking", "dtype": "float32",
    "aux": "none", "aux_weight": 0.1,
}  # fmt: skip
LOG = {
    "seconds": 3600.0,
    "steps": 40,
    "best_step": 20,
    "best_metric": 0.8,
    "versions": {"mriqa": "0.1.0", "torch": "2.13.0", "trl": "1.16.0"},
    "history": [
        {"eval_srcc": 0.8, "eval_plcc": 0.81, "step": 20},
        {"loss": 0.1, "step": 21},
        {"eval_srcc": 0.7, "eval_plcc": 0.71, "step": 40},
    ],
}
MEASURES = {"n": 30, "n_parsed": 30, "parse_rate": 1.0, "srcc": 0.8765, "krcc": 0.7, "plcc": 0.9, "plcc_mapped": None,
            "rmse": 0.31, "srcc_ci": [0.8, 0.9], "plcc_ci": [None, None]}  # fmt: skip


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_sentence(result) -> str:
    """The error of a command that refused: exit code 2, one line that says so, no traceback."""
    assert result.exit_code == 2, (result.output, result.exception)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and "Traceback" not in result.output
    return errors[0]


def make_run(folder: Path, tiny: Path, **settings: object) -> Path:
    """A run's folder as recipes/mr_grpo.py leaves it, with an evaluation and things that nobody else should get."""
    folder.mkdir(parents=True)
    shutil.copytree(tiny, folder / "model")
    if not (folder / "model" / "adapter_config.json").is_file():
        save_scoring_settings(folder / "model", load_format("non_thinking"))
    own = {
        **SETTINGS,
        "output_dir": str(folder),
        "hub_token": "hf_SECRET",
        "logging_dir": "/home/anna/logs",
        **settings,
    }
    for name, count in (("train", 20), ("val", 10)):
        rows = [
            {"image": f"{n}.png", "mos": 1.5 + n / 10, "dataset": "koniq10k", "content": f"c{n % 7}", "id": str(n)}
            for n in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for row in rows:
            (folder / row["image"]).touch()
        own[f"{name}_manifest"] = str(folder / f"{name}.jsonl")
    (folder / "resolved_config.yaml").write_text(yaml.safe_dump(own))
    (folder / "training_log.json").write_text(json.dumps(LOG))
    evaluation = {**MEASURES, "settings": {"model": "m", "manifest": "spaq_test.csv", "readout": "expected"}}
    (folder / "results.json").write_text(json.dumps(evaluation))
    (folder / "README.md").write_text("# A card by TRL\n")
    Image.new("RGB", (40, 40), "grey").save(folder / "scatter.png")
    for secret in (".env", "wandb.log", "model/training_args.bin", "model/optimizer.pt", "checkpoint-20/optimizer.pt",
                   "checkpoint-20/model.safetensors", "model/token.txt", "model/conord/head.json"):  # fmt: skip
        (folder / secret).parent.mkdir(exist_ok=True)
        (folder / secret).write_text("hf_SECRET")
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    from mriqa.embedded import build_tiny_qwen3_vl

    return build_tiny_qwen3_vl(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def run(tmp_path, tiny) -> Path:
    return make_run(tmp_path / "run", tiny)


@pytest.fixture
def adapter(tmp_path, tiny) -> Path:
    """A run that trained LoRA adapters; PEFT names the folder that the base model was loaded from."""
    import torch
    from peft import LoraConfig, get_peft_model

    from mriqa.models import load_vlm

    base, processor = load_vlm(tiny, device="cpu")
    torch.manual_seed(0)
    options = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(base, options).save_pretrained(tmp_path / "adapter")
    processor.save_pretrained(tmp_path / "adapter")
    save_scoring_settings(tmp_path / "adapter", load_format("non_thinking"))
    return make_run(tmp_path / "lora", tmp_path / "adapter", lora_r=4)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The stand-in, with a token that it takes; huggingface_hub waits for nothing between its attempts."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    stand_in = StandIn()
    monkeypatch.setattr(constants, "ENDPOINT", stand_in.url)
    template = stand_in.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield stand_in
    stand_in.close()
