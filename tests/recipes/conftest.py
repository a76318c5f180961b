"""The recipes as modules, and a small manifest and model to run them on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")
RECIPES = Path(__file__).parents[2] / "recipes"
if str(RECIPES) not in sys.path:
    sys.path.insert(0, str(RECIPES))  # as Python does for the script it is asked to run


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six 64×64 images of noise, the noisier the lower rated."""
    from mriqa.manifest import RatedImage, write_manifest

    folder = tmp_path_factory.mktemp("rated")
    generator = np.random.default_rng(0)
    rows = []
    for index in range(6):
        pixels = np.clip(128 + generator.normal(0, 8 * index + 4, (64, 64, 3)), 0, 255).astype(np.uint8)
        path = folder / f"{index}.png"
        Image.fromarray(pixels).save(path)
        rows.append(
            RatedImage(image=path, mos=4.8 - 0.7 * index, std=0.5, dataset="noise", content=str(index), id=f"i{index}")
        )
    write_manifest(rows, folder / "rows.jsonl")
    return folder / "rows.jsonl"
