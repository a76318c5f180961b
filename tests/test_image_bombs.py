"""Files that are small, announce few pixels and would keep a core or the memory busy: refused for what they are.

Each is as long as it takes to be refused. At the size an upload may have, they took from 10 s to hours.
"""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import pytest
from PIL import Image
from seed_images import encoded, png_file

from mriqa.images import ImageError, load_image

PIXELS = (b"IDAT", zlib.compress(bytes(9 * 8)))
HEADER = (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))


def png_with(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return png_file([HEADER, *chunks, PIXELS, (b"IEND", b"")])


def jpeg_with(segments: bytes) -> bytes:
    sound = encoded("JPEG")
    return sound[:2] + segments + sound[2:]


def scans(number: int, progressive: bool) -> bytes:
    """A JPEG whose scans hold no data: the decoder fills in grey, over all pixels, each time."""
    quantisation = struct.pack(">BBHB", 0xFF, 0xDB, 67, 0) + bytes([1] * 64)
    frame = struct.pack(
        ">BBHBHHB9B", 0xFF, 0xC2 if progressive else 0xC0, 17, 8, 64, 64, 3, 1, 17, 0, 2, 17, 0, 3, 17, 0
    )
    tables = b"".join(struct.pack(">BBHB16BB", 0xFF, 0xC4, 20, kind, 1, *[0] * 15, 0) for kind in (0, 16))
    scan = struct.pack(">BBHBBBBBB", 0xFF, 0xDA, 8, 1, 1, 0, 0, 0 if progressive else 63, 0)
    return b"\xff\xd8" + quantisation + frame + tables + scan * number + b"\xff\xd9"


def gif_with(remarks: bytes) -> bytes:
    sound = encoded("GIF", "P")
    place = sound.index(b",", 13 + 3 * 2 ** ((sound[10] & 7) + 1))
    return sound[:place] + remarks + sound[place:]


def tiff_with(tags: dict[int, tuple[int, int, int]], rest: bytes) -> bytes:
    """A grey TIFF of 8 × 8 with these tags besides; each is its type, its count, and its value or place."""
    plain = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 277: 1, 278: 8, 273: 8, 279: 64}
    entries = {**{tag: (4, 1, value) for tag, value in plain.items()}, **tags}
    packed = b"".join(struct.pack("<HHII", tag, *entries[tag]) for tag in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4) + rest


HUGE_PNG = png_file([(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)), PIXELS, (b"IEND", b"")])


def icon_with(png: bytes) -> bytes:
    return b"\0\0\1\0\1\0" + struct.pack("<4BHHII", 8, 8, 0, 0, 1, 32, len(png), 22) + png


def stretched_jpeg_2000(tile: int, side: int) -> bytes:
    """One that announces more pixels than it has, in tiles of this many pixels a side."""
    data = bytearray(encoded("JPEG2000", no_jp2=True, tile_size=(tile, tile)))
    place = data.index(b"\xff\x51") + 6
    data[place : place + 8] = struct.pack(">II", side, side)
    return bytes(data)


def stretched_heif() -> bytes:
    """One whose picture has 30,000 × 30,000 pixels, says its header."""
    data = encoded("HEIF")
    place = data.index(b"ispe") + 8
    return data[:place] + struct.pack(">II", 30_000, 30_000) + data[place + 8 :]


