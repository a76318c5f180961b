"""The model in plain torch has the ordinary loader's numbers, bit by bit, and leaves alone what it doesn't know."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from mriqa.embedded.packaged import default_model_folder
from mriqa.embedded.tiny_fastvlm import build_tiny_fastvlm
from mriqa.models import load_scoring_settings, load_vlm
from mriqa.plain_vlm import load_plain
from mriqa.plain_vlm.fast_vlm import PlainFastVlm
from mriqa.scoring import Scorer
from mriqa.scoring.digit_tree import DigitTree
from mriqa.scoring.prompts import prompt_batch

SIZES = [(448, 448), (60, 300), (448, 200), (33, 47), (1, 9), (9, 1), (1000, 90)]


def pictures() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    noise = [Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in SIZES]
    return [*noise, Image.fromarray(data.coffee()), Image.fromarray(data.astronaut()[:, :300])]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The architecture in another size, with keys shared by pairs of heads, 8-bit pixels and every weight drawn."""
    from transformers import FastVlmForConditionalGeneration

    folder = build_tiny_fastvlm(tmp_path_factory.mktemp("fastvlm"), image_size=96, grid=3, hidden_size=128)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    }
    model = FastVlmForConditionalGeneration(FastVlmForConditionalGeneration.config_class.from_dict(config))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    (folder / "mriqa.json").write_text((default_model_folder() / "mriqa.json").read_text())
    return folder


@pytest.mark.parametrize("which", ["packaged", "trained"])
def test_inputs_and_distributions_are_the_ordinary_loaders_bit_by_bit(which, trained):
    folder = default_model_folder() if which == "packaged" else trained
    settings = load_scoring_settings(folder)
    assert settings is not None
    loaded = load_plain(folder)
    assert loaded is not None and isinstance(loaded[0], PlainFastVlm)
    read = []
    for model, processor in (loaded, load_vlm(folder, dtype="float32", device="cpu")):
        inputs = prompt_batch(processor, settings.answer_format, pictures())
        probabilities = DigitTree.build(processor, settings.answer_format).probabilities(model, inputs)
        read.append({**inputs, "probabilities": probabilities})
    plain, ordinary = read
    assert set(plain) == set(ordinary)
    for name in plain:
        assert plain[name].dtype == ordinary[name].dtype and torch.equal(plain[name], ordinary[name]), name
    assert plain["probabilities"].std(0).max() > 1e-4  # they depend on the picture


def test_a_scorer_takes_the_plain_model_where_only_the_distribution_is_asked_for():
    plain = Scorer.from_pretrained(device="cpu")
    ordinary = Scorer(*load_vlm("default", device="cpu"), plain.answer_format, views=plain.views)
    assert isinstance(plain.backend.model, PlainFastVlm) and plain.readout_name == "expected"
    assert [one.score for one in plain.score(pictures())] == [one.score for one in ordinary.score(pictures())]
    for options in ({"readout": "greedy"}, {"dtype": "bfloat16"}):
        assert not isinstance(Scorer.from_pretrained(device="cpu", **options).backend.model, PlainFastVlm)


def changed(folder: Path, file: str, **settings: object) -> Path:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


@pytest.mark.parametrize(
    "file, settings",
    [
        ("config.json", {"projector_hidden_act": "relu"}),
        ("config.json", {"vision_config": {"model_type": "mriqa_lite_tower", "grid": 4, "hidden_size": 272, "x": 1}}),
        ("config.json", {"vision_feature_layer": -2}),
        ("config.json", {"tie_word_embeddings": False}),
        ("config.json", {"text_config": {"model_type": "llama"}}),
        ("processor_config.json", {"vision_feature_select_strategy": "default"}),
        ("processor_config.json", {"something": "new"}),
        ("tokenizer_config.json", {"add_bos_token": True}),
        ("tokenizer_config.json", {"bos_token": "<s>"}),
    ],
)
def test_settings_that_it_does_not_know_are_left_to_the_ordinary_loader(tmp_path, file, settings):
    folder = Path(shutil.copytree(default_model_folder(), tmp_path / "model"))
    assert load_plain(folder) is not None
    assert load_plain(changed(folder, file, **settings)) is None


def test_so_are_other_templates_other_models_and_broken_folders(tmp_path, tiny_model):
    assert load_plain(tiny_model) is None and load_plain(tmp_path) is None
    for number, spoil in enumerate(
        (
            lambda folder: (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ messages }}"),
            lambda folder: (folder / "added_tokens.json").write_text("{}"),
            lambda folder: (folder / "model.safetensors").write_bytes(b"no weights"),
            lambda folder: (folder / "tokenizer.json").write_text("{}"),
        )
    ):
        folder = Path(shutil.copytree(default_model_folder(), tmp_path / str(number)))
        spoil(folder)
        assert load_plain(folder) is None, number
