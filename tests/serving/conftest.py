"""A random tiny Qwen3-VL behind the service: it scores by its exact distribution, different for every picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def scorer(tmp_path_factory):
    import mriqa
    from mriqa.embedded import build_tiny_qwen3_vl

    folder = build_tiny_qwen3_vl(tmp_path_factory.mktemp("served") / "model")
    return mriqa.Scorer.from_pretrained(folder, device="cpu", batch_size=4)


@pytest.fixture(scope="session")
def files() -> list[bytes]:
    """Encoded pictures of different shapes and contents."""
    draw = np.random.default_rng(0)
    sizes = [(50, 200), (96, 96), (120, 70), (64, 64), (80, 100), (64, 90)]
    pictures = [Image.fromarray(draw.integers(0, 40 * (n + 1), (*size, 3), np.uint8)) for n, size in enumerate(sizes)]
    return [encode(picture) for picture in pictures]


def encode(picture: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form)
    return buffer.getvalue()
