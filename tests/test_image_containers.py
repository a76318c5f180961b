"""Where images end, by files of Pillow's, which end where they should; and the parts of each, counted by others."""

from __future__ import annotations

import struct

import pytest
from PIL import Image
from seed_images import encoded, picture, png_file, seed_files

from mriqa.image_containers import (
    AVIF_BRANDS,
    GIF_PICTURE,
    HEIF_BRANDS,
    ICON,
    START_OF_SCAN,
    end_of_image,
    gif_blocks,
    jpeg_segments,
    media_brands,
    png_chunks,
    tiff_values,
)

SEEDS = seed_files()
BOXES = [name for name, data in SEEDS.items() if data[4:8] in (b"ftyp", b"jP  ", b"JXL ")]
WITH_AN_END = [
    *(name for name in SEEDS if name.split()[0] in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "ICO")),
    *BOXES,
]
WITH_AN_END.remove("JPEG motion")


@pytest.mark.parametrize("name", WITH_AN_END)
def test_the_image_ends_where_the_file_does(name):
    """Also where other bytes follow, and nowhere where the file is cut."""
    data = SEEDS[name]
    assert end_of_image(data) == len(data)
    assert end_of_image(data + b"other bytes\xff\xd9IEND;") == len(data)
    # Of some the header says where the end would be; mpf: the first image's; boxes: that of the last whole one.
    if not (name in BOXES or name.startswith(("WEBP", "BMP", "ICO", "JPEG mpf"))):
        assert end_of_image(data[:-5]) is None


def test_what_phones_put_behind_the_first_jpeg():
    first, second = encoded("JPEG"), encoded("JPEG", "L")
    assert end_of_image(first + bytes(7) + second) == len(first) + 7 + len(second)
    assert end_of_image(SEEDS["JPEG motion"]) == len(first)  # a film is no image
    assert end_of_image(first + second[:-100]) == len(first)


def test_formats_without_an_end():
    for name in ("TIFF RGBA", "JPEG2000 stream", "JXL lossy", "TGA colour", "SVG"):
        assert end_of_image(SEEDS[name]) is None


@pytest.mark.parametrize(
    "start",
    [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF", b"BM", b"II*\0", b"MM\0+", ICON, b"\0\0\0\x20ftyp"],
)
def test_cut_and_senseless_files_end_the_walk(start):
    for rest in (b"", b"\xff" * 3, b"\xff" * 400, bytes(40), b"\x10" * 40, b"\x7f" * 40):
        data = start + rest
        for walk in (jpeg_segments, png_chunks, gif_blocks, tiff_values):
            assert len(list(walk(data))) <= len(data)
        assert end_of_image(data) is None or end_of_image(data) >= 0


def test_parts_are_all_found():
    assert [marker for marker, _, _ in jpeg_segments(SEEDS["JPEG progressive"])].count(
        START_OF_SCAN
    ) == 10  # libjpeg's script
    assert [name for name, _ in png_chunks(png_file([(b"IHDR", b"x"), (b"abcd", b""), (b"IEND", b"")]))] == [
        b"IHDR",
        b"abcd",
        b"IEND",
    ]
    assert [block for block, _ in gif_blocks(SEEDS["GIF animated"])].count(GIF_PICTURE) == 3


@pytest.mark.parametrize("name", [name for name in SEEDS if name.startswith("TIFF")])
def test_the_values_of_a_tiff_are_those_pillow_reads(name, tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(SEEDS[name])
    with Image.open(path) as image:
        sizes = sorted(len(value) for value in image.tag_v2._tagdata.values())
    assert sorted(size for _, size in tiff_values(SEEDS[name])) == sizes


def test_stray_bytes_between_segments_are_passed_over_as_libjpeg_does():
    data = encoded("JPEG")
    (_, _, end), *_ = jpeg_segments(data)
    stray = data[:end] + b"\0\x01stray\xff\x00\xff\xff" + data[end:]
    assert [marker for marker, _, _ in jpeg_segments(stray)] == [marker for marker, _, _ in jpeg_segments(data)]


def test_a_bmp_says_its_end_by_its_size_not_by_what_it_claims():
    data = bytearray(encoded("BMP", "L"))
    struct.pack_into("<I", data, 2, 10**6)
    assert end_of_image(bytes(data)) == len(data) == 14 + 40 + 1024 + picture().width * picture().height


def test_what_a_file_of_boxes_may_be_read_as():
    assert media_brands(SEEDS["AVIF lossy"]) & AVIF_BRANDS and media_brands(SEEDS["HEIF lossy"]) & HEIF_BRANDS
    assert not media_brands(SEEDS["HEIF lossy"]) & AVIF_BRANDS
    assert media_brands(b"\0\0\0\x18ftypmp42\0\0\0\0isommp42") == {b"mp42", b"isom"}
    assert media_brands(SEEDS["JPEG baseline"]) == media_brands(b"") == set()
