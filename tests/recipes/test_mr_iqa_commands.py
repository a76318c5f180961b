"""The commands of docs/evaluation.md from KonIQ-10k's folder to MR-IQA's table, run as they stand there.

The folders are miniatures in the official layouts, a tiny random Qwen3-VL stands in for the 2B model, and `MINIATURE`
adds to each command what these need. DeepSpeed's eight processes become this one.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import mr_grpo
import official_trees
import pytest
import yaml
from official_trees import TREES
from typer.testing import CliRunner

from mriqa.cli import app
from mriqa.training.runs import read_images

REPOSITORY = Path(__file__).parents[2]
LAUNCH = ["accelerate", "launch", "--config_file", "recipes/configs/accelerate/zero3_offload.yaml"]
OTHERS = ["spaq", "livec", "agiqa3k", "kadid10k", "csiq"]
MINIATURE = {
    "prepare": "--allow-partial",
    "train": "--max_steps 2 --max_completion_length 4 --dtype float32 --gradient_checkpointing false --preflight off "
    "--eval_strategy no --eval_on_start false",
    "eval": "--device cpu",
}
PARTS = {"training": 8, "validation": 2, "test": 5}


def commands() -> tuple[list[list[str]], list[list[str]]]:
    """The words of the three commands, and of those that prepare the five other test sets."""
    text = (REPOSITORY / "docs" / "evaluation.md").read_text(encoding="utf-8")
    section = text.split("\n## MR-IQA's training and table\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    three, others = (
        [shlex.split(line) for line in block.replace("\\\n", " ").splitlines() if line.strip()] for block in blocks
    )
    return three, others


def koniq_rows() -> tuple[list[list[object]], list[str]]:
    """Label rows with scores from 1.2 to 4.2, and the part of each."""
    parts = [part for part, count in PARTS.items() for _ in range(count)]
    scores = [round(1.2 + 3.0 * k / (len(parts) - 1), 3) for k in range(len(parts))]
    return [[f"{k}.jpg", 0, 0, 5, 5, 0, 10, score, 0.5, 50.0] for k, score in enumerate(scores)], parts


def run(words: list[str], more: str) -> None:
    assert words[0] == "mriqa"
    done = CliRunner().invoke(app, [*words[1:], *shlex.split(more)])
    assert done.exit_code in (0, 1), done.output  # 1: the random model answers some pictures with no score


def test_from_the_folders_to_the_table(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (prepare, launch, evaluate), others = commands()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")
    labels, parts = koniq_rows()
    monkeypatch.setattr(official_trees, "KONIQ_A", labels)
    monkeypatch.setattr(official_trees, "KONIQ_SETS", parts)
    for name in ["koniq10k", *OTHERS]:
        TREES[name](tmp_path / "data" / name)

    # 1. The data: MR-IQA's scale, by hand, in one file for each part.
    assert prepare[:4] == ["mriqa", "data", "prepare", "koniq10k"]
    run(prepare, MINIATURE["prepare"])
    rows = {part: _rows(f"data/koniq10k_{part}.jsonl") for part in PARTS}
    assert {part: len(of_part) for part, of_part in rows.items()} == PARTS
    scaled = {f"{row[0]}": 1 + 4 * (float(str(row[7])) - 1.096) / (4.31 - 1.096) for row in labels}
    assert all(row["mos"] == pytest.approx(scaled[row["id"]], abs=2e-3) for row in rows["training"])

    # 2. Training reads those scores as they are: no scale is laid over them once more.
    assert launch[:4] == LAUNCH and launch[4] == "recipes/mr_grpo.py"
    words = [*launch[5:], "--model", str(tiny_model), *shlex.split(MINIATURE["train"])]
    arguments, config = mr_grpo.parse_arguments(words)
    read = read_images(arguments, arguments.train_manifest, "train_manifest")
    assert [image.mos for image in read] == pytest.approx([row["mos"] for row in rows["training"]])
    assert config.num_generations == 6 and Path(arguments.val_manifest).name == "koniq10k_validation.jsonl"
    assert mr_grpo.main(words) == 0
    model = Path(evaluate[evaluate.index("--model") + 1])
    assert model == Path(config.output_dir) / "model" and (model / "model.safetensors").is_file()
    assert json.loads((model.parent / "training_log.json").read_text())["steps"] == 2

    # 3. The table of six data sets, after those of the other five are prepared.
    assert [words[3] for words in others] == OTHERS
    for words in others:
        run(words, MINIATURE["prepare"])
    run(evaluate, MINIATURE["eval"])
    out = Path(evaluate[evaluate.index("--out") + 1])
    results = json.loads((out / "results.json").read_text())
    tested = {run["dataset"]: len(run["predictions"]) for run in results["runs"]}
    assert tested == {"koniq10k": 5, "spaq": 2, "livec": 3, "agiqa3k": 4, "kadid10k": 18, "csiq": 3}
    assert results["audit"]["shared"] == dict.fromkeys(tested, 0)
    assert {run["readout"] for run in results["runs"]} == {"greedy"}
    assert all(run["seconds_per_picture"] > 0 for run in results["runs"])
    assert (out / "report.html").is_file()


def test_the_configuration_names_the_files_of_the_first_command() -> None:
    (prepare, launch, evaluate), _ = commands()
    name = prepare[prepare.index("--out") + 1]
    settings = yaml.safe_load((REPOSITORY / launch[launch.index("--config") + 1]).read_text())
    assert settings["train_manifest"] == name.replace("{part}", "training")
    assert settings["val_manifest"] == name.replace("{part}", "validation")
    assert evaluate[evaluate.index("--train") + 1] == settings["train_manifest"]


def _rows(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
