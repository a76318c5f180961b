"""Small rated images and a random Qwen3-VL, shared by the tests of policy training."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mriqa.embedded import build_tiny_qwen3_vl

    return build_tiny_qwen3_vl(tmp_path_factory.mktemp("tiny") / "qwen3_vl", seed=0)


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list:
    """Six 64×64 images of noise, the noisier the lower rated."""
    from mriqa.manifest import RatedImage

    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    made = []
    for index in range(6):
        pixels = np.clip(128 + generator.normal(0, 8 * index + 4, (64, 64, 3)), 0, 255).astype(np.uint8)
        path = folder / f"{index}.png"
        Image.fromarray(pixels).save(path)
        made.append(
            RatedImage(image=path, mos=4.8 - 0.7 * index, std=0.5, dataset="noise", content=str(index), id=f"i{index}")
        )
    return made
