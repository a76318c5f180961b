"""A pretrained encoder sees five crops of a picture at two sizes, each once, and averages their features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mriqa.errors import UserError
from mriqa.features import extract, load_encoder
from mriqa.pretrain.quality_encoder import build_encoder, save_encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoder") / "model"
    save_encoder(build_encoder("test_resnet"), folder, {"crop": 32}, "")
    return folder


def picture(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def test_features_by_hand(folder):
    encoder = load_encoder(f"shamisa:{folder}", device="cpu")
    image = picture(80, 64)
    found = extract([image], encoder)[0]
    network = build_encoder("test_resnet", str(folder / "model.safetensors")).eval()
    wanted = []
    for own in (image, image.resize((40, 32), Image.Resampling.BICUBIC)):
        right, bottom = own.width - 32, own.height - 32
        places = {(0, 0), (right, 0), (0, bottom), (right, bottom), (right // 2, bottom // 2)}
        crops = [np.asarray(own.crop((x, y, x + 32, y + 32)), dtype=np.float32) / 255 for x, y in places]
        with torch.no_grad():
            features = network(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2))
        assert np.allclose(features.norm(dim=1), 1, atol=1e-5)
        wanted.append(features.mean(dim=0).numpy())
    assert np.allclose(found, np.concatenate(wanted), atol=1e-5)


def test_small_pictures_are_enlarged_and_batches_agree(folder):
    encoder = load_encoder(f"shamisa:{folder}")
    images = [picture(80, 64), picture(10, 90), picture(33, 33).convert("L")]
    together = extract(images, encoder, batch_size=3)
    assert together.shape == (3, 192) and np.isfinite(together).all()
    assert np.allclose(together, np.concatenate([extract([image], encoder) for image in images]), atol=1e-5)


def test_another_folder_has_another_key(folder, tmp_path):
    torch.manual_seed(1)
    save_encoder(build_encoder("test_resnet"), tmp_path / "other", {"crop": 32}, "")
    assert load_encoder(f"shamisa:{folder}").key != load_encoder(f"shamisa:{tmp_path / 'other'}").key
    assert load_encoder(f"shamisa:{folder}").key == load_encoder(f"shamisa:{folder}").key


def test_no_encoder_there(tmp_path):
    with pytest.raises(UserError, match="no pretrained encoder"):
        load_encoder(f"shamisa:{tmp_path / 'absent'}")
