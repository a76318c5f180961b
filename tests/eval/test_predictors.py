"""Models by name: files of scores, classic metrics, their refusals."""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from small_protocol import no_scorer

from mriqa import Scorer
from mriqa.eval.predictors import ClassicMetric, PredictorError, open_predictors
from mriqa.features.crop_features import crop_features, load_crop_encoder
from mriqa.images import ImageError, load_image
from mriqa.manifest import RatedImage
from mriqa.pretrain.probe import RidgeProbe
from mriqa.pretrain.quality_encoder import build_encoder, save_encoder
from mriqa.pretrain.saved_probe import SavedProbe, save_probe
from mriqa.views import ViewSettings


def row(path, name="a"):
    return RatedImage(Path(path), 3.0, None, "d", name, name)


def open_picture(row):
    return load_image(row.image)


def test_a_file_of_scores_is_read_by_id_path_and_name(tmp_path):
    table = [
        {"id": "a", "score": 2.0},
        {"image": str(tmp_path / "b.png"), "score": "3.5"},
        {"image": "x/c.png", "score": 1},
    ]
    table += [{"image": "y/d.png", "score": None}]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in table))
    (predictor,) = open_predictors([f"csv:{tmp_path / 'mine.jsonl'}"], no_scorer)
    rows = [row("z/a.png"), row(tmp_path / "b.png", "b"), row("z/c.png", "c"), row("z/d.png", "d"), row("z/e.png", "e")]
    found = list(predictor.predict(rows, open_picture))
    assert [one.score for one in found[:3]] == [2.0, 3.5, 1.0]
    assert "has no score for 'd'" in found[3].error and "has no row for 'e'" in found[4].error
    assert predictor.name == "mine" and len(predictor.about["sha256"]) == 64


def test_a_name_that_is_there_twice_is_no_key(tmp_path):
    (tmp_path / "s.csv").write_text("image,score\na/1.png,1\nb/1.png,2\n")
    (predictor,) = open_predictors([f"csv:{tmp_path / 's.csv'}"], no_scorer)
    (found,) = predictor.predict([row("c/1.png", "q")], open_picture)
    assert math.isnan(found.score)


@pytest.mark.parametrize(
    "text,words",
    [
        ("id,value\na,1\n", "no `score`; its keys are id, value"),
        ("id,score\na,good\n", "the score 'good' is no number"),
        ("name,score\na,1\n", "neither `id` nor `image`"),
    ],
)
def test_a_bad_file_of_scores_is_one_sentence(tmp_path, text, words):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(PredictorError, match=words):
        open_predictors([f"csv:{tmp_path / 's.csv'}"], no_scorer)


def test_a_broken_line_is_one_sentence(tmp_path):
    (tmp_path / "s.jsonl").write_text('{"id": "a", "score": 1}\n{"id": \n')
    with pytest.raises(PredictorError, match="Line 2 of .*s.jsonl"):
        open_predictors([f"csv:{tmp_path / 's.jsonl'}"], no_scorer)


def test_missing_things_are_named(tmp_path, monkeypatch):
    with pytest.raises(PredictorError, match="can't be read: No such file"):
        open_predictors([f"csv:{tmp_path / 'none.csv'}"], no_scorer)
    with pytest.raises(PredictorError, match="pyiqa:niqe"):
        open_predictors(["niqe"], no_scorer)
    missing = [("pypiqe", "piqe", "baselines"), ("brisque", "brisque", "baselines")]
    for module, spec, cure in [*missing, ("pyiqa", "pyiqa:niqe", "pip install pyiqa")]:
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(PredictorError, match=cure):
            open_predictors([spec], no_scorer)


