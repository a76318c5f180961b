"""The prepared default: its features are those that training and scoring look for; an unfinished one is made anew."""

import shutil

import pytest
import torch
from counted_passes import counted

from mriqa.answers import load_format
from mriqa.broad.broad_set import BroadSettings, read_details
from mriqa.embedded import DatasetSettings
from mriqa.embedded.eye import TILE
from mriqa.errors import SettingsError
from mriqa.frozen.cached_tower import cache_towers
from mriqa.frozen.store import FeatureStore
from mriqa.images import load_image
from mriqa.manifest import ManifestError, read_manifest
from mriqa.models import load_scoring_settings, load_vlm
from mriqa.scoring.prompts import prompt_batch
from mriqa.training.config import RunArguments
from mriqa.training.embedded_preparation import packaged_network, prepare, prepare_broad
from mriqa.training.embedded_runs import fill_in_embedded, scores_of
from mriqa.training.runs import load_policy

SMALL = DatasetSettings(train_images=6, val_images=3, test_images=3, size=64, scenes=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("embedded")


@pytest.fixture(scope="module")
def prepared(folder):
    return prepare(folder, settings=SMALL)


def rows_of(prepared):
    return [row for path in (prepared.train, prepared.val, prepared.test) for row in read_manifest(path)]


def test_the_tower_never_runs_again(prepared, tmp_path):
    """Nor does it for a model that was trained in the meantime and saved elsewhere, or in mixed precision."""
    pictures = [load_image(row.image) for row in rows_of(prepared)]
    answer_format = load_format("tiny")
    model, processor = load_vlm(prepared.model, device="cpu")
    with torch.inference_mode():
        expected = model(**prompt_batch(processor, answer_format, pictures)).logits
    seen = counted(model)
    cache_towers(model.requires_grad_(False), FeatureStore(prepared.features))
    with torch.inference_mode():
        logits = model(**prompt_batch(processor, answer_format, pictures)).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(**prompt_batch(processor, answer_format, pictures))
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)

    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, processor = load_vlm(tmp_path, device="cpu")
    seen_again = counted(again)
    cache_towers(again.requires_grad_(False), FeatureStore(prepared.features))
    with torch.inference_mode():
        assert torch.equal(again(**prompt_batch(processor, answer_format, pictures)).logits, logits)
    assert seen == seen_again == []


def test_training_finds_them_by_itself_and_scoring_gives_the_same(prepared, folder, monkeypatch):
    monkeypatch.setattr("mriqa.training.embedded_runs.prepare_default", lambda _: prepared)
    arguments = fill_in_embedded(RunArguments(embedded_dir=str(folder)))
    assert arguments.freeze_vision and arguments.vision_cache == str(prepared.features)
    assert fill_in_embedded(RunArguments(vision_cache="none")).vision_cache == "none"
    model, processor = load_policy(arguments)
    rows = rows_of(prepared)
    before = sorted(prepared.features.rglob("*.safetensors"))
    assert len(before) == len(rows)
    with torch.no_grad():
        model(**prompt_batch(processor, load_format("tiny"), [load_image(row.image) for row in rows]))
    from mriqa.scoring import Scorer

    plain = Scorer(*load_vlm(prepared.model), load_scoring_settings(prepared.model).answer_format)
    expected = [score.score for score in plain.score([row.image for row in rows])]
    assert scores_of(prepared.model, folder, rows) == pytest.approx(expected, abs=1e-4)
    assert sorted(prepared.features.rglob("*.safetensors")) == before


def test_training_pictures_are_standardised(prepared):
    model, processor = load_vlm(prepared.model, device="cpu")
    pictures = [load_image(row.image) for row in read_manifest(prepared.train)]
    pixels = processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        features = model.model.vision_tower(pixels).last_hidden_state.double()
    torch.testing.assert_close(features.mean(dim=(0, 2, 3)).float(), torch.zeros(272), atol=1e-3, rtol=0)


def test_a_model_without_its_settings_was_left_unfinished(prepared, tmp_path):
    shutil.copytree(prepared.model.parent / "data", tmp_path / "data")
    (tmp_path / "untrained").mkdir()
    again = prepare(tmp_path, settings=SMALL)
    assert load_scoring_settings(again.model) == load_scoring_settings(prepared.model)
    for name, weight in load_vlm(prepared.model)[0].state_dict().items():
        assert torch.equal(weight, load_vlm(again.model)[0].state_dict()[name])
    written = (again.model / "mriqa.json").stat().st_mtime_ns
    assert prepare(tmp_path, settings=SMALL) == again and (again.model / "mriqa.json").stat().st_mtime_ns == written


def test_the_broad_set_takes_the_place_of_the_labelled_one(tmp_path, monkeypatch):
    """Its model sees tiles through the packaged one's network, and its features lie where training looks."""
    pytest.importorskip("piq")
    settings = BroadSettings(train_images=12, val_images=3, test_images=3, size=192, scenes=3)
    broad = prepare_broad(tmp_path, settings=settings)
    assert [len(read_details(path)) for path in (broad.train, broad.val, broad.test)] == [12, 3, 3]
    model, _ = load_vlm(broad.model, device="cpu")
    assert model.config.vision_config.tile == TILE
    lent = model.get_submodule("model.vision_tower").backbone.state_dict()
    assert all(torch.equal(lent[name], weight) for name, weight in packaged_network().state_dict().items())
    assert len(sorted(broad.features.rglob("*.safetensors"))) == len(rows_of(broad))
    asked = []
    monkeypatch.setattr("mriqa.training.embedded_runs.prepare_broad", lambda *a, **k: asked.append((a, k)) or broad)
    arguments = RunArguments(embedded_dir=str(tmp_path), embedded_set="broad", embedded_images=12)
    assert fill_in_embedded(arguments).train_manifest == str(broad.train)
    assert asked == [((str(tmp_path), None), {"train_images": 12})]


@pytest.mark.parametrize(
    "wrong", [{"embedded_set": "wide"}, {"embedded_set": "broad", "embedded_distortions": ["jpeg"]}]
)
def test_a_set_that_is_none_of_the_two_is_refused(tmp_path, wrong):
    with pytest.raises(SettingsError, match="embedded_"):
        fill_in_embedded(RunArguments(embedded_dir=str(tmp_path), **wrong))


@pytest.mark.parametrize("asked, there", [("broad", "dataset.json"), ("labelled", "settings.json")])
def test_a_folder_of_the_other_set_is_refused_and_left_alone(tmp_path, asked, there):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / there).write_text("{}")
    with pytest.raises(SettingsError, match=f"holds the other set of pictures, not the {asked} one"):
        fill_in_embedded(RunArguments(embedded_dir=str(tmp_path), embedded_set=asked))
    assert list(tmp_path.rglob("*")) == [tmp_path / "data", tmp_path / "data" / there]


@pytest.mark.parametrize("option", ["train_manifest", "val_manifest"])
def test_a_bad_manifest_is_refused_before_anything_is_built(tmp_path, option):
    manifest = tmp_path / "mine.csv"
    manifest.write_text("filename,quality\na.png,3\n")
    with pytest.raises(ManifestError, match="it has filename, quality"):
        fill_in_embedded(RunArguments(embedded_dir=str(tmp_path / "embedded"), **{option: str(manifest)}))
    assert not (tmp_path / "embedded").exists()
