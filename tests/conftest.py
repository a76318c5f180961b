"""What every test gets: one torch thread, no network, no display, and hypothesis without deadlines."""

from __future__ import annotations

import os

# Before the first import of torch, and inherited by the processes that tests start. More than one thread makes
# small tensors slower, and on two cores two test processes with two threads each sometimes stall altogether.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

torch.set_num_threads(1)
settings.register_profile("mriqa", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("mriqa")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """``shared_data("photos")`` is ``../shared/data/photos``; the test is skipped, saying so, where that is absent."""

    def find(name: str) -> Path:
        path = REPOSITORY.parent / "shared" / "data" / name
        if not path.exists():
            pytest.skip(f"../shared/data/{name} is not beside this checkout")
        return path

    return find


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


@pytest.fixture(scope="session")
def manifest(rows: list) -> Path:
    """The six images of noise, as a file."""
    from mriqa.manifest import write_manifest

    path = rows[0].image.parent / "manifest.jsonl"
    write_manifest(rows, path)
    return path
