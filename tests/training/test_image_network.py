"""The network that judges selections: it learns, weights of 0 teach nothing, a score is a mean over three crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mriqa.manifest import RatedImage
from mriqa.training.selected_networks.image_network import ImageNetwork, NetworkSettings, train_network

SMALL = NetworkSettings("timm:test_resnet", pretrained=False, crop=32, epochs=1, batch_size=8, device="cpu")


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> list[RatedImage]:
    """Sixteen plain pictures, rated by their brightness."""
    folder = tmp_path_factory.mktemp("bright")
    rows = []
    for place in range(16):
        Image.new("RGB", (40, 36), (16 * place,) * 3).save(folder / f"{place}.png")
        rows.append(RatedImage(folder / f"{place}.png", 1 + place / 4, None, "bright", str(place), str(place)))
    return rows


def scores(rows: list[RatedImage]) -> np.ndarray:
    return np.array([row.mos for row in rows])


def test_it_learns_and_is_the_same_for_the_same_seed(bright: list[RatedImage]) -> None:
    settings = NetworkSettings(**{**vars(SMALL), "epochs": 30, "learning_rate": 3e-3})
    one, two = (train_network(bright, scores(bright), settings, seed=1).predict(bright) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert np.corrcoef(one, scores(bright))[0, 1] > 0.8


def test_images_of_weight_zero_teach_nothing(bright: list[RatedImage]) -> None:
    """With their labels in another order the head ends as it did; without the weights it doesn't."""
    weights_N = np.array([2.0, 0.0] * 8)
    turned_N = scores(bright)
    turned_N[1::2] = turned_N[1::2][::-1].copy()
    frozen = NetworkSettings(**{**vars(SMALL), "frozen": True})
    heads = [
        train_network(bright, labels_N, frozen, 0, weights).head.weight
        for weights in (weights_N, None)
        for labels_N in (scores(bright), turned_N)
    ]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[2], heads[3])


def test_a_score_is_the_mean_over_three_crops(bright: list[RatedImage], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    row = RatedImage(tmp_path / "noise.png", 3.0, None, "noise", "n", "n")
    network = ImageNetwork(SMALL).eval()
    pixels = torch.from_numpy(noise).permute(2, 0, 1)
    crops = [pixels[:, :32, :32], pixels[:, 18:, 28:], pixels[:, 9:41, 14:46]]
    with torch.no_grad():
        expected = float(np.mean([network(crop[None]).item() for crop in crops]))
    assert network.predict([row])[0] == pytest.approx(expected, abs=1e-5)


def test_it_learns_classes(bright: list[RatedImage]) -> None:
    settings = NetworkSettings(**{**vars(SMALL), "epochs": 30, "learning_rate": 3e-3, "classes": 2})
    classes_N = (scores(bright) > 3).astype(float)
    predicted = train_network(bright, classes_N, settings).predict(bright)
    assert set(predicted) == {0, 1} and np.mean(predicted == classes_N) > 0.8
