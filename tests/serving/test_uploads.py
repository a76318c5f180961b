"""Hostile files are refused in one sentence with a 422, and what phones, cameras and programs write is scored."""

from __future__ import annotations

import asyncio
import io
import struct
import zipfile
import zlib

import httpx
import numpy as np
import pytest
from mutate_images import mutated_files
from PIL import Image
from seed_images import encoded, png_file, seed_files

from mriqa.images import ImageError
from mriqa.serving.app import make_app
from mriqa.serving.uploads import FORMATS, open_upload

SCRIPT = b"<html><script>alert(1)</script></html>"
PHP = b"<?php system($_GET['c']); ?>"
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
TAR = b"name".ljust(257, b"\0") + b"ustar\x0000" + bytes(247)


def zipped(name: str = "payload.txt", compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(name, "hello")
    return buffer.getvalue()


def png_bomb() -> bytes:
    """A small file that announces, and holds, 30,000 × 30,000 black pixels."""
    rows = zlib.compress(bytes(30_000 // 8 + 1) * 30_000, 9)
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    return png_file([(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")])


def png_with(name: bytes, content: bytes) -> bytes:
    sound = encoded("PNG")
    return sound[:33] + png_file([(name, content)])[8:] + sound[33:]


def jpeg_with(marker: int, content: bytes) -> bytes:
    sound = encoded("JPEG")
    return sound[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + sound[2:]


def webp_with(name: bytes, content: bytes) -> bytes:
    sound = encoded("WEBP") + name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    return sound[:4] + struct.pack("<I", len(sound) - 8) + sound[8:]


def gif_script() -> bytes:
    """A GIF so wide that its width reads `/*`, with a remark that ends the comment and goes on as JavaScript."""
    buffer = io.BytesIO()
    Image.new("P", (0x2A2F, 4)).save(buffer, "GIF", comment=b"*/=1;alert(1)//")
    assert buffer.getvalue().startswith(b"GIF89a/*")
    return buffer.getvalue()


def jpeg_script() -> bytes:
    """After Heyes, "Bypassing CSP using polyglot JPEGs" (2016): the first segment's length reads `/*`."""
    sound = encoded("JPEG")
    jfif = sound[6:20].ljust(0x2F2A - 2, b"\0")
    return sound[:4] + b"/*" + jfif + b"\xff\xfe" + struct.pack(">H", 17) + b"*/=alert(1)/*!!" + sound[20:]


def bmp_script() -> bytes:
    sound = encoded("BMP")
    return b"BM/*" + sound[4:] + b"*/=1;alert(1)"


HOSTILE = {
    "empty": (b"", "0 bytes"),
    "text": (b"just words", "readable"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "readable"),
    "svgz": (zlib.compress(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "readable"),
    "postscript": (encoded("EPS"), "readable"),
    "page around a jpeg": (b"<html>" + encoded("JPEG") + b"</html>", "readable"),
    "page with a jpeg's signature": (b"\xff\xd8\xff" + SCRIPT, "truncated|corrupt|readable"),
    "pdf and jpeg": (PDF + encoded("JPEG"), "readable"),
    "zip and jpeg": (zipped() + encoded("JPEG"), "readable"),
    "truncated": (encoded("JPEG")[:800], "truncated"),
    "bomb": (png_bomb(), "too large"),
    "jpeg and zip": (encoded("JPEG") + zipped(), "ZIP"),
    "jpeg and deflated zip, then padding": (encoded("JPEG") + zipped("a", zipfile.ZIP_DEFLATED) + bytes(10**5), "ZIP"),
    "jpeg and empty zip": (encoded("JPEG") + b"PK\x05\x06" + bytes(18), "ZIP"),
    "jpeg with a zip in a segment": (jpeg_with(0xE4, zipped()), "ZIP"),
    "png and jar": (encoded("PNG") + zipped("META-INF/MANIFEST.MF"), "ZIP"),
    "gif and jar": (encoded("GIF") + zipped("META-INF/MANIFEST.MF"), "ZIP"),
    "webp and zip": (encoded("WEBP") + zipped(), "ZIP"),
    "webp with a zip in a chunk": (webp_with(b"JUNK", zipped()), "ZIP"),
    "heic and zip": (encoded("HEIF") + zipped(), "ZIP"),
    "avif and page": (encoded("AVIF", speed=10) + SCRIPT, "web page"),
    "heic and markup": (encoded("HEIF") + b"\n<b onclick=alert(1)>x</b>", "markup"),
    "heic and program": (encoded("HEIF") + b"MZ\x90\0" + bytes(50), "program"),
    "jpeg 2000 and program": (encoded("JPEG2000") + b"MZ\x90\0" + bytes(50), "program"),
    "jpeg xl and archive": (encoded("JXL", use_container=True) + b"\x1f\x8b\x08\x00rest", "archive"),
    "icon and program": (encoded("ICO", sizes=[(48, 40)]) + b"\x7fELF\x02\x01\x01" + bytes(50), "program"),
    "tiff and zip": (encoded("TIFF") + zipped(), "ZIP"),
    "two jpegs and zip": (encoded("MPO", save_all=True, append_images=[Image.new("L", (9, 9))]) + zipped(), "ZIP"),
    "png and page": (encoded("PNG") + SCRIPT, "web page"),
    "png and small markup": (encoded("PNG") + b"\n<b onclick=alert(1)>x</b>", "markup"),
    "png with a page as text": (png_with(b"tEXt", b"Comment\0" + SCRIPT), "web page"),
    "jpeg with a page as remark": (jpeg_with(0xFE, SCRIPT), "web page"),
    "gif and page": (encoded("GIF") + SCRIPT, "web page"),
    "jpeg with svg as remark": (jpeg_with(0xFE, b"<svg/onload=alert(1)>"), "web page"),
    "png and php": (encoded("PNG") + PHP, "script"),
    "jpeg with php as remark": (jpeg_with(0xFE, PHP), "script"),
    "php in pixels": (png_with(b"tEXt", b"x\0<?=$_GET[0]($_POST[1]);?>"), "script"),
    "phar": (jpeg_with(0xFE, b"__HALT_COMPILER(); ?>"), "PHP archive"),
    "jpeg and pdf": (encoded("JPEG") + PDF, "PDF"),
    "jpeg with a pdf in a segment": (jpeg_with(0xE4, PDF), "PDF"),
    "bmp and rar": (encoded("BMP") + b"Rar!\x1a\x07\x01\x00rest", "RAR"),
    "jpeg and 7z": (encoded("JPEG") + b"7z\xbc\xaf\x27\x1c\x00\x04rest", "7z"),
    "jpeg and tar": (encoded("JPEG") + TAR, "archive"),
    "png and gzip": (encoded("PNG") + b"\x1f\x8b\x08\x00rest", "archive"),
    "jpeg and linux program": (encoded("JPEG") + b"\x7fELF\x02\x01\x01" + bytes(50), "program"),
    "png and windows program": (encoded("PNG") + b"MZ\x90\0" + bytes(50), "program"),
    "bmp and windows program": (encoded("BMP") + b"MZ\x90\0" + bytes(50), "program"),
    "jpeg and class": (encoded("JPEG") + b"\xca\xfe\xba\xbe\0\0\0\x34", "program"),
    "png and shell script": (encoded("PNG") + b"\n#!/bin/sh\nid\n", "script"),
    "jpeg and gif": (encoded("JPEG") + encoded("GIF"), "image"),
    "gif that is a script": (gif_script(), "script"),
    "jpeg that is a script": (jpeg_script(), "script"),
    "bmp that is a script": (bmp_script(), "script"),
    "webp that is a script": (b"RIFF/*" + encoded("WEBP")[6:] + b"*/=1;alert(1)", "script|corrupt|truncated|readable"),
    "gif and script": (b"GIF89a/*" + bytes(40) + b"*/=1;alert(1)//;", "truncated|corrupt|readable|too large"),
}


def with_thumbnail() -> bytes:
    """Exif as cameras write it: a second directory that says where a small JPEG lies in it."""
    small = encoded("JPEG", "L")
    entries = struct.pack("<HHIIHHII", 0x0201, 4, 1, 14 + 2 + 24 + 4, 0x0202, 4, 1, len(small))
    exif = b"II*\0" + struct.pack("<IHI", 8, 0, 14) + struct.pack("<H", 2) + entries + bytes(4) + small
    return jpeg_with(0xE1, b"Exif\0\0" + exif)


NOISE = np.random.default_rng(0).bytes(200_000)
SAMSUNG = b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1700000000000" + b"SEFH" + bytes(24) + b"\x24\0\0\0SEFT"
FILM = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + struct.pack(">I", len(NOISE) + 8) + b"mdat" + NOISE
XMP = b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF/></x:xmpmeta>'
GENUINE = {
    **{
        f"{name} (seed)": data for name, data in seed_files().items() if name.split()[0] in FORMATS and name != "TIFF F"
    },
    "gain map": encoded("JPEG", xmp=XMP) + encoded("JPEG", "L", xmp=XMP),
    "preview behind padding": encoded("JPEG") + bytes(300) + encoded("JPEG", "L"),
    "thumbnail": with_thumbnail(),
    "Samsung's notes": encoded("JPEG") + SAMSUNG,
    "moving picture": encoded("JPEG", xmp=XMP) + FILM,
    "moving picture with notes": encoded("MPO", save_all=True, append_images=[Image.new("L", (9, 9))]) + FILM + SAMSUNG,
    "padded jpeg": encoded("JPEG") + bytes(1000),
    "jpeg and line end": encoded("JPEG") + b"\r\n",
    "padded png": encoded("PNG") + bytes(1000),
    "png with the rest of a larger one": encoded("PNG") + encoded("PNG")[-900:],
    "gif with a zero": encoded("GIF") + b"\0",
    "padded heic": encoded("HEIF") + bytes(1000),
    "heic and film": encoded("HEIF") + struct.pack(">I", len(FILM) + 8) + b"mpvd" + FILM,
    "padded webp": encoded("WEBP") + bytes(16),
    "Photoshop's blocks": jpeg_with(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\0"),
    "JPEG whose Exif happens to be 12,074 bytes long": jpeg_with(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + bytes(0x2F2A - 16)),
}


def posted(scorer, files: list[bytes], each: int = 1) -> list[httpx.Response]:
    """The service's answers to uploads of `each` files."""

    async def run() -> list[httpx.Response]:
        app = make_app(scorer)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://here", timeout=60) as client,
        ):
            uploads = [files[n : n + each] for n in range(0, len(files), each)]
            return [
                await client.post("/score", files=[("images", (f"{n}.jpg", data)) for n, data in enumerate(group)])
                for group in uploads
            ]

    return asyncio.run(run())


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_sentence(name: str) -> None:
    data, reason = HOSTILE[name]
    with pytest.raises(ImageError, match=reason) as caught:
        open_upload(data, max_pixels=25_000_000)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", GENUINE)
def test_files_of_cameras_and_programs_pass(name: str) -> None:
    assert sorted(open_upload(GENUINE[name], max_pixels=48 * 40).size) == [40, 48]


def test_the_service_says_422_to_hostile_files_and_scores_sound_ones(scorer) -> None:
    for name, response in zip(HOSTILE, posted(scorer, [data for data, _ in HOSTILE.values()]), strict=True):
        assert response.status_code == 422 and response.json()["detail"].startswith("0.jpg: image "), name
    for response in posted(scorer, list(GENUINE.values()), each=16):
        assert response.status_code == 200 and all(row["error"] is None for row in response.json()["images"])


def test_mutated_files_never_break_the_service(scorer) -> None:
    files = [data for _, data in mutated_files(320, seed=5)]
    rows = []
    for response in posted(scorer, files, each=16):
        assert response.status_code in (200, 422), response.text
        rows += response.json()["images"]
    assert len(rows) == len(files)
    assert all((row["score"] is None) == (row["error"] is not None) for row in rows)
    assert {row["error"] is None for row in rows} == {True, False}