def test_a_saved_probe_is_read_beyond_the_scale(tmp_path):
    """The folder as a scorer holds its scores to 1..5; as shamisa:FOLDER they are the probe's."""
    torch.manual_seed(0)
    save_encoder(build_encoder("test_resnet"), tmp_path / "model", {"crop": 32}, "")
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    Image.fromarray(noise // 2).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no picture")
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    encoder = load_crop_encoder(f"shamisa:{tmp_path / 'model'}", crop=32, device="cpu")
    features_NVF = crop_features(pictures, encoder)
    weights_F = np.random.default_rng(1).normal(0, 3, features_NVF.shape[2])
    save_probe(SavedProbe(RidgeProbe(weights_F, 40.0, 1.0), encoder.key, 32), tmp_path / "model")

    def load(model, readout):
        return Scorer.from_pretrained(model, device="cpu")

    specs = [str(tmp_path / "model"), f"raw=shamisa:{tmp_path / 'model'}"]
    held, raw = open_predictors(specs, load)
    rows = [row(path) for path in (*pictures, tmp_path / "c.png")]
    wanted = features_NVF.mean(axis=1, dtype=float) @ weights_F + 40.0
    assert wanted[0] != wanted[1]
    assert [one.score for one in list(held.predict(rows, open_picture))[:2]] == [5.0, 5.0]
    *found, broken = raw.predict(rows, open_picture)
    assert [one.score for one in found] == pytest.approx(wanted, abs=1e-4) and raw.name == "raw"
    assert math.isnan(broken.score) and "c.png" in broken.error

    def load_cropped(model, readout):
        scorer = load(model, readout)
        scorer.views = ViewSettings(crop=32)
        return scorer

    with pytest.raises(PredictorError, match="leave out --resize and --crop"):
        open_predictors(specs[1:], load_cropped)


def test_a_model_without_a_probe_is_no_shamisa_encoder():
    with pytest.raises(PredictorError, match="shamisa:default is no encoder with a saved probe"):
        open_predictors(["shamisa:default"], lambda model, readout: SimpleNamespace(backend=object()))


def test_labels_and_names_that_are_taken(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "s.csv").write_text("id,score\na,1\n")
    specs = [f"csv:{tmp_path / folder / 's.csv'}" for folder in ("a", "b")]
    first, second = open_predictors(specs, no_scorer)
    assert (first.name, second.name) == ("s", specs[1])
    (labelled,) = open_predictors([f"ours={specs[0]}"], no_scorer)
    assert labelled.name == "ours"
    with pytest.raises(PredictorError, match="Two models are called 'ours'"):
        open_predictors([f"ours={spec}" for spec in specs], no_scorer)


def test_one_model_with_several_readouts():
    import mriqa

    loaded = []

    class Silent:
        readout_name = "greedy"

    def load(model, readout):
        loaded.append((model, readout))
        return mriqa.Scorer(None, None, backend=Silent())

    predictors = open_predictors(["greedy:runs/a", "expected:runs/a", "runs/a"], load)
    assert loaded == [("runs/a", "greedy"), ("runs/a", "expected"), ("runs/a", None)]
    assert [one.name for one in predictors] == ["a (greedy)", "a (expected)", "a"]


def test_a_metric_that_fails_on_a_picture_stops_nothing(tmp_path):
    def metric(pixels):
        if pixels.mean() < 10:
            raise ZeroDivisionError("black")
        return math.inf if pixels.mean() > 250 else float(pixels.mean())

    for name, level in (("dark", 0), ("grey", 100), ("white", 255)):
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / f"{name}.png")
    rows = [row(tmp_path / f"{name}.png") for name in ("dark", "grey", "white", "none")]
    found = list(ClassicMetric("m", metric, {}).predict(rows, open_picture))
    assert "ZeroDivisionError: black" in found[0].error and found[1].score == 100.0
    assert "gives inf" in found[2].error and "none.png" in found[3].error
    with pytest.raises(ImageError):
        open_picture(rows[3])


@pytest.mark.parametrize("name", ["brisque", "piqe"])
def test_a_classic_metric_prefers_the_picture_without_noise(name, tmp_path):
    pytest.importorskip({"brisque": "brisque", "piqe": "pypiqe"}[name], reason="pip install 'mriqa[baselines]'")
    from skimage.data import astronaut

    clean = astronaut()[100:356, 100:356]
    noisy = np.clip(clean + np.random.default_rng(0).normal(0, 60, clean.shape), 0, 255).astype(np.uint8)
    for kind, pixels in (("clean", clean), ("noisy", noisy)):
        Image.fromarray(pixels).save(tmp_path / f"{kind}.png")
    (predictor,) = open_predictors([name], no_scorer)
    clean_score, noisy_score = predictor.predict(
        [row(tmp_path / "clean.png"), row(tmp_path / "noisy.png")], open_picture
    )
    assert clean_score.score > noisy_score.score
    assert "turned" in predictor.about["score"]
