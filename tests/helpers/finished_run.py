"""A finished training run's folder, as recipes/mr_grpo.py leaves it, around a model that is there already."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml
from PIL import Image

from mriqa.answers import load_format
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
