"""Hostile files: each is refused in one sentence, and sound ones are let through."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from mriqa.images import ImageError
from mriqa.serving.uploads import open_upload

PIXELS_HWC = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def encoded(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS_HWC).save(buffer, form)
    return buffer.getvalue()


def zipped(name: str = "payload.txt") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "hello")
    return buffer.getvalue()


def png_bomb() -> bytes:
    """A small file that announces, and holds, 30,000 × 30,000 black pixels."""
    rows = zlib.compress(bytes(30_000 // 8 + 1) * 30_000, 9)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


HOSTILE = {
    "empty": (b"", "0 bytes"),
    "text": (b"just words", "readable"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "readable"),
    "svgz": (zlib.compress(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "readable"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "readable"),
    "truncated": (encoded("JPEG")[:1500], "truncated"),
    "bomb": (png_bomb(), "too large"),
    "jpeg and zip": (encoded("JPEG") + zipped(), "ZIP"),
    "png and jar": (encoded("PNG") + zipped("META-INF/MANIFEST.MF"), "ZIP"),
    "gif and web page": (encoded("GIF") + b"<html><script>alert(1)</script></html>", "web page"),
    "png and php": (encoded("PNG") + b"<?php system($_GET['c']); ?>", "script"),
    "gif and script": (b"GIF89a/*" + bytes(40) + b"*/=1;alert(1)//;", "truncated|corrupt|readable|too large"),
    "pdf and jpeg": (b"%PDF-1.4\n" + encoded("JPEG"), "readable"),
    "bmp and rar": (encoded("BMP") + b"Rar!\x1a\x07\x01\x00rest", "RAR"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_sentence(name: str) -> None:
    data, reason = HOSTILE[name]
    with pytest.raises(ImageError, match=reason) as caught:
        open_upload(data, max_pixels=25_000_000)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_sound_files_pass(form: str) -> None:
    assert open_upload(encoded(form), max_pixels=64 * 64).size == (64, 64)
    with pytest.raises(ImageError, match="too large: 64 × 64"):
        open_upload(encoded(form), max_pixels=64 * 64 - 1)
