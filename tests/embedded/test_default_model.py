"""The model inside the package: there, small, usable at once, and what it thinks of compressed pictures."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr
from skimage import data

from mriqa import Scorer
from mriqa.embedded.packaged import default_model_folder
from mriqa.manifest import read_manifest


@pytest.fixture(scope="module")
def scorer():
    return Scorer.from_pretrained(device="cpu")


def test_its_weights_are_small_and_its_card_is_with_them():
    weights = sum(path.stat().st_size for path in default_model_folder().iterdir())
    assert weights < 20e6
    assert "trained on" in (default_model_folder() / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("picture", ["astronaut", "coffee", "cat", "rocket"])
def test_the_stronger_the_compression_the_lower_the_score(scorer, picture):
    """These pictures are not among the photographs that it was trained on."""
    scores = [one.score for one in scorer.score([_jpeg(getattr(data, picture)(), q) for q in (90, 40, 20, 10, 5)])]
    assert spearmanr(scores, range(5)).statistic < -0.89 and scores[0] > scores[-1] + 1


def test_the_command_answers_without_a_model_name_and_without_a_network(tmp_path):
    file = tmp_path / "photo.jpg"
    file.write_bytes(_jpeg(data.coffee(), 30))
    code = """
import socket, sys
def refuse(*_): raise OSError("no network here")
socket.socket.connect = refuse
from mriqa.cli import main
sys.argv = ["mriqa", "score", sys.argv[1]]
main()
"""
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["image"] == str(file) and 1 <= row["score"] <= 5 and row["error"] is None


def test_it_ranks_rated_pictures_that_it_was_not_trained_on(scorer, shared_data):
    """BRISQUE reaches 0.792 there, PIQE 0.893."""
    rows = read_manifest(shared_data("hevc_lab_mos") / "manifest.jsonl")
    pictures = [Image.open(row.image).convert("RGB").resize((672, 672), Image.Resampling.BICUBIC) for row in rows]
    scores = [one.score for one in scorer.score(pictures)]
    assert spearmanr(scores, [row.mos for row in rows]).statistic >= 0.93


def _jpeg(pixels: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_its_card_says_how_far_its_scores_move():
    from mriqa.eval.report import markdown_table
    from mriqa.eval.stability import COLUMNS, read_stability, stability_rows

    found = read_stability(default_model_folder())
    assert found is not None and found["readout"] == "expected" and not found["left_out"]
    card = (default_model_folder() / "README.md").read_text(encoding="utf-8")
    assert markdown_table(stability_rows(found), COLUMNS) in card