BOMBS = {
    "many PNG chunks": (png_with([(b"teSt", b"")] * 600), "PNG chunks"),
    "many profiles in a PNG": (png_with([(b"iCCP", b"x\0\0" + zlib.compress(bytes(10**5)))] * 600), "PNG chunks"),
    "pixels in many PNG chunks": (png_with([(b"IDAT", b"")] * 100_001), "PNG chunks"),
    "text of a PNG": (png_with([(b"zTXt", b"x\0\0" + zlib.compress(bytes(2 * 10**6)))]), "corrupt"),
    "many JPEG remarks": (jpeg_with(b"\xff\xfe\0\2" * 600), "JPEG segments"),
    "many pieces of Exif": (jpeg_with(b"\xff\xe1\0\x0aExif\0\0xx" * 5), "JPEG segments"),
    "fill bytes": (jpeg_with(b"\xff" * 70_000), "follow one another"),
    "progressive scans": (scans(101, progressive=True), "more than 100 JPEG scans"),
    "sequential scans": (scans(101, progressive=False), "more than 100 JPEG scans"),
    "GIF remarks": (gif_with(b"!\xfe\1a\0" * 2**18), "remarks"),
    "GIF remark": (gif_with(b"!\xfe" + b"\1a" * 2**19 + b"\0"), "remarks"),
    "places of strips": (tiff_with({273: (4, 400_000, 200)}, bytes(1_700_000)), "in its tags"),
    "values that share their bytes": (
        tiff_with({40000 + n: (7, 9000, 200) for n in range(50)}, bytes(9900)),
        "in its tags",
    ),
    "values of Exif that share their bytes": (
        png_with([(b"eXIf", tiff_with({40000 + n: (4, 9000, 200) for n in range(50)}, bytes(40_000)))]),
        "in its tags",
    ),
    "values of a second directory": (
        tiff_with({34665: (4, 1, 134)}, struct.pack("<HHHII", 1, 40000, 4, 400_000, 200) + bytes(1_700_000)),
        "in its tags",
    ),
    "a tile larger than the picture": (
        tiff_with({322: (4, 1, 13_000), 323: (4, 1, 13_000), 324: (4, 1, 8), 325: (4, 1, 64)}, bytes(99)),
        "tiles have 169,000,000 pixels",
    ),
    "runs of a BMP": (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 1078, 40, 8, 8, 1, 8, 1, 16, 0, 0, 256, 0) + bytes(1024)
        + b"\x08\x05" * 8,
        "bmp_rle",
    ),
    "numbers in words": (b"P2 8 8 255\n" + b"1 " * 64, "ppm_plain"),
    "remarks between numbers": (b"P2 8 8 255\n" + b"#\n" * 1000 + b"1 " * 64, "ppm_plain"),
    "an icon's PNG": (icon_with(HUGE_PNG), "too large|corrupt"),
    "pixels of a JPEG 2000": (stretched_jpeg_2000(16, 30_000), "too large"),
    "tiles of a JPEG 2000": (stretched_jpeg_2000(1, 4990), "corrupt"),
    "pixels of a HEIF": (stretched_heif(), "too large|corrupt"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(name):
    data, reason = BOMBS[name]
    with pytest.raises(ImageError, match=reason):
        load_image(data, max_pixels=25_000_000)


def test_a_refusal_takes_no_memory():
    data = jpeg_with(b"\xff\xfe\0\2" * 10**6)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError):
            load_image(data)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_what_cameras_and_programs_write_is_far_from_the_bounds():
    """JPEGs with profiles of megabytes, PNGs in small chunks with much text, TIFFs with a strip for each row."""
    profile = b"".join(b"\xff\xe2\xff\xff" + bytes(65533) for _ in range(50))
    large = Image.new("RGB", (64, 5000))
    buffer = io.BytesIO()
    large.save(buffer, "TIFF", compression="tiff_lzw", strip_size=1)
    assert load_image(jpeg_with(profile)).size == (48, 40)
    assert load_image(scans(60, progressive=False)).size == (64, 64)
    assert load_image(png_with([(b"tEXt", b"a\0b")] * 100 + [(b"IDAT", b"")] * 10_000)).size == (8, 8)
    assert load_image(gif_with(b"!\xfe\xff" + b"a" * 255 + b"\0")).size == (48, 40)
    assert load_image(buffer.getvalue()).size == (64, 5000)
    assert load_image(tiff_with({}, bytes(64))).size == (8, 8)
