"""A pretrained encoder with a probe beside it is a scorer like any other, and needs no language model."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mriqa import Scorer
from mriqa.errors import UserError
from mriqa.features.crop_features import crop_features, load_crop_encoder
from mriqa.pretrain.probe import RidgeProbe
from mriqa.pretrain.quality_encoder import build_encoder, save_encoder
from mriqa.pretrain.saved_probe import SavedProbe, load_probe, save_probe
from mriqa.views import ViewSettings


def picture(seed: int, width: int = 80, height: int = 64) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    save_encoder(build_encoder("test_resnet"), tmp_path / "model", {"crop": 32}, "")
    return tmp_path / "model"


@pytest.fixture
def probed(folder):
    """A folder with a probe that gives scores around 3."""
    encoder = load_crop_encoder(f"shamisa:{folder}", crop=32, device="cpu")
    width = crop_features([picture(0)], encoder).shape[2]
    probe = RidgeProbe(np.random.default_rng(0).normal(0, 3, width), 3.0, alpha=0.5)
    save_probe(SavedProbe(probe, encoder.key, crop=32, size=72, learned_from={"pictures": 3}), folder)
    return folder


def test_scores_are_the_probes(probed):
    images = [picture(1), picture(2, 100, 90).convert("L"), picture(3, 20, 20)]
    scorer = Scorer.from_pretrained(probed, device="cpu", batch_size=2)
    saved, encoder = load_probe(probed), load_crop_encoder(f"shamisa:{probed}", crop=32, device="cpu")
    features = crop_features(images, encoder, before=ViewSettings(size=72))
    wanted = [np.mean([row @ saved.probe.weights_F + 3.0 for row in own.astype(np.float64)]) for own in features]
    scores = scorer.score(images)
    assert [one.score for one in scores] == pytest.approx(np.clip(wanted, 1, 5), abs=1e-4)
    assert all(np.isnan(one.std) and one.error is None and one.n_parsed == 1 for one in scores)
    assert scorer.readout_name == "probe"


def test_scores_stay_on_the_scale_and_bad_pictures_stop_nothing(probed, tmp_path):
    saved = load_probe(probed)
    save_probe(SavedProbe(RidgeProbe(saved.probe.weights_F, 40.0, 1.0), saved.encoder_key, 32), probed)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    good, broken = Scorer.from_pretrained(probed).score([picture(1), tmp_path / "broken.png"])
    assert good.score == 5.0 and np.isnan(broken.score) and "broken.png" in (broken.error or "")


def test_the_command_scores_without_transformers(probed, tmp_path):
    for seed in range(2):
        picture(seed).save(tmp_path / f"{seed}.png")
    code = (
        "import sys; from mriqa.cli import main\n"
        "try: main()\n"
        "finally: assert not [name for name in sys.modules if name.split('.')[0] == 'transformers']\n"
    )
    out = tmp_path / "scores.jsonl"
    command = ["score", str(tmp_path / "0.png"), str(tmp_path / "1.png"), "-m", str(probed), "-o", str(out)]
    run = subprocess.run(
        [sys.executable, "-c", code, *command, "--device", "cpu"], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    wanted = Scorer.from_pretrained(probed, device="cpu").score([tmp_path / "0.png", tmp_path / "1.png"])
    assert [row["score"] for row in rows] == pytest.approx([one.score for one in wanted], abs=1e-6)


def test_what_cannot_score_says_why(probed, folder, tmp_path):
    for options, says in (
        ({"readout": "expected"}, "no answers: leave out the readout expected"),
        ({"head": "conord"}, "no head 'conord'"),
        ({"backend": "vllm"}, "which vllm does not run"),
    ):
        with pytest.raises(UserError, match=says):
            Scorer.from_pretrained(probed, **options)
    with pytest.raises(UserError, match="no probe.json, which the probe backend reads"):
        Scorer.from_pretrained("default", backend="probe")
    (probed / "probe.safetensors").write_bytes(b"{}")
    with pytest.raises(UserError, match="no whole probe"):
        Scorer.from_pretrained(probed)
    (probed / "probe.json").unlink()
    with pytest.raises(UserError, match="encoder without a probe: fit one with recipes/shamisa_probe.py"):
        Scorer.from_pretrained(probed)


def test_a_probe_of_another_encoder_is_refused(probed, tmp_path):
    torch.manual_seed(1)
    save_encoder(build_encoder("test_resnet"), tmp_path / "other", {"crop": 32}, "")
    save_probe(load_probe(probed), tmp_path / "other")
    with pytest.raises(UserError, match="fitted to another encoder"):
        Scorer.from_pretrained(tmp_path / "other")


def test_a_probe_comes_back_as_it_was(probed):
    saved = load_probe(probed)
    save_probe(saved, probed)
    again = load_probe(probed)
    assert np.array_equal(again.probe.weights_F, saved.probe.weights_F) and again.probe.intercept == 3.0
    assert (again.crop, again.size, again.limit, again.learned_from) == (32, 72, None, {"pictures": 3})
    with pytest.raises(UserError, match="no folder"):
        save_probe(saved, probed / "absent")
