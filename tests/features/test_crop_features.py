"""A probe sees the centre and the corners of a picture, and of its half, through any encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mriqa.errors import UserError
from mriqa.features import callable_encoder
from mriqa.features.crop_features import crop_features, five_crops, load_crop_encoder, two_sizes
from mriqa.pretrain.quality_encoder import build_encoder, save_encoder
from mriqa.views import ViewSettings, enlarged


def ramp(width: int, height: int) -> Image.Image:
    """Red tells the column, green the row."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8))


MEANS = callable_encoder("means", lambda images: np.stack([np.asarray(each).mean(axis=(0, 1)) for each in images]))


def test_rows_by_hand():
    image = ramp(100, 60)
    found = crop_features([image, ramp(64, 64)], two_sizes(MEANS, 32))
    assert found.shape == (2, 5, 6)
    half = image.resize((50, 30), Image.Resampling.BICUBIC)
    scale = 32 / 30
    half = half.resize((round(50 * scale), 32), Image.Resampling.BICUBIC)
    for columns, own in ((slice(0, 3), image), (slice(3, 6), half)):
        pixels = np.asarray(own, dtype=np.float64)
        height, width, _ = pixels.shape
        top, left = (height - 32) // 2, (width - 32) // 2
        places = [(top, left), (0, 0), (0, width - 32), (height - 32, 0), (height - 32, width - 32)]
        wanted = [pixels[y : y + 32, x : x + 32].mean(axis=(0, 1)) for y, x in places]
        assert found[0, :, columns] == pytest.approx(np.array(wanted), abs=1e-3)


def test_a_pretrained_encoder_gives_unit_features_of_each_crop(tmp_path):
    torch.manual_seed(0)
    network = build_encoder("test_resnet").eval()
    save_encoder(network, tmp_path / "model", {"crop": 32}, "")
    encoder = load_crop_encoder(f"shamisa:{tmp_path / 'model'}", crop=32, device="cpu")
    images = [ramp(90, 70), ramp(70, 90).rotate(180)]
    found = crop_features(images, encoder)
    assert found.shape == (2, 5, 2 * network.width)
    crops = [np.asarray(each, dtype=np.float32) / 255 for each in five_crops(images[1], 32)]
    with torch.no_grad():
        wanted = network(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2))
    assert found[1, :, : network.width] == pytest.approx(wanted.numpy(), abs=1e-5)
    assert encoder.key != load_crop_encoder(f"shamisa:{tmp_path / 'model'}", crop=48, device="cpu").key


def test_before_the_crops_pictures_may_be_resized():
    found = crop_features([ramp(300, 100)], two_sizes(MEANS, 32), before=ViewSettings(size=64))
    wanted = crop_features([ramp(300, 100).resize((64, 64), Image.Resampling.BICUBIC)], two_sizes(MEANS, 32))
    assert np.array_equal(found, wanted)


def test_a_whole_picture_is_one_row():
    encoder = load_crop_encoder("lite0", look="whole", device="cpu")
    assert crop_features([ramp(64, 64)], encoder).shape == (1, 1, 496)


def test_small_pictures_and_strips_are_enlarged_within_bounds():
    assert enlarged(ramp(20, 10), 32).size == (64, 32)
    assert enlarged(ramp(5, 60_000), 32).size == (32, 256)  # the middle, eight times as long as wide
    assert enlarged(ramp(40, 33), 32).size == (40, 33)
    assert crop_features([ramp(1, 1)], two_sizes(MEANS, 32)).shape == (1, 5, 6)


def test_unknown_looks_are_refused():
    for options, says in (
        ({"look": "part"}, "no look 'part'; choose one of two_sizes, one_size, whole"),
        ({"crop": 0}, "side"),
    ):
        with pytest.raises(UserError, match=says):
            load_crop_encoder("lite0", **options)
