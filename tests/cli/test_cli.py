"""The `mriqa` command, run as users run it."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image
from typer.testing import CliRunner

import mriqa
from mriqa.cli import app

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    from mriqa.embedded import build_tiny_qwen3_vl

    return str(build_tiny_qwen3_vl(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Real photographs, and one broken file beside them in a folder of its own."""
    import skimage

    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut.png", "coffee.png", "rocket.jpg", "moon.png"):
        (folder / name).write_bytes((Path(skimage.__file__).parent / "data" / name).read_bytes())
    (folder / "broken").mkdir()
    (folder / "broken" / "broken.jpg").write_bytes((folder / "rocket.jpg").read_bytes()[:5000])
    return folder


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_help_is_there_without_loading_torch():
    code = "import sys, mriqa.cli; print('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    for command in ([], ["score"], ["eval"]):
        shown = run(*command, "--help")
        assert shown.exit_code == 0
        assert not command or "Examples" in shown.output


def test_versions():
    shown = subprocess.run([sys.executable, "-m", "mriqa", "--version"], capture_output=True, text=True)
    assert shown.stdout.strip() == run("version").output.strip() == mriqa.__version__


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_score_writes_a_row_per_image(model, photos, tmp_path, suffix):
    out = tmp_path / f"scores.{suffix}"
    result = run("score", photos / "*.png", photos / "rocket.jpg", "--model", model, "--out", out)
    assert result.exit_code == 0, result.output
    if suffix == "jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    elif suffix == "parquet":
        rows = pyarrow.parquet.read_table(out).to_pylist()
    else:
        rows = list(csv.DictReader(out.open(newline="")))
    assert [Path(row["image"]).name for row in rows] == ["astronaut.png", "coffee.png", "moon.png", "rocket.jpg"]
    assert all(list(row) == ["image", "score", "std", "error", "n_parsed"] and not row["error"] for row in rows)
    direct = mriqa.Scorer.from_pretrained(model).score([row["image"] for row in rows])
    np.testing.assert_allclose([float(row["score"]) for row in rows], [score.score for score in direct], atol=1e-6)


def test_a_broken_image_is_an_error_row_and_exit_code_1(model, photos, tmp_path):
    out = tmp_path / "scores.jsonl"
    result = run("score", photos, "--model", model, "--out", out)
    assert result.exit_code == 1
    rows = {Path(row["image"]).name: row for row in map(json.loads, out.read_text().splitlines())}
    assert len(rows) == 5 and rows["broken.jpg"]["score"] is None and "truncated" in rows["broken.jpg"]["error"]
    assert "1 of 5 images have no score" in result.stderr


def test_without_out_a_pipe_gets_json_lines(model, photos):
    result = run("score", photos / "moon.png", "--model", model, "--resize", 128, "--crop", 96)
    assert result.exit_code == 0
    row = json.loads(result.stdout)
    assert row["error"] is None and 1 <= row["score"] <= 5


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", None])
def test_fail_under_ends_with_1_where_a_score_is_lower(model, photos, tmp_path, suffix):
    images = [photos / "coffee.png", photos / "rocket.jpg"]
    low, high = sorted(json.loads(line)["score"] for line in run("score", *images, "-m", model).stdout.splitlines())
    for number, (least, code, words) in enumerate(
        [(low, 0, ""), ((low + high) / 2, 1, "1 images score below"), (6, 1, "2 ")]
    ):
        out = [] if suffix is None else ["--out", tmp_path / f"{number}.{suffix}"]
        done = run("score", *images, "-m", model, "--fail-under", least, *out)
        assert done.exit_code == code and words in done.stderr
        assert code == 0 or f": {low:.2f}" in done.stderr
    broken = run("score", photos / "broken", photos / "coffee.png", "-m", model, "--fail-under", 1)
    assert broken.exit_code == 1 and "1 of 2 images have no score" in broken.stderr


def test_without_model_the_one_that_comes_with_mriqa_scores(model, photos, manifest, monkeypatch):
    monkeypatch.setattr("mriqa.models.default_model_folder", lambda: Path(model))
    plain, named = (run("score", photos / "moon.png", *which) for which in ([], ["-m", model]))
    assert plain.exit_code == 0 and plain.stdout == named.stdout
    assert run("eval", "--manifest", manifest, "--image-root", photos, "--scale", "0:100").exit_code == 0


def test_mistakes_are_one_sentence_and_exit_code_2(model, photos, tmp_path):
    out = tmp_path / "scores.csv"
    out.write_text("mine")
    photo = photos / "moon.png"
    for arguments, sentence in [
        ((photos / "missing.png", "-m", model), "no file or folder"),
        ((photo, "-m", tmp_path / "nowhere"), "no model folder"),
        ((photo, "-m", model, "-o", out), "--overwrite"),
        ((photo, "-m", model, "-o", tmp_path / "scores.xlsx"), "must end in"),
        ((photo, "-m", model, "--answer-format", "nope"), "no answer format 'nope'"),
        ((photo, "-m", model, "--prompt-mode", "thinking", "--readout", "expected"), "use --readout sample"),
        ((photo, "-m", model, "--device", "toaster"), "no device 'toaster'"),
    ]:
        result = run("score", *arguments)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1 and sentence in result.stderr
    assert out.read_text() == "mine"
    assert run("score", photo, "-m", model, "--readout", "best").exit_code == 2


