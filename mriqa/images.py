"""Read an image file, however it was written and whoever sent it, as one 8-bit RGB picture, or say why not.

The same rules everywhere (training, scoring, checking a manifest): EXIF orientation is applied, transparency is laid
over white, 16 bits become 8, an animation gives its first frame, CMYK and palettes become RGB. Corrupt, truncated and
empty files and decompression bombs are refused.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 89_478_485
"""The size from which Pillow suspects a decompression bomb: about 256 MB as RGB."""

FORMATS = (
    "AVIF",
    "BMP",
    "GIF",
    "ICO",
    "JPEG",
    "JPEG2000",
    "PNG",
    "PPM",
    "TGA",
    "TIFF",
    "WEBP",
)
"""Formats we open. Pillow knows more, some of which (EPS) run other programs on the file."""


class ImageError(ValueError):
    """An image that cannot be used, as one sentence naming it and the reason."""


def load_image(source: str | Path | bytes | Image.Image, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in `source` as a new, fully decoded Pillow image of mode RGB.

    Arguments:
        source: path of an image file, an encoded image as bytes, or a Pillow image (left unchanged).
        max_pixels: width × height above which the image is refused before it is decoded. Pillow has a limit of its
            own (`PIL.Image.MAX_IMAGE_PIXELS`, of which it allows twice), so a larger value here does not help beyond.

    Raises:
        ImageError: the file is missing, empty, truncated, corrupt, too large or of an unknown format, or its pixels
            have no defined white (floating point, integers of more than 16 bits).
        TypeError: `source` is something else.
    """
    if not isinstance(source, (str, Path, bytes, Image.Image)):
        raise TypeError(f"An image must be a path, bytes or a Pillow image, not {type(source).__name__}.")
    name = f"image {str(source)!r}" if isinstance(source, (str, Path)) else "image"
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(source, max_pixels)
        with Image.open(_readable(source), formats=_known_formats()) as image:
            return _to_rgb(image, max_pixels)
    except Image.UnidentifiedImageError:
        raise ImageError(f"{name} is not in a readable image format, or its header is corrupt.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name} is too large: {error}") from error
    except ImageError as error:
        raise ImageError(f"{name} {error}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:  # the system's word, not a decoder's
            raise ImageError(f"{name} cannot be read ({error.strerror}).") from error
        # a decoder fed hostile bytes raises nearly anything: OSError, SyntaxError, struct.error …
        raise ImageError(f"{name} is truncated or corrupt ({type(error).__name__}: {error}).") from error


def _readable(source: str | Path | bytes) -> Path | io.BytesIO:
    if isinstance(source, bytes):
        if not source:
            raise ImageError("is empty: it has 0 bytes.")
        return io.BytesIO(source)
    path = Path(source)
    if not path.exists():
        raise ImageError("does not exist.")
    if not path.is_file():  # opening a pipe or a device could block for ever
        raise ImageError("is not a file.")
    if path.stat().st_size == 0:
        raise ImageError("is empty: it has 0 bytes.")
    return path


def _known_formats() -> list[str]:
    """Those of `FORMATS` that this build of Pillow reads."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _to_rgb(image: Image.Image, max_pixels: int) -> Image.Image:
    if image.width * image.height > max_pixels:
        raise ImageError(f"is too large: {image.width} × {image.height} pixels, more than {max_pixels:,} in all.")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        return _from_16_bits(upright).convert("RGB")
    if upright.mode == "F":
        raise ImageError("has floating-point pixels, for which no white level is defined; save it with 8 or 16 bits.")
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return upright.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Grey values 0..65535 to 0..255, rounded. Pillow's own conversion would clip everything above 255 to white."""
    grey_HW = np.asarray(image).astype(np.int64)
    if grey_HW.min() < 0 or grey_HW.max() > 65535:
        raise ImageError("has integer pixels of more than 16 bits, for which no white level is defined.")
    return Image.fromarray(((grey_HW * 255 + 32767) // 65535).astype(np.uint8))
