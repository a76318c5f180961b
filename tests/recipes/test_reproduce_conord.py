"""Every command of ConOrd's table in docs/reproduce.md runs through on miniature data, and --help names its table."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8").split("## ConOrd")[1].split("\n## ")[0]
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", SECTION, re.MULTILINE)
COMMANDS = sorted({command for _, cell in ROWS for command in re.findall(r"`(python recipes/[^`]+)`", cell)})
ITEMS = 30

SMALL = "--encoder timm:test_resnet --pretrained false --crop 32 --size 40 --width 8 --epochs 2 --warmup_epochs 0 "
SMALL += "--batch_size 8 --learning_rate 1e-3 --workers 0 --cpu true"
SMALL_VIDEO = "--frames 1 --clips 1 --clip_length 2 --clip_size 32 --fast_depths 1 1 1 1 --fast_stem 2"
SMALL_FEATURES = "--size 64 --crop 48 --splits 1 --steps 2"

RUNS = {
    "outputs/conord": "--manifest gaze.jsonl --test_manifest gaze_test.jsonl --distance angular "
    "--vector pitch=-40:10 yaw=-45:45",
    "outputs/conord_bid": "--config {root}/recipes/configs/conord/bid.yaml --manifest bid.jsonl",
}
"""The runs whose folders other commands name."""


def manifests(folder: Path, words: list[str], scale: tuple[float, float], video: bool) -> None:
    """Every manifest the command names: thirty items of fifteen subjects, the noisier the lower their ranks."""
    generator = np.random.default_rng(0)
    low, high = scale
    rows = []
    for index in range(ITEMS):
        level = (index % 6 + index / ITEMS) / 7
        name = f"{index}.mp4" if video else f"{index}.png"
        frames = [generator.normal(120, 4 + 60 * level, (48, 48, 3)).clip(0, 255).astype(np.uint8) for _ in range(3)]
        if video:
            write_video(folder / name, frames)
        else:
            Image.fromarray(frames[0]).save(folder / name)
        rank = low + (high - low) * level
        row = {"image": name, "content": str(index // 2), "fold": index // 6, "mos": rank, "temperature": rank}
        rows.append({**row, "pitch": -40 + 50 * level, "yaw": -45 + 90 * level})
    for word in words:
        if word.endswith(".jsonl"):
            mos = (1, 5) if re.search("konvid|youtube", word) else scale
            own = [{**row, "mos": mos[0] + (mos[1] - mos[0]) * (row["mos"] - low) / (high - low)} for row in rows]
            (folder / word).write_text("\n".join(map(json.dumps, own)))


def write_video(path: Path, frames: list[np.ndarray]) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def train(words: list[str], folder: Path) -> int:
    """recipes/conord.py with the words of a command, as small as it goes."""
    conord = importlib.import_module("conord")
    options = conord.parse_arguments(words)
    low, high = map(float, (options.scale or "1:5").split(":"))
    video = "--fast_weights" in words
    manifests(folder, words, (low, high), video)
    small = SMALL.split()
    if "--k" not in words:
        small += ["--k", "2"]
    if not {"--folds", "--fold_key"} & set(words):
        small += ["--splits", "1"]
    if video:
        from mriqa.conord.video_motion import FastPathway

        save_file(FastPathway((1, 1, 1, 1), 2).state_dict(), folder / "slowfast_r50.safetensors")
        small += SMALL_VIDEO.split()
    return conord.main([*words, *small])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs_through_on_miniature_data(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe, *words = shlex.split(command)[1:]
    words = [str(ROOT / word) if word.endswith(".yaml") else word for word in words]
    if recipe.endswith("conord_gradcam.py"):
        pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
        assert train(shlex.split(RUNS[words[1]].format(root=ROOT)), tmp_path) == 0
        assert importlib.import_module("conord_gradcam").main(words) == 0
        drawn = json.loads(Path("outputs/conord_bid/split-00/gradcam.json").read_text())
        assert [len(one["neighbours"]) for one in drawn] == [4] * 4
        assert Path("outputs/conord_bid/split-00/gradcam.png").stat().st_size > 10_000
    elif recipe.endswith("conord_examples.py"):
        assert train(shlex.split(RUNS[words[1]].format(root=ROOT)), tmp_path) == 0
        assert importlib.import_module("conord_examples").main(words) == 0
        drawn = json.loads(Path(words[1], "split-00", "examples.json").read_text())
        for test, found in drawn.items():
            assert len(found["success"]) >= 3 and bool(found["failure"]) == (words[-1] != "0")
            assert Path(words[1], "split-00", f"examples_{test}.png").stat().st_size > 10_000
    elif recipe.endswith("conord_features.py"):
        manifests(tmp_path, words, (1, 5), video=False)
        assert importlib.import_module("conord_features").main([*words, *SMALL_FEATURES.split()]) == 0
        lines = Path("outputs/conord_features/table.md").read_text().splitlines()
        assert len(lines) == 2 + 15 and "nan" not in "".join(lines)
    else:
        assert train(words, tmp_path) == 0
        (results,) = Path("outputs").rglob("results.json")
        summary = json.loads(results.read_text())
        tests, repeats = (
            summary["tests"],
            int(words[words.index("--test_repeats") + 1]) if "--test_repeats" in words else 0,
        )
        assert summary["parameters"] > 0 and summary["epoch_seconds"]["times"] >= 2  # epochs of all splits
        assert {name: spread["times"] for name, spread in summary["test_seconds"].items()} == (
            dict.fromkeys(tests, repeats) if repeats else {}
        )
        named = [Path(word).stem for word in words if word.endswith(".jsonl")][1:]
        assert list(tests) == (named or ["test"])
        assert all(None not in found["median"].values() for found in tests.values() if "srcc" not in found["median"])
        text = results.with_name("results.md").read_text()
        assert text.count("| severity |") == ("--corruptions" in words)


def test_adience_has_published_folds_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--config", str(ROOT / "recipes/configs/conord/adience.yaml"), "--manifest", "adience.jsonl"]
    assert train([*words, "--fold_key", "fold"], tmp_path) == 2  # the YAML asks for drawn folds
    (tmp_path / "own.yaml").write_text(Path(words[1]).read_text().replace("folds: 5", "fold_key: fold"))
    assert train(["--config", str(tmp_path / "own.yaml"), *words[2:], "--fold_key", "fold"], tmp_path) == 0
    assert len(list(tmp_path.glob("outputs/*/split-*"))) == 5


def help_of(recipe: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The help of each option of a recipe, by the option's name, each on a line."""
    with pytest.raises(SystemExit):
        importlib.import_module(recipe).main(["--help"])
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("option", "tables"), [
    ("weighting", (1, 7, 14)), ("loss", (5, 15, 18, 20, 21)), ("loss_weight", (6,)), ("center_weight", (6, 13, 15)),
    ("fold_key", (2,)), ("score_key", (2, 9)), ("crops", (3,)), ("test_manifest", (4,)), ("test_scale", (4,)),
    ("fast_weights", (4,)), ("learning_rate", (8,)), ("batch_size", (8,)), ("vector", (9,)), ("distance", (9,)),
    ("encoder", (9, 25)), ("tau", (10,)), ("eps", (11,)), ("k", (12,)), ("points_init", (16, 17)),
    ("train_share", (18,)), ("corruptions", (19,)), ("splits", (3, 20)), ("test_repeats", (22,)),
])  # fmt: skip
def test_the_help_of_an_option_names_its_tables(option, tables):
    from dataclasses import fields

    from mriqa.training.conord_recipe.conord_options import ConOrdOptions

    (text,) = (one.metadata["help"] for one in fields(ConOrdOptions) if one.name == option)
    named = set()
    for group in re.findall(r"Tables? (\d+(?:(?:, | and | to )\d+)*)", text):
        numbers = re.split(r"(, | and | to )", group)
        for place, number in enumerate(numbers[::2]):
            start = int(numbers[2 * place - 2]) if place and numbers[2 * place - 1] == " to " else int(number)
            named |= set(range(start, int(number) + 1))
    assert set(tables) <= named


def test_the_help_of_the_other_recipes_names_their_figures(capsys):
    assert "Tables 5, 6 and 15" in (features := help_of("conord_features", capsys))
    assert all(figure in features for figure in ("(Fig. 4)", "Fig. 5 and 13", "(Fig. 15)"))
    assert "Fig. 14" in help_of("conord_gradcam", capsys)
    examples = help_of("conord_examples", capsys)
    assert "(a) in Fig. 16, 17 and 18 and all of Fig. 8 and 9" in examples and "(b) in Fig. 16, 17 and 18" in examples
