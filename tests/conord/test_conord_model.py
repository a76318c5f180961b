"""Encoders by name, their crops, ranks on their own scale, the learning rate, and models that come back from disk."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mriqa.conord import ConOrdModel
from mriqa.conord.backbone import build_encoder, rebuild_encoder
from mriqa.conord.crops import CropSettings, as_pixels, crops
from mriqa.conord.fitting import TrainingSettings
from mriqa.conord.ranked_sets import TrainingDataset, read_folds, read_ranked_set
from mriqa.heads import HeadError, RankIndex
from mriqa.images import ImageError

NOISE = np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ConOrdModel.build("timm:test_resnet", pretrained=False, width=8, views=CropSettings(crop=32), k=2)


# Crops


def test_three_crops_are_top_left_bottom_right_and_centre():
    found = [np.array(crop) for crop in crops(Image.fromarray(NOISE), CropSettings(crop=32))]
    expected = [NOISE[:32, :32], NOISE[8:, 20:], NOISE[4:36, 10:42]]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    (middle,) = crops(Image.fromarray(NOISE), CropSettings(crop=32, count=1))
    assert np.array_equal(np.array(middle), expected[2])
    assert torch.equal(as_pixels(middle), torch.from_numpy(expected[2]).permute(2, 0, 1))


@pytest.mark.parametrize("size", [(5, 9), (1, 3000), (3000, 1), (64, 64), (1, 1)])
@pytest.mark.parametrize("settings", [CropSettings(32), CropSettings(32, limit=40), CropSettings(32, size=16)])
def test_every_picture_gives_crops_of_the_same_size(size, settings):
    assert [crop.size for crop in crops(Image.new("RGB", size), settings)] == [(32, 32)] * 3


# Encoders


def test_a_timm_encoder_is_that_model_on_normalised_pixels():
    import timm

    encoder = build_encoder("timm:test_resnet", pretrained=False).eval()
    reference = timm.create_model("test_resnet", num_classes=0).eval()
    reference.load_state_dict(encoder.network.state_dict())
    pixels = as_pixels(Image.fromarray(NOISE[:, :40]))[None]
    expected = reference((pixels / 255 - 0.5) / 0.5)
    torch.testing.assert_close(encoder(pixels), expected)
    assert encoder.width == expected.shape[1]
    again = rebuild_encoder(json.loads(json.dumps(encoder.about))).eval()
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again(pixels), expected)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A tiny CLIP with both halves, and its image processor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    half = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**half, "vocab_size": 10}, vision_config={**half, "image_size": 32, "patch_size": 16}
    )
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    return folder


def test_a_transformers_encoder_is_the_vision_half(clip_folder):
    from transformers import CLIPVisionModel

    encoder = build_encoder(f"transformers:{clip_folder}").eval()
    pixels = as_pixels(Image.fromarray(NOISE[:32, :32]))[None]
    mean, std = (torch.tensor(encoder.about[key])[:, None, None] for key in ("mean", "std"))
    assert math.isclose(float(mean[0]), 0.48145466, rel_tol=1e-6)  # CLIP's own
    reference = CLIPVisionModel.from_pretrained(clip_folder).eval()
    expected = reference(pixel_values=(pixels / 255 - mean) / std).pooler_output
    torch.testing.assert_close(encoder(pixels), expected)
    again = rebuild_encoder(json.loads(json.dumps(encoder.about))).eval()
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again(pixels), expected)
    assert str(clip_folder.parent) not in json.dumps(encoder.about)


def test_the_embedded_encoder_has_the_tower_s_statistics_and_learns():
    from mriqa.embedded.lite_tower import LiteTower, LiteTowerConfig

    encoder = build_encoder("embedded")
    tower = LiteTower(LiteTowerConfig(grid=2)).eval()
    tower.load_imagenet_weights()
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (1, 3, 64, 64), dtype=np.uint8))
    with torch.no_grad():
        cells = tower.statistics((pixels.float() - 127) / 128).flatten(2)
        encoder.eval()
        found = encoder(pixels)
    expected = torch.cat([cells.mean(dim=2), cells.std(dim=2, correction=0)], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=2e-3)  # ours has 1e-6 in its square roots
    encoder.train()
    encoder(torch.full((2, 3, 64, 64), 128, dtype=torch.uint8)).sum().backward()  # flat: no deviation anywhere
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def test_a_frozen_encoder_stays_as_it_is(model):
    model.encoder.freeze()
    model.train()
    before = {name: tensor.clone() for name, tensor in model.encoder.state_dict().items()}
    model(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)).sum().backward()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.encoder.state_dict().items())
    assert all(p.grad is None for p in model.encoder.parameters()) and model.projection.linear.weight.grad is not None


@pytest.mark.parametrize("name, sentence", [
    ("resnet18", "There is no encoder 'resnet18': write timm:NAME"),
    ("timm:", "There is no encoder 'timm:'"),
    ("timm:resnet81", "timm has no model 'resnet81'; did you mean 'resnet"),
    ("timm:resnet18.nobody", "timm cannot make 'resnet18.nobody'"),
    ("transformers:/nowhere/at/all", "transformers cannot load '/nowhere/at/all'"),
])  # fmt: skip
def test_unknown_encoders_are_one_sentence(name, sentence):
    with pytest.raises(HeadError, match=sentence) as caught:
        build_encoder(name)
    assert "\n" not in str(caught.value)


# The model


def test_a_prediction_is_the_mean_rank_of_the_nearest_mean_embeddings(model, tmp_path):
    pictures = [
        Image.fromarray(np.roll(NOISE, shift, axis=1) // divisor) for shift, divisor in ((0, 1), (9, 2), (3, 4), (5, 1))
    ]
    model.eval()
    with torch.no_grad():
        z = torch.stack([
            torch.stack([model(as_pixels(crop)[None])[0] for crop in crops(picture, model.views)]).mean(dim=0)
            for picture in pictures
        ])  # fmt: skip
    z = F.normalize(z.double(), dim=1)
    ranks = torch.tensor([20.0, 31.5, 64.0, 47.0], dtype=torch.float64)
    model.index = RankIndex(model.embed([model.load_views(picture) for picture in pictures[:3]]), ranks[:3])
    nearest = (z[:, None] - z[None, :3]).norm(dim=2).argsort(dim=1)
    for k in (1, 2, 3):
        torch.testing.assert_close(
            model.predict(pictures, k=k, batch_size=3).double(), ranks[nearest[:, :k]].mean(dim=1)
        )
    torch.testing.assert_close(model.predict(pictures), model.predict(pictures, k=2))
    assert model.predict([]).shape == (0,)

    model.rank_names = ["age"]
    model.save(tmp_path / "model")
    again = ConOrdModel.load(tmp_path / "model")
    assert torch.equal(again.predict(pictures), model.predict(pictures)) and again.rank_names == ["age"]
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"conord.json", "model.safetensors", "index"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pytest.raises(HeadError, match="is there already"):
        model.save(tmp_path / "model")


def test_refusals_of_the_model(model, tmp_path):
    with pytest.raises(HeadError, match="no rank index yet"):
        model.predict([Image.fromarray(NOISE)])
    with pytest.raises(HeadError, match="no rank index yet"):
        model.save(tmp_path / "model")
    with pytest.raises(HeadError, match="holds no ConOrd model"):
        ConOrdModel.load(tmp_path)
    model.index = RankIndex(torch.eye(8), torch.arange(8.0))
    with pytest.raises(ImageError, match="does not exist"):
        model.predict([tmp_path / "none.png"])
    model.save(tmp_path / "model")
    path = tmp_path / "model" / "conord.json"
    about = json.loads(path.read_text())
    for changed, sentence in (
        ({**about, "format": "other"}, "no ConOrd model of this version"),
        ({**about, "width": 9}, "do not fit its conord.json"),
        ({**about, "encoder": {"kind": "timm", "name": "resnot"}}, "description cannot be used"),
        ({**about, "encoder": {**about["encoder"], "kind": "pickle"}}, "unknown kind 'pickle'"),
        ({key: value for key, value in about.items() if key != "views"}, "lacks or misstates 'views'"),
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(HeadError, match=sentence):
            ConOrdModel.load(tmp_path / "model")
    path.write_text(json.dumps(about))
    (tmp_path / "model" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(HeadError, match="do not fit its conord.json"):
        ConOrdModel.load(tmp_path / "model")


# Training


def test_learning_rate_of_the_paper():
    """Five epochs from η to 5 η on a straight line, then a cosine to 0 (Appendix B.2); for ages the cosine alone."""
    settings = TrainingSettings(learning_rate=2e-6, epochs=25)
    expected = {0: 2e-6, 2.5: 6e-6, 5: 1e-5, 10: 1e-5 * (1 + math.cos(math.pi / 4)) / 2, 15: 5e-6, 25: 0.0}
    assert all(math.isclose(settings.rate(epoch), rate, abs_tol=1e-18) for epoch, rate in expected.items())
    ages = TrainingSettings(learning_rate=5e-6, epochs=10, warmup_epochs=0)
    assert (
        ages.rate(0) == 5e-6 and math.isclose(ages.rate(5), 2.5e-6) and math.isclose(ages.rate(10), 0.0, abs_tol=1e-18)
    )


VIEWS = [
    [torch.full((3, 2, 2), 10 * place + view) + torch.tensor([[0, 1], [0, 1]]) for view in (0, 3, 6)]
    for place in range(50)
]


def corners(draws, place):
    """The top left values of a place's views, which tell view and mirroring: (P, V) as a list."""
    return (draws[place][0][..., 0, 0, 0] - 10 * place).tolist()


