"""Pictures of other colour spaces come out as the sRGB that a calculation by the standards gives."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from icc_profiles import ADOBE_RGB, DISPLAY_P3, SRGB, grey_profile, in_srgb, profile
from PIL import Image, ImageCms
from seed_images import HEIGHT, WIDTH, encoded, picture, png_of

from mriqa.images import ImageError, load_image

COLOURS = [(200, 30, 40), (40, 180, 60), (250, 250, 250), (10, 20, 30), (128, 128, 128), (90, 60, 200)]
SPACES = {"Display P3": (DISPLAY_P3, None), "Adobe RGB": (ADOBE_RGB, 2.19921875), "another gamma": (SRGB, 1.0)}
LOSSLESS = {
    "PNG": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "JPEG": {"quality": 100, "subsampling": 0},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "HEIF": {"quality": -1, "chroma": 444, "matrix_coefficients": 0},
}


def file_of(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("form", LOSSLESS)
def test_a_colour_of_a_wide_gamut_is_the_right_one_in_srgb(form: str, space: str) -> None:
    primaries, gamma = SPACES[space]
    for colour in COLOURS:
        data = file_of(
            Image.new("RGB", (16, 16), colour), form, icc_profile=profile(primaries, gamma), **LOSSLESS[form]
        )
        found = np.array(load_image(data).getpixel((8, 8)))
        bound = 4 if form == "AVIF" else 2  # at its best it stores a colour that is one step away
        assert np.abs(found - in_srgb(colour, primaries, gamma)).max() <= bound, (colour, found)


def test_transparency_palettes_and_16_bits_go_through_the_profile_too() -> None:
    p3, colour = profile(DISPLAY_P3, None), (200, 30, 40)
    expected = in_srgb(colour, DISPLAY_P3, None)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette(colour)
    opaque = Image.new("RGBA", (4, 4), (*colour, 255))
    deep = png_of(16, 2, np.tile(np.array(colour, dtype=">u2") * 257, (HEIGHT, WIDTH, 1)).tobytes())
    deep = file_of(Image.open(io.BytesIO(deep)), icc_profile=p3)
    for data in (file_of(palette, icc_profile=p3), file_of(opaque, icc_profile=p3), deep):
        assert np.abs(np.array(load_image(data).getpixel((1, 1))) - expected).max() <= 2
    half = load_image(file_of(Image.new("RGBA", (4, 4), (*colour, 51)), icc_profile=p3)).getpixel((1, 1))
    assert np.abs(np.array(half) - (0.2 * expected + 0.8 * 255)).max() <= 2


def test_a_grey_profile() -> None:
    for grey in (Image.new("L", (4, 4), 100), Image.new("LA", (4, 4), (100, 255))):
        found = load_image(file_of(grey, icc_profile=grey_profile(1.0))).getpixel((1, 1))
        assert found == pytest.approx(in_srgb((100,) * 3, SRGB, 1.0), abs=2)


def test_a_profile_counts_once_and_srgb_changes_nothing() -> None:
    wide = picture()
    once = load_image(file_of(wide, icc_profile=profile(DISPLAY_P3, None)))
    assert "icc_profile" not in once.info and load_image(once).tobytes() == once.tobytes() != wide.tobytes()
    for same in (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), profile(SRGB, None)):
        assert load_image(file_of(wide, icc_profile=same)).tobytes() == wide.tobytes()


def test_a_broken_profile_or_one_of_other_pixels_is_passed_over() -> None:
    p3 = profile(DISPLAY_P3)
    sizes = [p3[:132] + struct.pack(">II", 100, 2**31) * 5 + p3[172:], p3[:200]]
    for useless in (b"no profile", grey_profile(1.0), bytes(900_000), *sizes):
        assert load_image(file_of(picture(), icc_profile=useless)).tobytes() == picture().tobytes()


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG2000"])
def test_16_bit_grey_is_scaled_and_not_clipped(form: str) -> None:
    row = np.array([[0, 128, 257, 32768, 65535]] * 8, dtype=np.uint16)
    found = np.asarray(load_image(file_of(Image.fromarray(row), form)))
    assert found[3, :, 0].tolist() == found[3, :, 2].tolist() == [0, 0, 1, 128, 255]


def test_16_bit_colour_of_a_tiff() -> None:
    pixels = np.array([[[0, 32768, 65535], [65535, 0, 257]]], dtype=np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="rgb")
    assert np.asarray(load_image(buffer.getvalue())).tolist() == [[[0, 128, 255], [255, 0, 1]]]


@pytest.mark.parametrize("form, bound", [("HEIF", 8), ("AVIF", 8), ("JXL", 8), ("JPEG2000", 0), ("ICO", 0)])
def test_formats_of_other_decoders_give_the_picture(form: str, bound: int) -> None:
    smooth = picture().resize((4, 4)).resize((64, 48), Image.Resampling.BICUBIC)
    options = {"sizes": [(64, 48), (16, 16)]} if form == "ICO" else {}
    found = np.asarray(load_image(file_of(smooth, form, **options))).astype(int)
    assert np.abs(found - np.asarray(smooth)).max() <= bound


@pytest.mark.parametrize("form", ["HEIF", "AVIF", "JXL"])
def test_their_exif_orientation_is_applied_once(form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = load_image(encoded(form, exif=exif.tobytes()))
    plain = load_image(encoded(form)).rotate(-90, expand=True)
    assert np.abs(np.asarray(turned).astype(int) - np.asarray(plain)).mean() < 3


@pytest.mark.parametrize("form, extra", [("HEIF", "heif"), ("JXL", "jxl")])
def test_a_missing_package_is_named(form: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mriqa.images.find_spec", lambda name: None)
    with pytest.raises(ImageError, match=rf"mriqa\[{extra}\]"):
        load_image(encoded(form))