def test_parts_of_a_manifest_make_one_table_with_the_models_words(model, photos, manifest, tmp_path):
    out = tmp_path / "scores.csv"
    for name in ("astronaut.png", "coffee.png", "rocket.jpg", "moon.png"):
        (tmp_path / name).symlink_to(photos / name)
    command = ["score", manifest, "-m", model, "-o", out, "--readout", "greedy", "--text", "--shard-size", 2]
    first = run(*command, "--shard", "1/2")
    assert first.exit_code == 0 and "2 of 4 images are scored" in first.stderr and not out.exists()
    assert run(*command, "--shard", "2/2", "--seed", 1).exit_code == 2  # another job
    assert run(*command, "--shard", "2/2").exit_code == 0
    rows = list(csv.DictReader(out.open(newline="")))
    assert [row["image"] for row in rows] == ["astronaut.png", "coffee.png", "rocket.jpg", "moon.png"]
    for row in rows:  # the random model is held to the grammar
        assert row["n_parsed"] == "1" and json.loads(row["texts"]) == [row["text"]]
        assert float(re.fullmatch(r"<answer>(.*)</answer>", row["text"])[1]) == float(row["score"])
    assert run("score", photos / "moon.png", "-m", model, "--shard", "3/2").exit_code == 2


def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on(model, photos, tmp_path, monkeypatch):
    command = ["score", photos / "moon.png", "-m", model, "-o", tmp_path / "scores.jsonl"]
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 1:  # the list of images still fits, its scores don't
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    result = run(*command)
    assert result.exit_code == 2 and "No space left" in result.stderr and result.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["scores.jsonl.work"]
    monkeypatch.undo()
    result = run(*command)
    assert result.exit_code == 0 and os.listdir(tmp_path) == ["scores.jsonl"]


@pytest.fixture
def manifest(photos, tmp_path) -> Path:
    path = tmp_path / "manifest.jsonl"
    rows = [("astronaut.png", 80), ("coffee.png", 60), ("rocket.jpg", 40), ("moon.png", 10)]
    path.write_text("".join(json.dumps({"image": name, "mos": mos, "std": 8}) + "\n" for name, mos in rows))
    return path


def test_eval_writes_measures_predictions_and_plot(model, photos, manifest, tmp_path):
    out, plot = tmp_path / "result.json", tmp_path / "plot.png"
    options = ["--model", model, "--image-root", photos, "--out", out, "--plot", plot]
    for scale in (["--scale", "0:100"], ["--scale-low", 0, "--scale-high", 100, "--overwrite"]):
        result = run("eval", "--manifest", manifest, *options, *scale)
        assert result.exit_code == 0, result.output
        measures = json.loads(out.read_text())
        assert (measures["n"], measures["n_parsed"], measures["settings"]["readout"]) == (4, 4, "expected")
        rows = [json.loads(line) for line in (tmp_path / "result.predictions.jsonl").read_text().splitlines()]
        assert [row["mos"] for row in rows] == pytest.approx([1 + 4 * mos / 100 for mos in (80, 60, 40, 10)])
        order = np.argsort(np.argsort([row["score"] for row in rows]))
        differences = order - np.array([3, 2, 1, 0])
        assert measures["srcc"] == pytest.approx(1 - 6 * (differences**2).sum() / (4 * 15))  # Spearman, no ties
        assert "SRCC" in result.stdout and "Wrote" in result.stderr and plot.name in result.stderr
        assert Image.open(plot).size > (100, 100)


def test_eval_refuses_bad_rows_or_skips_them(model, photos, manifest, tmp_path):
    with manifest.open("a") as file:
        file.write(json.dumps({"image": "broken/broken.jpg", "mos": 50}) + "\n")
    options = ["eval", "--manifest", manifest, "--model", model, "--image-root", photos, "--scale", "0:100"]
    failed = run(*options)
    assert failed.exit_code == 2 and "broken.jpg" in failed.stderr
    out = tmp_path / "result.json"
    assert run(*options, "--on-bad-row", "skip", "--out", out).exit_code == 0
    assert json.loads(out.read_text())["n"] == 4
    for scale in (["--scale", "made-up"], ["--scale", "mos", "--scale-low", 0], ["--scale-low", 9]):
        assert run("eval", "--manifest", manifest, "--model", model, *scale).exit_code == 2


def test_a_stopped_job_says_how_it_goes_on_and_does(model, tmp_path):
    generator = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    command = [sys.executable, "-m", "mriqa", "score", str(tmp_path), "--model", str(model), "--device", "cpu"]
    command += ["--batch-size", "1", "--shard-size", "8", "--out", str(tmp_path / "scores.csv")]
    done = tmp_path / "scores.csv.work" / "done"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as job:
        while job.poll() is None and not (done.is_dir() and any(done.iterdir())):
            time.sleep(0.01)
        job.send_signal(signal.SIGTERM)
        errors = job.communicate()[1]
    assert job.returncode == 128 + signal.SIGTERM
    assert f"The same command goes on with what {tmp_path / 'scores.csv'} lacks." in errors
    assert subprocess.run(command, check=False).returncode == 0
    assert len(list(csv.DictReader((tmp_path / "scores.csv").open()))) == 40
