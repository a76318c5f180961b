"""Hostile and unusual images: each gives the right RGB picture or one clear sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
import seed_images  # noqa: F401  # tells Pillow of HEIF and JPEG XL
from PIL import Image

from mriqa.images import FORMATS, ImageError, load_image

RNG = np.random.default_rng(0)
RGB_HWC = RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8)


def encode(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


def pixels(source):
    image = load_image(source)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("kind", ["str", "path", "bytes", "pillow"])
def test_every_kind_of_source(tmp_path, kind):
    path = tmp_path / "image.png"
    Image.fromarray(RGB_HWC).save(path)
    source = {"str": str(path), "path": path, "bytes": path.read_bytes(), "pillow": Image.open(path)}[kind]
    np.testing.assert_array_equal(pixels(source), RGB_HWC)


def test_one_pixel():
    assert pixels(encode(Image.new("RGB", (1, 1), (1, 2, 3)))).tolist() == [[[1, 2, 3]]]


def test_16_bit_grey_keeps_its_range():
    grey_HW = np.array([[0, 128, 257, 32768, 65535]], dtype=np.uint16)
    for data in (encode(Image.fromarray(grey_HW)), encode(Image.fromarray(grey_HW), format="TIFF")):
        assert pixels(data)[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    ppm = b"P5 5 1 65535\n" + grey_HW.astype(">u2").tobytes()
    assert pixels(ppm)[0, :, 2].tolist() == [0, 0, 1, 128, 255]


def test_16_bit_colour():
    row = b"\x00" + struct.pack(">6H", 0, 32768, 65535, 65535, 0, 257)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    assert pixels(b"\x89PNG\r\n\x1a\n" + body).tolist() == [[[0, 128, 255], [255, 0, 1]]]


def test_pixels_without_a_white_level_are_refused():
    for values in (np.array([[0, 70000]], dtype=np.int32), np.array([[0.0, 0.5]], dtype=np.float32)):
        with pytest.raises(ImageError, match="no white level"):
            load_image(encode(Image.fromarray(values), format="TIFF"))


def test_cmyk():
    cmyk = Image.merge("CMYK", [Image.new("L", (8, 8), value) for value in (0, 255, 255, 0)])
    for data in (encode(cmyk, format="TIFF"), encode(cmyk, format="JPEG")):
        red, green, blue = pixels(data)[4, 4]
        assert red > 240 and green < 15 and blue < 15


def test_palette_and_one_bit():
    quantised = Image.fromarray(RGB_HWC).quantize(16)
    np.testing.assert_array_equal(pixels(encode(quantised)), np.asarray(quantised.convert("RGB")))
    assert set(np.unique(pixels(encode(Image.fromarray(RGB_HWC).convert("1"))))) == {0, 255}


def test_transparency_lies_over_white():
    half = Image.new("RGBA", (2, 1), (0, 0, 0, 128))
    half.putpixel((1, 0), (10, 20, 30, 0))
    assert pixels(encode(half)).tolist() == [[[127, 127, 127], [255, 255, 255]]]
    assert pixels(encode(Image.new("LA", (1, 1), (0, 0)))).tolist() == [[[255, 255, 255]]]
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 9, 9])
    assert pixels(encode(palette, transparency=0)).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("container", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animation_gives_its_first_frame(container):
    red, blue = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    options = {"lossless": True} if container == "WEBP" else {}
    data = encode(red, format=container, save_all=True, append_images=[blue], **options)
    assert pixels(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    "orientation, turned", [(3, np.rot90(RGB_HWC, 2)), (6, np.rot90(RGB_HWC, -1)), (8, np.rot90(RGB_HWC))]
)
def test_exif_orientation(orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(RGB_HWC), exif=exif)
    np.testing.assert_array_equal(pixels(data), turned)
    np.testing.assert_array_equal(pixels(load_image(data)), turned)  # and only once


@pytest.mark.parametrize("container", [name for name in FORMATS if name != "TGA"])  # a TGA has no end
@pytest.mark.parametrize("share", [0.5, 0.02])
def test_truncated(tmp_path, container, share):
    path = tmp_path / "cut.img"
    data = encode(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)), format=container)
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match="cut.img") as caught:
        load_image(path)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("container", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_corrupted_bytes_never_raise_anything_else(container):
    data = bytearray(encode(Image.fromarray(RGB_HWC), format=container))
    for _ in range(60):
        broken = bytearray(data)
        for place in RNG.integers(0, len(data), 6):
            broken[place] = RNG.integers(0, 256)
        try:
            assert load_image(bytes(broken), max_pixels=10**6).mode == "RGB"
        except ImageError as error:
            assert str(error).endswith(".")


@pytest.mark.parametrize(
    "content, reason", [(b"", "empty"), (b"not an image", "readable"), (b"\x89PNG\r\n\x1a\n", "readable|corrupt")]
)
def test_files_that_are_no_image(tmp_path, content, reason):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=f"bad.png.*({reason})"):
        load_image(path)
    with pytest.raises(ImageError, match=reason):
        load_image(content)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ImageError, match="gone.png.*does not exist"):
        load_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="not a file"):
        load_image(tmp_path)
    with pytest.raises(ImageError):
        load_image("x" * 5000)


def test_decompression_bomb_is_refused_before_decoding():
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(ImageError, match="too large"):
        load_image(bomb)
    for container in ("PNG", "AVIF", "HEIF", "ICO", "JPEG2000", "JXL"):
        data = encode(
            Image.fromarray(RGB_HWC), format=container, **({"sizes": [(32, 24)]} if container == "ICO" else {})
        )
        with pytest.raises(ImageError, match="too large: 32 × 24"):
            load_image(data, max_pixels=767)
        assert load_image(data, max_pixels=768).size == (32, 24)


def test_formats_that_run_other_programs_are_not_opened():
    with pytest.raises(ImageError):
        load_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")


def test_wrong_type():
    with pytest.raises(TypeError, match="path, bytes or a Pillow image"):
        load_image(3)