def test_draws_depend_on_seed_epoch_and_place_alone():
    once, again = (TrainingDataset(VIEWS, 7, 3, flip=True, whole=False) for _ in range(2))
    assert all(torch.equal(once[place][0], again[place][0]) for place in (4, 0, 4, 49))
    other = TrainingDataset(VIEWS, 7, 4, flip=True, whole=False)
    assert any(not torch.equal(once[place][0], other[place][0]) for place in range(50))
    firsts = {tuple(map(tuple, corners(once, place))) for place in range(50)}
    assert firsts == {((value,),) for value in (0, 1, 3, 4, 6, 7)}  # one of three views, mirrored and not


def test_a_draw_is_all_views_or_one_and_a_pair_never_the_same_twice():
    whole = TrainingDataset(VIEWS, 7, 3, flip=True)
    assert {tuple(corners(whole, place)[0]) for place in range(50)} == {(0, 3, 6), (1, 4, 7)}  # mirrored together
    for flip in (False, True):
        pairs = [corners(TrainingDataset(VIEWS, 7, 3, flip, whole=True, pair=True), place) for place in range(50)]
        assert all(sorted(pair) == [[0, 3, 6], [1, 4, 7]] for pair in pairs)  # the picture and its mirror image
        pairs = [corners(TrainingDataset(VIEWS, 7, 3, flip, whole=False, pair=True), place) for place in range(50)]
        assert all(first // 3 != second // 3 for (first,), (second,) in pairs)
        assert {value for pair in pairs for (value,) in pair} == ({0, 1, 3, 4, 6, 7} if flip else {0, 3, 6})
    single = TrainingDataset([views[:1] for views in VIEWS], 7, 3, flip=False, whole=False, pair=True)
    assert corners(single, 5) == [[0], [1]]


def test_training_averages_the_crops_as_the_test_does(model):
    views = [model.load_views(Image.fromarray(np.roll(NOISE, shift, axis=1))) for shift in (0, 9)]
    draws = TrainingDataset(views, 0, 0, flip=False)
    batch_BPV = torch.stack([draws[place][0] for place in range(2)])
    assert batch_BPV.shape == (2, 1, 3, 3, 32, 32)
    model.eval()
    torch.testing.assert_close(model.mean_embedding(batch_BPV[:, 0]), model.embed(views))


# Ranks


def test_vector_ranks_and_mixed_manifests(tmp_path):
    lines = []
    for name, pitch, yaw in (("a.png", -40, 45), ("b.png", 10, -45), ("c.png", -3.25, 7.5)):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
        lines.append(json.dumps({"image": name, "pitch": pitch, "yaw": yaw}))
    manifest = tmp_path / "gaze.jsonl"
    manifest.write_text("\n".join(lines))
    gaze = read_ranked_set(manifest, vector=["pitch=-40:10", "yaw=-45:45"])
    torch.testing.assert_close(gaze.ranks, torch.tensor([[-40, 45], [10, -45], [-3.25, 7.5]], dtype=torch.float64))
    assert (gaze.names, gaze.span, gaze.video) == (["pitch", "yaw"], 90, False)
    assert [(scale.low, scale.high) for scale in gaze.scales] == [(-40, 10), (-45, 45)]
    for vector, sentence in (
        (["pitch"], "Write a number of a vector rank as KEY=LOW:HIGH"),
        (["pitch=0:10"], "outside the declared scale"),
    ):
        with pytest.raises(ValueError, match=sentence):
            read_ranked_set(manifest, vector=vector)
    (tmp_path / "d.mp4").write_bytes(b"0")
    manifest.write_text("\n".join([*lines, json.dumps({"image": "d.mp4", "pitch": 0, "yaw": 0})]))
    with pytest.raises(HeadError, match="1 of 4 rows of .* are videos"):
        read_ranked_set(manifest, vector=["pitch=-40:10"])


def test_folds_are_those_the_manifest_names(tmp_path):
    lines = []
    for name, fold in (("a.png", 0), ("b.png", 4), ("c.png", 998)):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
        lines.append({"image": name, "mos": 3, "fold": fold})
    manifest = tmp_path / "ages.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    assert read_folds(manifest, "fold") == {"a.png": 0, "b.png": 4, "c.png": 998}
    lines[1]["fold"] = 1.5
    manifest.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(HeadError, match="Folds are whole numbers"):
        read_folds(manifest, "fold")


def test_a_model_of_regression_reads_its_ranks_and_comes_back(tmp_path):
    torch.manual_seed(0)
    views = CropSettings(crop=32)
    made = ConOrdModel.build("timm:test_resnet", pretrained=False, width=8, views=views, read_numbers=1)
    made.reading.standardise(torch.tensor([10.0, 20.0, 60.0]))
    made.index = RankIndex(torch.eye(8)[:3], torch.tensor([10.0, 20.0, 60.0]))
    picture = Image.fromarray(NOISE)
    z = made.embed([made.load_views(picture)])[0]
    std = math.sqrt(((10 - 30) ** 2 + (20 - 30) ** 2 + (60 - 30) ** 2) / 3)
    expected = 30 + std * (made.reading.linear.weight[0] @ z + made.reading.linear.bias[0]).item()
    assert made.predict([picture]).tolist() == pytest.approx([expected], rel=1e-5)
    made.save(tmp_path / "model")
    assert torch.equal(ConOrdModel.load(tmp_path / "model").predict([picture]), made.predict([picture]))
