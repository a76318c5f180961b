"""Each encoder against a plain computation by its definition, without downloads."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from mriqa.embedded import build_tiny_fastvlm, build_tiny_qwen3_vl
from mriqa.features import FeatureError, extract, load_encoder, timm_encoder, vlm_encoder
from mriqa.features.encoders import LAST_STAGES, TIMM_NAMES
from mriqa.models import load_vlm


def pictures(*sizes: tuple[int, int]) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def plain_timm(net: torch.nn.Module, image: Image.Image, side: int, channel_axis: int, skip: int) -> np.ndarray:
    pixels = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float64) / 255
    pixels = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        maps = net.double().eval()(torch.tensor(pixels).permute(2, 0, 1)[None])
    return np.concatenate([m.movedim(channel_axis, 1)[0].flatten(1).mean(dim=1).numpy() for m in maps[skip:]])


@pytest.mark.parametrize(
    ("architecture", "side", "channel_axis", "skip", "width"),
    [("resnet50", 64, 1, 1, 3840), ("swin_tiny_patch4_window7_224", 224, 3, 0, 1440)],
)
def test_published_backbones_give_each_stage_averaged(architecture, side, channel_axis, skip, width):
    torch.manual_seed(0)
    net = timm.create_model(architecture, features_only=True)
    torch.manual_seed(0)
    encoder = timm_encoder(architecture, pretrained=False, image_size=side, device="cpu")
    (image,) = pictures((90, 70))
    features = extract([image], encoder)
    assert features.shape == (1, width) and features.dtype == np.float32
    expected = plain_timm(net, image, side, channel_axis, skip)
    np.testing.assert_allclose(features[0], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_the_pooled_resnet_is_what_its_classifier_would_read():
    torch.manual_seed(0)
    features_only = timm.create_model("resnet50", features_only=True)
    whole = timm.create_model("resnet50", num_classes=0).eval()
    whole.load_state_dict(features_only.state_dict())
    torch.manual_seed(0)
    encoder = timm_encoder("resnet50", pretrained=False, image_size=64, device="cpu", last_only=True)
    (image,) = pictures((90, 70))
    (found,) = extract([image], encoder)
    with torch.no_grad():
        (expected,) = whole(encoder.prepare(image)[None]).numpy()
    assert found.shape == (2048,)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_last_stages_are_the_end_of_all_stages_under_names_of_their_own():
    every, last = load_encoder("lite0", device="cpu"), load_encoder("lite0_stage4", device="cpu")
    images = pictures((64, 96), (40, 33))
    np.testing.assert_array_equal(extract(images, last), extract(images, every)[:, -320:])
    assert every.key != last.key and every.name != last.name
    assert LAST_STAGES["resnet50_pooled"] == "resnet50" and LAST_STAGES["swin_b_stage4"] == "swin_b"


def test_swin_b_is_as_wide_as_the_paper_says():
    with torch.device("meta"):
        net = timm.create_model(TIMM_NAMES["swin_b"], features_only=True)
    assert sum(net.feature_info.channels()) == 1920 and min(net.feature_info.reduction()) == 4


def test_lite0_has_its_imagenet_weights_and_takes_any_size():
    encoder = load_encoder("lite0", device="cpu")
    images = pictures((64, 96), (40, 33), (64, 96), (8, 5))
    features = extract(images, encoder)
    assert features.shape == (4, 24 + 40 + 112 + 320)
    for image, row in zip(images, features):  # alone or in company, the features are the same
        np.testing.assert_allclose(extract([image], encoder)[0], row, rtol=1e-3, atol=1e-4)
    assert encoder.key == load_encoder("lite0", device="cpu").key  # loaded, not drawn


def test_lite0_quality_begins_with_the_means_of_its_two_stages():
    """Means over cells of means over places are means over all places, which lite0 gives for all its stages."""
    image = pictures((128, 128))
    quality, stages = (extract(image, load_encoder(name, "cpu"))[0] for name in ("lite0_quality", "lite0"))
    assert quality.shape == (544,)
    np.testing.assert_allclose(quality[:24], stages[:24], rtol=1e-3, atol=1e-4)  # stride 4
    np.testing.assert_allclose(quality[48:160], stages[64:176], rtol=1e-3, atol=1e-4)  # stride 16
    grey = extract([Image.new("RGB", (128, 128), "grey")], load_encoder("lite0_quality", "cpu"))[0]
    assert np.linalg.norm(grey[272:]) < np.linalg.norm(quality[272:])  # cells of a flat picture differ less


def test_random_weights_are_another_encoder():
    keys = set()
    for seed, size in ((0, 32), (0, 32), (1, 32), (0, 48)):
        torch.manual_seed(seed)
        keys.add(timm_encoder("resnet18", pretrained=False, image_size=size, device="cpu").key)
    assert len(keys) == 3


@pytest.fixture(scope="module", params=[build_tiny_qwen3_vl, build_tiny_fastvlm])
def vlm(request, tmp_path_factory):
    return load_vlm(request.param(tmp_path_factory.mktemp("vlm") / "model"), device="cpu")


def test_a_vlm_gives_the_mean_of_its_image_tokens(vlm):
    model, processor = vlm
    images = pictures((96, 64), (64, 64))
    encoder = vlm_encoder(model, processor)
    features = extract(images, encoder)
    with torch.no_grad():
        for image, row in zip(images, features):
            inputs = processor.image_processor(images=[image], return_tensors="pt")
            tokens = model.get_image_features(**inputs).pooler_output[0]
            np.testing.assert_allclose(row, tokens.double().mean(dim=0).numpy(), rtol=1e-3, atol=1e-5)


def test_a_vlm_in_training_is_left_in_training_and_never_served_old_features(vlm):
    model, processor = vlm
    language = next(p for name, p in model.named_parameters() if "language_model" in name)
    vision = [p for name, p in model.named_parameters() if "language_model" not in name and "lm_head" not in name][-1]
    before = vlm_encoder(model, processor).key
    model.train()
    modes = [module.training for module in model.modules()]
    extract(pictures((64, 64)), vlm_encoder(model, processor))
    assert [module.training for module in model.modules()] == modes
    with torch.no_grad():
        language.add_(0.1)
        assert vlm_encoder(model, processor).key == before
        vision.add_(0.1)
        assert vlm_encoder(model, processor).key != before
        vision.sub_(0.1)


def test_a_function_in_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\ndef mean(images): return np.stack([np.asarray(i).mean((0, 1)) for i in images])"
    )
    encoder = load_encoder(f"{file}:mean")
    assert np.allclose(extract([Image.new("RGB", (9, 9), (1, 2, 3))], encoder), [[1, 2, 3]])
    file.write_text(file.read_text().replace("mean((0, 1))", "std((0, 1))"))
    assert load_encoder(f"{file}:mean").key != encoder.key


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet", "Unknown encoder 'resnet'; choose one of lite0"),
        ("timm:resnet5000", "timm knows no model 'resnet5000'"),
        ("nowhere.py:f", "There is no file nowhere.py"),
    ],
)
def test_an_encoder_that_is_not_there(name, says):
    with pytest.raises(FeatureError, match=says):
        load_encoder(name)


def test_weights_that_cannot_be_downloaded(monkeypatch):
    def offline(*_, **__):
        raise OSError("Cannot find the requested files\nmore lines")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(FeatureError, match="resnet50 can't be loaded.*or take lite0") as caught:
        load_encoder("resnet50")
    assert "\n" not in str(caught.value)


def test_levels_are_the_sums_of_the_distribution_of_scores(tiny_model):
    from mriqa import Scorer

    images = pictures((64, 64), (48, 80))
    found = extract(images, load_encoder(f"levels:{tiny_model}", device="cpu"))
    scorer = Scorer.from_pretrained(tiny_model, "expected", device="cpu", distributions=True)
    for row, score in zip(found, scorer.score(images)):
        own = score.distribution
        expected = [sum(p for s, p in zip(own.scores_S, own.shares_S) if level <= int(s + 0.5) < level + 1)
                    for level in range(1, 6)]  # fmt: skip
        np.testing.assert_allclose(np.exp(row), expected, rtol=1e-3, atol=1e-6)
