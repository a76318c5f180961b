"""`mriqa calibrate`: from rated pictures to calibration.json, and from there to the scores and the card."""

from __future__ import annotations

import json

import numpy as np
import pytest
from brightness import Brightness
from PIL import Image
from typer.testing import CliRunner

from mriqa.cli import app
from mriqa.scoring import Scorer
from mriqa.scoring.certainty import CALIBRATION_FILE, Calibration


@pytest.fixture
def manifest(tmp_path):
    """80 noisy grey pictures of 20 contents, rated by their brightness and an error."""
    random, rows = np.random.default_rng(0), []
    for number in range(80):
        level = random.uniform(40, 215)
        pixels = (level + random.normal(0, 12, (48, 48, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        mos = float(np.clip(1 + 4 * level / 255 + random.normal(0, 0.3), 1, 5))
        rows.append({"image": f"{number}.png", "mos": mos, "content": f"c{number % 20}"})
    path = tmp_path / "val.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A function that runs a command with brightness as quality; what lies in the model's folder calibrates it."""
    model = tmp_path / "model"
    model.mkdir()

    def load(*_, **options):
        return Scorer(None, None, backend=Brightness(), calibration=Calibration.load(model))

    monkeypatch.setattr("mriqa.scoring.scorer.Scorer.from_pretrained", load)
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments), "-m", str(model)])


def test_it_lies_beside_the_model_and_scores_get_intervals(run, manifest, tmp_path):
    done = run("calibrate", "--manifest", manifest)
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())  # the title is wrapped where the folder's name is long
    assert "80% interval" in said and "80 pictures of 20 contents" in said
    found = Calibration.load(tmp_path / "model")
    assert found.coverage["0.8"]["covered"] == pytest.approx(0.8, abs=0.12)
    row = json.loads(run("score", tmp_path / "3.png").stdout)
    assert list(row) == ["image", "score", "std", "error", "n_parsed", "low", "high"]
    assert row["low"] < row["score"] < row["high"]
    out = tmp_path / "scores.jsonl"
    assert run("score", tmp_path / "3.png", manifest, "-o", out).exit_code == 0
    rows = list(map(json.loads, out.read_text().splitlines()))
    assert len(rows) == 81 and rows[0] == row

    again = run("calibrate", "--manifest", manifest)
    assert again.exit_code == 2 and "--overwrite" in again.stderr
    # What is there already plays no part in the next one.
    assert run("calibrate", "--manifest", manifest, "--overwrite").exit_code == 0
    assert Calibration.load(tmp_path / "model") == found


def test_mistakes_are_one_sentence(run, manifest, tmp_path):
    few = tmp_path / "few.jsonl"
    few.write_text("".join(manifest.read_text().splitlines(keepends=True)[:30]))
    refused = run("calibrate", "--manifest", few)
    assert refused.exit_code == 2 and "these are 30 of 20" in refused.stderr and refused.stderr.count("\n") == 1
    assert not (tmp_path / "model" / CALIBRATION_FILE).exists()
    nowhere = CliRunner().invoke(app, ["calibrate", "--manifest", str(manifest), "-m", "you/model"])
    assert nowhere.exit_code == 2 and "name a folder for the calibration with --out" in nowhere.stderr
