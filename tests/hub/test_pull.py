"""A model and the head beside it, fetched from the stand-in and scored with."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_stand_in import Repo
from huggingface_hub import constants
from PIL import Image

from mriqa import Scorer
from mriqa.heads.neighbour_head import AuxiliaryHead, HeadScorer
from mriqa.models import model_folder

from .conftest import invoke, one_sentence

REPO = "you/scorer"
MOS = torch.tensor([1.5, 2.0, 3.1, 4.4, 4.9])


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A model with a head, and folders beside it that nobody asks for."""
    copy = shutil.copytree(tiny, tmp_path / "model")
    width = json.loads((tiny / "config.json").read_text())["text_config"]["hidden_size"]
    known = torch.randn(len(MOS), width, generator=torch.Generator().manual_seed(0))
    HeadScorer.build(AuxiliaryHead(width, MOS), "last_hidden", known, MOS, neighbours=2).save(copy / "conord")
    (copy / "conord" / "notes.bin").write_bytes(b"no weights")
    shutil.copytree(copy / "conord", copy / "other")
    return copy


@pytest.fixture
def repo(hub, folder: Path) -> Repo:
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub.repos[REPO] = Repo(files=files)
    return hub.repos[REPO]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_head_is_fetched_when_asked_for_and_gives_its_column(repo, folder, photo, tmp_path, monkeypatch):
    (photo.parent / "broken.png").write_bytes(b"no picture")
    command = ["score", photo, photo.parent / "broken.png", "-m", REPO, "--device", "cpu"]
    expected = Scorer.from_pretrained(folder, device="cpu", head="conord").score([photo])[0].head_score

    assert invoke(*command, "-o", tmp_path / "plain.csv").exit_code == 1
    (_, plain) = csv.DictReader((tmp_path / "plain.csv").open(newline=""))
    assert "head_score" not in plain and not [path for path in model_folder(REPO).iterdir() if path.is_dir()]

    assert invoke(*command, "--head", "conord", "-o", tmp_path / "headed.csv").exit_code == 1
    broken, headed = csv.DictReader((tmp_path / "headed.csv").open(newline=""))
    assert list(headed) == ["image", "score", "std", "error", "n_parsed", "head_score"]
    assert float(headed["head_score"]) == pytest.approx(expected, abs=1e-5)
    assert headed["score"] == plain["score"] and broken["head_score"] == ""
    fetched = [path.name for path in (model_folder(REPO) / "conord").iterdir()]
    assert "head.json" in fetched and "notes.bin" not in fetched
    assert not (model_folder(REPO) / "other").exists()

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    shown = invoke(*command, "--head", "conord").stdout.splitlines()
    assert [json.loads(line)["head_score"] for line in shown] == [None, pytest.approx(expected, abs=1e-5)]


def test_heads_that_are_not_there(repo, photo, tmp_path):
    command = ["score", photo, "-m", REPO, "--device", "cpu", "-o", tmp_path / "scores.csv", "--head"]
    for name in ("centre", "*", "../conord"):
        assert f'no head "{name}"' in one_sentence(invoke(*command, name))
    refused = one_sentence(invoke(*command, "conord", "--backend", "server", "--server", "http://127.0.0.1:9/v1"))
    assert "reads hidden states" in refused
    assert not list(tmp_path.glob("scores.csv*"))
