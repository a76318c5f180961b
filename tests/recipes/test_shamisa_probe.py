"""The probe's recipe: its numbers are those of a plain loop over scikit-learn's ridge, its saved probe scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from noisy_contents import make_set
from PIL import Image
from sklearn.linear_model import Ridge

from mriqa import Scorer
from mriqa.eval.metrics import srcc
from mriqa.features.crop_features import crop_features, load_crop_encoder
from mriqa.manifest import read_manifest
from mriqa.pretrain.probe import content_splits
from mriqa.pretrain.quality_encoder import build_encoder, save_encoder
from recipes.shamisa_probe import main


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    torch.manual_seed(0)
    save_encoder(build_encoder("test_resnet"), folder / "model", {"crop": 32}, "")
    return folder, make_set(folder / "first", 0), make_set(folder / "second", 1)


def run(folder, *arguments: str) -> int:
    common = ["--crop", "32", "--splits", "3", "--device", "cpu", "--cache", str(folder / "cache")]
    return main([*common, *arguments])


def test_the_numbers_are_those_of_a_plain_loop(ground):
    folder, first, second = ground
    name = f"shamisa:{folder / 'model'}"
    arguments = ["--encoders", name, "--manifests", str(first), str(second), "--output", str(folder / "out")]
    code = run(folder, *arguments, "--references", f"first={folder / 'first' / 'references'}", "--cross_on", "all")
    assert code == 0
    results = json.loads((folder / "out" / "results.json").read_text())
    found = results["encoders"][name]
    encoder = load_crop_encoder(name, crop=32, device="cpu")
    rows, others = read_manifest(first), read_manifest(second)
    x, y = crop_features([row.image for row in rows], encoder), np.array([row.mos for row in rows])
    far = crop_features([row.image for row in others], encoder).mean(axis=1)
    pristine = crop_features([folder / "first" / "references" / f"{row.content}.png" for row in rows], encoder)
    own, across, full = [], [], []
    for split in content_splits([row.content for row in rows], 3):
        for features, alpha, kept in (
            (x, found["no_reference"]["first"]["alpha"], own),
            (np.abs(pristine - x), found["full_reference"]["first"]["alpha"], full),
        ):
            train = features[split.train].reshape(-1, features.shape[2]).astype(np.float64)
            ridge = Ridge(alpha, solver="svd").fit(train, np.repeat(y[split.train], 5))
            kept.append(srcc(ridge.predict(features[split.test].mean(axis=1)), y[split.test]))
            if kept is own:
                across.append(srcc(ridge.predict(far), [row.mos for row in others]))
    assert found["no_reference"]["first"]["splits"]["srcc"] == pytest.approx(own, abs=1e-6)
    assert found["no_reference"]["first"]["median"]["srcc"] == pytest.approx(np.median(own), abs=1e-6)
    assert found["cross_srcc"]["first"]["second"] == pytest.approx(np.median(across), abs=1e-3)
    assert found["full_reference"]["first"]["median"]["srcc"] == pytest.approx(np.median(full), abs=1e-6)
    assert results["data_sets"]["first"] == {"pictures": 48, "contents": 12}
    text = (folder / "out" / "results.md").read_text()
    assert f"{np.median(own):.3f} / " in text and "first → second" in text and "With the reference" in text


def test_the_saved_probe_scores_pictures(ground):
    folder, first, _ = ground
    name = f"shamisa:{folder / 'model'}"
    assert run(folder, "--encoders", name, "--manifests", f"lab={first}", "--size", "lab=40", "--save", "true",
               "--output", str(folder / "saved")) == 0  # fmt: skip
    results = json.loads((folder / "saved" / "results.json").read_text())
    alpha = results["encoders"][name]["no_reference"]["lab"]["alpha"]
    rows = read_manifest(first)
    small = [Image.open(row.image).resize((40, 40), Image.Resampling.BICUBIC) for row in rows]
    x = crop_features(small, load_crop_encoder(name, crop=32, device="cpu")).astype(np.float64)
    ridge = Ridge(alpha, solver="svd").fit(x.reshape(-1, x.shape[2]), np.repeat([row.mos for row in rows], 5))
    wanted = ridge.predict(x.mean(axis=1)).clip(1, 5)
    scores = Scorer.from_pretrained(folder / "model", device="cpu").score([row.image for row in rows])
    assert [one.score for one in scores] == pytest.approx(wanted, abs=1e-3)


def test_what_cannot_be_probed_is_one_sentence(ground, capsys):
    folder, first, second = ground
    model = f"shamisa:{folder / 'model'}"
    for arguments, says in (
        (["--encoders", model], "Name data sets by --manifests"),
        (["--encoders", model, "--manifests", str(first), str(first)], "Two data sets are called first"),
        (["--encoders", model, "--manifests", str(first), "--size", "672"], "takes values such as NAME=VALUE"),
        (["--encoders", model, "--manifests", str(first), "--size", "other=672"], "no data set 'other'"),
        (["--encoders", model, "--manifests", str(first), "--scale", "first=0:100"], f"first={first}"),
        (["--encoders", "lite0", "--manifests", str(first), "--save", "true"], "--save true is for encoders shamisa:"),
        (["--encoders", model, "--manifests", str(first), "--references", f"first={folder / 'model'}"], "'c0'"),
        (["--encoders", model, "--manifests", str(first), "--cross_on", "most"], "one of test, all"),
    ):
        assert run(folder, *arguments) == 2
        assert says in capsys.readouterr().err
