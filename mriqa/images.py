"""Read an image file, however it was written and whoever sent it, as one 8-bit RGB picture, or say why not.

The same rules everywhere (training, scoring, checking a manifest): EXIF orientation is applied, colours are converted
through the picture's ICC profile to sRGB, transparency is laid over white, 16 bits become 8, an animation gives its
first frame, CMYK and palettes become RGB. Corrupt, truncated and empty files and decompression bombs are refused.
"""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from PIL import AvifImagePlugin, Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

from mriqa.decoder_process import DecoderProcessError, decode
from mriqa.errors import UserError
from mriqa.image_colours import ColourError, to_srgb
from mriqa.image_containers import (
    AVIF_BRANDS,
    GIF,
    GIF_PICTURE,
    HEIF_BRANDS,
    ICON,
    JPEG,
    JPEG_2000,
    JPEG_XL,
    PNG,
    START_OF_SCAN,
    TIFF,
    gif_blocks,
    jpeg_segments,
    media_brands,
    png_chunks,
    tiff_values,
)

MAX_PIXELS = 89_478_485
"""The size from which Pillow suspects a decompression bomb: about 256 MB as RGB."""

MAX_BYTES = 2**30
"""A file of `MAX_PIXELS` with 16 bits in four channels, uncompressed, has 716 million."""

FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "JXL", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""Formats we open. Pillow knows more, some of which run other programs on the file (EPS)."""

APART = ("AVIF", "HEIF", "ICO", "JPEG2000", "JXL")
"""Those that `mriqa.decoder_process` decodes: their files can take any time and memory, whatever size they announce."""

_SPOKEN = {"HEIF": "HEIC or HEIF", "JXL": "JPEG XL"}
_EXTRAS = {"HEIF": ("pillow_heif", "heif"), "JXL": ("pillow_jxl", "jxl")}  # formats of packages beside Pillow

# Far beyond what cameras and programs write. Without these bounds a file of some megabytes keeps a core busy for hours.
_MOST_SCANS = 100  # of a JPEG, each a pass over all pixels; libtiff has the same bound
_MOST_PARTS = 500  # of a file, other than pixels
_MOST_PNG_CHUNKS = 100_000
_MOST_TIFF_VALUES = 300_000  # numbers in tags: places of strips, a palette of 16 bits
_MOST_EXIF_SEGMENTS = 4  # of a JPEG; one holds 64 KB, and its tags may share their bytes
_MOST_STRAY_BYTES = 65_536  # between a JPEG's segments
_MOST_GIF_REMARKS = 2**20  # bytes before a GIF's first picture
_SLOW_DECODERS = {"bmp_rle", "ppm_plain"}  # Pillow's in Python: seconds for each megabyte of the file
_PNG_PIXELS = {b"IDAT", b"fdAT", b"fcTL"}

# A decoder's warnings say nothing that the picture or our error doesn't, and hostile files would fill logs with them.
# This cannot be done around each call, since filters belong to the process and pictures are decoded in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageError(UserError, ValueError):
    """An image that cannot be used, as one sentence naming it and the reason."""


def load_image(
    source: str | Path | bytes | Image.Image, max_pixels: int = MAX_PIXELS, formats: Sequence[str] = FORMATS
) -> Image.Image:
    """The picture in `source` as a new, fully decoded Pillow image of mode RGB.

    Arguments:
        source: path of an image file, an encoded image as bytes, or a Pillow image (left unchanged).
        max_pixels: width × height above which the image is refused, before it is decoded where the file tells it.
            Pillow has a limit of its own (`PIL.Image.MAX_IMAGE_PIXELS`, of which it allows twice), so a larger value
            here does not help beyond.
        formats: those of `FORMATS` to take.

    Raises:
        ImageError: the file is missing, empty, truncated, corrupt, too large, of an unknown format, of one whose
            package isn't installed, or built so that decoding it takes very much time or memory; or its pixels have no
            defined white (floating point, integers of more than 16 bits).
        TypeError: `source` is something else.
    """
    if not isinstance(source, (str, Path, bytes, Image.Image)):
        raise TypeError(f"An image must be a path, bytes or a Pillow image, not {type(source).__name__}.")
    name = f"image {str(source)!r}" if isinstance(source, (str, Path)) else "image"
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(_upright(source, max_pixels))
        data = source if isinstance(source, bytes) else _file_bytes(Path(source))
        form = _kept_apart(data)
        if form in formats:
            return _decoded_apart(data, form, max_pixels)
        return decoded_here(data, max_pixels, [name for name in formats if name not in APART])
    except ImageError as error:
        raise ImageError(f"{name} {error}") from error


@contextmanager
def _decoding() -> Iterator[None]:
    """Around Pillow's work: fed hostile bytes it raises nearly anything (OSError, SyntaxError, struct.error …)."""
    try:
        yield
    except ImageError:
        raise
    except Image.UnidentifiedImageError:
        raise ImageError("is not in a readable image format, or its header is corrupt.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"is too large: {error}") from error
    except MemoryError as error:
        raise ImageError("needs more memory than there is.") from error
    except Exception as error:
        text = " ".join(str(error).split())  # in one line
        raise ImageError(f"is truncated or corrupt ({type(error).__name__}: {text}).") from error


def _file_bytes(path: Path) -> bytes:
    try:
        if not path.exists():
            raise ImageError("does not exist.")
        if not path.is_file():  # opening a pipe or a device could block for ever
            raise ImageError("is not a file.")
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(f"is too large: more than {MAX_BYTES:,} bytes.")
        return path.read_bytes()
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name that cannot be one, with a zero byte
        raise ImageError(f"cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def _refuse_endless(data: bytes) -> None:
    """Refuse a file with so many parts that decoding it takes minutes, or gigabytes, whatever its size in pixels."""
    if not data:
        raise ImageError("is empty: it has 0 bytes.")
    if data.startswith(JPEG):
        _refuse_endless_jpeg(data)
    elif data.startswith(PNG):
        chunks = Counter(name in _PNG_PIXELS for name, _ in islice(png_chunks(data), _MOST_PNG_CHUNKS + 1))
        if chunks.total() > _MOST_PNG_CHUNKS or chunks[False] > _MOST_PARTS:
            raise ImageError("has too many PNG chunks; save it again without its metadata.")
    elif data.startswith(GIF):
        pictures = (start for block, start in gif_blocks(data[:_MOST_GIF_REMARKS]) if block == GIF_PICTURE)
        if len(data) > _MOST_GIF_REMARKS and next(pictures, None) is None:
            raise ImageError("has too many remarks before its first GIF picture; save it again without them.")
    elif data.startswith(TIFF):
        _refuse_endless_tags(data)


def _refuse_endless_tags(data: bytes) -> None:
    """The tags of a TIFF, or of Exif, which is built like one."""
    numbers = size = 0
    for count, count_bytes in tiff_values(data):
        if count_bytes <= len(data):  # others cannot be read, and are passed over
            numbers += count if count_bytes > count else 0
            size += count_bytes
        if numbers > _MOST_TIFF_VALUES or size > 4 * len(data):  # values may share their bytes
            raise ImageError("has more values in its tags than a picture needs; save it again without its metadata.")


def _refuse_endless_jpeg(data: bytes) -> None:
    scans = parts = exif = previous_end = 0
    for marker, start, end in jpeg_segments(data):
        if not scans and start - previous_end > _MOST_STRAY_BYTES:
            raise ImageError("is corrupt: its JPEG segments don't follow one another.")
        parts, previous_end = parts + 1, end
        scans += marker == START_OF_SCAN
        exif += data.startswith(b"Exif\0", start + 4)
        if scans > _MOST_SCANS:
            raise ImageError(f"has more than {_MOST_SCANS} JPEG scans; save it again.")
        if parts > _MOST_PARTS or exif > _MOST_EXIF_SEGMENTS:
            raise ImageError("has too many JPEG segments; save it again without its metadata.")


def _kept_apart(data: bytes) -> str:
    """The format of `APART` whose signature the file has; "" where it has none."""
    if data.startswith(JPEG_2000):
        return "JPEG2000"
    if data.startswith(JPEG_XL):
        return "JXL"
    if data.startswith(ICON):
        return "ICO"
    brands = media_brands(data)
    return "AVIF" if brands & AVIF_BRANDS else "HEIF" if brands & HEIF_BRANDS else ""


def _decoded_apart(data: bytes, form: str, max_pixels: int) -> Image.Image:
    """The picture, decoded by another process. Raises ImageError, also where a package for the format is missing."""
    package, extra = _EXTRAS.get(form, ("", ""))
    if package and find_spec(package) is None:
        raise ImageError(f"is a {_SPOKEN[form]} file, which needs another package: pip install 'mriqa[{extra}]'.")
    try:
        size, pixels = decode(data, form, max_pixels)
    except DecoderProcessError as error:
        raise ImageError(str(error)) from error
    return Image.frombytes("RGB", size, pixels)


def decoded_here(data: bytes, max_pixels: int, formats: Sequence[str]) -> Image.Image:
    """The RGB picture in a file, decoded by this process. On return the decoder is gone, and the memory it holds."""
    _refuse_endless(data)
    with _decoding():
        image = Image.open(io.BytesIO(data), formats=_known_formats(formats))
    with image:
        exif = image.info.get("exif")
        if isinstance(exif, bytes):
            _refuse_endless_tags(exif.removeprefix(b"Exif\0\0"))
        return _to_rgb(_upright(image, max_pixels))


def _known_formats(formats: Sequence[str]) -> list[str]:
    """Those of `formats` that this build of Pillow reads, with the packages beside it, each on one thread."""
    Image.init()
    if "HEIF" in formats:
        from pillow_heif import register_heif_opener

        register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
    if "JXL" in formats:
        from pillow_jxl import JpegXLImagePlugin

        JpegXLImagePlugin.DECODE_THREADS = 0
    if "AVIF" in formats:
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    return [name for name in formats if name in Image.OPEN]


def _upright(image: Image.Image, max_pixels: int) -> Image.Image:
    """A decoded copy, turned as its Exif orientation says."""
    if image.width * image.height > max_pixels:
        raise ImageError(f"is too large: {image.width} × {image.height} pixels, more than {max_pixels:,} in all.")
    if isinstance(image, ImageFile) and image.tile and image.tile[0][0] in _SLOW_DECODERS:
        raise ImageError(f"is coded in a way that takes very long to read ({image.tile[0][0]}); save it as PNG.")
    if isinstance(image, TiffImageFile):
        with _decoding():
            tile_pixels = image.tag_v2.get(TILEWIDTH, 0) * image.tag_v2.get(TILELENGTH, 0)
            if tile_pixels > max_pixels:
                raise ImageError(f"is too large: its tiles have {tile_pixels:,} pixels, more than {max_pixels:,}.")
    with _decoding():
        return ImageOps.exif_transpose(image)


def _to_rgb(upright: Image.Image) -> Image.Image:
    with _decoding():
        try:
            return to_srgb(upright)
        except ColourError as error:
            raise ImageError(str(error)) from error
