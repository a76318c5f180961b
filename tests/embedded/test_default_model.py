"""The model inside the package: there, small, usable at once, and what it thinks of compressed pictures."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from PIL import Image
from pillow_spoils import SPOILS
from scipy.stats import spearmanr
from skimage import data
from sklearn.datasets import load_sample_image

from mriqa import Scorer
from mriqa.broad.broad_set import BroadSettings, split_contents
from mriqa.embedded.packaged import default_model_folder
from mriqa.manifest import read_manifest

MOSTLY_RIGHT, RIGHT_IN_EACH = 0.95, 0.85


@pytest.fixture(scope="module")
def scorer():
    return Scorer.from_pretrained(device="cpu")


def test_its_weights_are_small_and_its_card_is_with_them():
    weights = sum(path.stat().st_size for path in default_model_folder().iterdir())
    assert weights < 20e6
    assert "trained on" in (default_model_folder() / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "picture",
    [
        data.astronaut,
        partial(load_sample_image, "flower.jpg"),
        data.rocket,
        data.coffee,
        partial(load_sample_image, "china.jpg"),
    ],
)
def test_the_stronger_the_compression_the_lower_the_score(scorer, picture):
    """The first two were measured on and not trained on, the others trained on."""
    scores = [one.score for one in scorer.score([_jpeg(picture(), q) for q in (90, 40, 20, 10, 5)])]
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


@pytest.mark.parametrize("kind", SPOILS)
def test_a_picture_that_is_spoiled_more_scores_less(scorer, kind):
    """By code that is none of ours, on a picture that it was not trained on."""
    picture = Image.fromarray(data.astronaut())
    spoil, strengths = SPOILS[kind]
    scores = [one.score for one in scorer.score([picture, *(spoil(picture, strength) for strength in strengths)])]
    assert scores[0] > scores[-1] + 0.3 and scores[1] > scores[3]


def test_photographs_of_unseen_contents_are_ranked_by_how_spoiled_they_are(scorer, shared_data):
    """12 photographs that its training left out: pairs of strengths of each kind, the photograph itself among them."""
    settings = BroadSettings(photos=(str(shared_data("photos")),))
    contents = [content for content in split_contents(settings)["test"] if content.name.startswith("photo-")][:12]
    pictures = [content.pristine(settings.size) for content in contents]
    plain_N = np.array([one.score for one in scorer.score(pictures)])
    right, costs = {}, {}
    for kind, (spoil, strengths) in SPOILS.items():
        spoiled_KN = [[one.score for one in scorer.score([spoil(p, each) for p in pictures])] for each in strengths]
        chain_KN = np.array([plain_N, *spoiled_KN])
        right[kind] = np.mean([chain_KN[a] > chain_KN[b] for a in range(4) for b in range(a + 1, 4)])
        costs[kind] = (chain_KN[0] - chain_KN[-1]).mean()
    assert np.mean(list(right.values())) >= MOSTLY_RIGHT and min(right.values()) >= RIGHT_IN_EACH
    assert min(costs.values()) >= 0.8  # WebP's, which smoothes and leaves no blocks
    assert min(costs["dark"], costs["low contrast"]) >= 1.5


def test_nothing_left_to_see_is_bad(scorer, shared_data):
    """What the model before this one called excellent."""
    pictures = [Image.open(path).convert("RGB") for path in sorted(shared_data("photos").glob("*.webp"))[:10]]
    plain = np.mean([one.score for one in scorer.score(pictures)])
    for spoil in (lambda v: v * 0.05, lambda v: v * 0.1 + 200):
        assert np.mean([one.score for one in scorer.score([p.point(spoil) for p in pictures])]) < plain - 1.5


def test_it_ranks_rated_pictures_that_it_was_not_trained_on(scorer, shared_data):
    """About as well as its card says."""
    rows = read_manifest(shared_data("hevc_lab_mos") / "manifest.jsonl")
    pictures = [Image.open(row.image).convert("RGB").resize((672, 672), Image.Resampling.BICUBIC) for row in rows]
    scores = [one.score for one in scorer.score(pictures)]
    assert spearmanr(scores, [row.mos for row in rows]).statistic >= 0.7


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
