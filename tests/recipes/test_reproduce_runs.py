"""The commands of docs/reproduce.md on MR-IQA, PreSTA and Q-Diverse are started on miniature data, as they stand there.

Their files are six pictures of noise. `MINIATURE` adds what makes a run short, encoders with weights to download give
way to `encoder.py:moments`, networks to a small one with random weights, and models to a tiny random Qwen3-VL. What
compare_rewards starts as processes runs in this one. And `--help` of each says which paper's table it is for.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mriqa.cli import app

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
PAPERS = ("MR-IQA", "PreSTA", "Q-Diverse")
WEIGHTS = ("swin_b", "swin_b_stage4", "resnet50", "resnet50_pooled")
NETWORK = ["--network_pretrained", "false", "--network_epochs", "1", "--network_crop", "32"]
MINIATURE = {
    "compare_rewards.py": ["--seeds", "0", "--rewards", "margin (unit)", "--embedded_dir", "embedded"],
    "compare_selectors.py": ["--quality_encoder", "encoder.py:moments", "--draws", "1", "--limit", "64", "--crop", "48",
                             "--selectors", "herding", "--budget", "0.5"],
    "compare_coresets.py": ["--quality_encoder", "encoder.py:moments", "--seeds", "0", "--fractions", "0.8",
                            "--selectors", "random", "q_diverse", *NETWORK],
    "prune_calibration.py": ["--seeds", "1", "--selectors", "random", "--budget", "3"],
    "select": ["--quality-encoder", "encoder.py:moments", "--encoder", "encoder.py:moments", "--budget", "4"],
    "ppr": ["--draws", "3", "--fraction", "0.5"],
}  # fmt: skip
STARTED_ELSEWHERE = {
    "accelerate launch": "tests/recipes/test_mr_iqa_commands.py",
    "mriqa data prepare": "tests/recipes/test_mr_iqa_commands.py",
    "mriqa eval --protocol mr-iqa": "tests/recipes/test_mr_iqa_commands.py",
    "python benchmarks/selection.py": "tests/benchmarks/test_benchmarks.py",
}
SWEEP = (
    "num_generations: 2\nper_device_train_batch_size: 8\nmax_completion_length: 4\nmax_steps: 1\neval_strategy: 'no'\n"
    "save_strategy: 'no'\nload_best_model_at_end: false\ngradient_checkpointing: false\nuse_cpu: true\n"
)


def commands(paper: str) -> list[str]:
    section = TEXT.split(f"## {paper}")[1].split("\n## ")[0]
    return list(dict.fromkeys(re.findall(r"`((?:python|accelerate|mriqa) [^`]+)`", section)))


HERE = [(paper, line) for paper in PAPERS for line in commands(paper) if not line.startswith(tuple(STARTED_ELSEWHERE))]


@pytest.fixture
def ground(rows: list, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with every file that the commands name."""
    lines = []
    for row in rows:
        shutil.copy(row.image, tmp_path)
        lines.append({"image": row.image.name, "mos": row.mos, "std": 0.5, "content": row.content, "id": row.id})
    # The scales that the commands declare, of which 1..5 is a part.
    for name in ("koniq", "koniq_test", "kadid10k", "train", "test", "val"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, times in (("spaq", 20), ("bid", 1)):
        scaled = [  # enough that a fifth of them can be tested on
            {**line, "mos": times * line["mos"], "std": times * line["std"], "id": f"{line['id']} {copy}"}
            for line in lines
            for copy in range(4)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in scaled))
    for part in ("train", "test"):
        for place, row in enumerate(rows):
            folder = tmp_path / "cifar10" / part / ("dark" if place % 2 else "light")
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(row.image, folder)
    (tmp_path / "encoder.py").write_text(
        "import numpy as np\n"
        "def moments(images):\n"
        "    x = np.stack([np.asarray(i, dtype=float).reshape(-1, 3) for i in images])\n"
        "    return np.concatenate([x.mean(axis=1), x.std(axis=1)], axis=1)\n"
    )
    (tmp_path / "recipes" / "configs").mkdir(parents=True)
    (tmp_path / "recipes" / "configs" / "qwen3_vl_2b_koniq_lora.yaml").write_text(
        f"model: {tiny_model}\ntrain_manifest: koniq.jsonl\n{SWEEP}"
    )
    (tmp_path / "M").symlink_to(tiny_model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_miniature(words: list[str]) -> list[str]:
    """A command's words with small encoders and networks, and what else makes it short at its end."""
    small = ["encoder.py:moments" if word in WEIGHTS else word for word in words]
    program = next(Path(word).name for word in small[1:] if not word.startswith("-"))
    network = "--network" in small
    if network:
        small[small.index("--network") + 1] = "timm:test_resnet"
    more = list(MINIATURE[program])
    if program == "compare_selectors.py" and network:
        more += NETWORK
    if program == "prune_calibration.py" and network:
        more += ["--random_weights", "--epochs", "1", "--crop", "32"]
    return small + more


@pytest.mark.parametrize(("paper", "line"), HERE, ids=lambda value: re.sub(r"\W+", "-", value)[-60:])
def test_a_command_runs_on_miniature_data(paper: str, line: str, ground: Path, runs_here: None) -> None:
    words = in_miniature(shlex.split(line))
    if words[0] == "mriqa":
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, done.output
        return
    recipe = importlib.import_module(Path(words[1]).stem)
    assert recipe.main(words[2:]) == 0
    (results,) = ground.glob("outputs/*/results.md")
    assert "| " in results.read_text()


@pytest.mark.parametrize("beginning", STARTED_ELSEWHERE)
def test_the_other_commands_are_started_where_it_is_said(beginning: str) -> None:
    lines = [line for paper in PAPERS for line in commands(paper) if line.startswith(beginning)]
    text = (ROOT / STARTED_ELSEWHERE[beginning]).read_text(encoding="utf-8")
    if '"evaluation.md"' in text:  # whose commands that test runs as they stand there
        text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
        assert lines and beginning in text
    assert lines and beginning.split("/")[-1] in text


@pytest.mark.parametrize("paper", PAPERS)
def test_help_names_paper_and_table(paper: str) -> None:
    for line in commands(paper):
        words = shlex.split(line)
        if words[0] == "mriqa":
            command = typer.main.get_command(app).commands[words[1]]
            text = (command.commands[words[2]] if words[1] == "data" else command).help
        else:
            script = next(word for word in words if word.endswith(".py"))
            text = (ROOT / script).read_text(encoding="utf-8").split('"""')[1]  # what `--help` shows
        assert re.search(paper, text) and re.search(r"[Tt]able|Fig\. \d", text), line
