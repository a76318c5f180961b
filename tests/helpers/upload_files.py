"""Files as people and others upload them: plain grey pictures, and what is none or not only that."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def encode(picture: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form)
    return buffer.getvalue()


def grey(level: int, size: tuple[int, int] = (96, 64)) -> bytes:
    """A PNG of one grey, which scores 1 + 4 * level / 255."""
    return encode(Image.new("RGB", size, (level, level, level)))


def hostile() -> dict[str, tuple[bytes, str]]:
    """By name: files that are no pictures or more than that, and a word of the reason each is refused for."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return {
        "empty.png": (b"", "empty"),
        "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "format"),
        "half.jpg": (encode(Image.fromarray(noise), "JPEG")[:800], "truncated"),
        "bomb.png": (encode(Image.new("1", (6000, 6000))), "too large"),
        "both.png": (grey(9) + b"<script>alert(1)</script>", "also"),
        "heavy.png": (grey(9) + bytes(2**20), "too large"),
    }
