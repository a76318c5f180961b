"""An upload's bytes to a picture, stricter than `mriqa.images`: a file that is also something else is refused.

Such polyglots do this service no harm, since it only ever looks at pixels. They are how files get past a check of
uploads somewhere else, and a service that calls one "an image, quality 3.4" would be lending it that word.

What comes behind the image is refused by what it is and not as such: phones put a second picture, a gain map, a short
film or the camera's notes there.
"""

from __future__ import annotations

import re

from PIL import Image

from mriqa.image_containers import JPEG, START_OF_SCAN, end_of_image, jpeg_segments
from mriqa.images import ImageError, load_image

FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "JXL", "PNG", "TIFF", "WEBP")
"""Those of `mriqa.images` that open with a signature."""

# Searched for in the whole file, so each is long enough that compressed pixels don't contain it by chance. Each has one
# beginning: several in one expression take ten times as long.
_ANYWHERE = (
    (
        "a web page or a script",
        re.compile(
            rb"<(?:script|html|iframe|body)[\s/>]|<(?:svg|img)[\s/]+[a-z:-]{2,20}\s*=|<!doctype\s+html|<!entity\s"
            rb"|<\?php\s|<\?=\s*`?\$_|<hta:application",
            re.I,
        ),
    ),
    ("a script", re.compile(rb"#!/(?:usr/)?bin/")),
    ("a PHP archive", re.compile(rb"__HALT_COMPILER\(\)")),
    ("a ZIP archive", re.compile(rb"PK(?:\x03\x04[\x00-\x3f]\x00|\x05\x06\x00{4})")),
    ("a RAR archive", re.compile(rb"Rar!\x1a\x07")),
    ("a 7z archive", re.compile(rb"7z\xbc\xaf\x27\x1c")),
    ("a PDF document", re.compile(rb"%PDF-\d")),
    ("an RTF document", re.compile(rb"\{\\rtf1")),
    ("a program", re.compile(rb"\x7fELF[\x01\x02][\x01\x02]\x01")),
    ("a program", re.compile(rb"This program cannot be run in DOS mode")),
)
# Short ones, looked for only right behind the image.
_BEHIND = (
    ("markup", re.compile(rb"<[a-z!?%]", re.I)),
    ("a script", re.compile(rb"#!|%!")),
    ("an archive", re.compile(rb"PK|\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|MSCF|.{257}ustar", re.S)),
    ("a program", re.compile(rb"MZ|\x7fELF|\xca\xfe\xba\xbe|[\xce\xcf]\xfa\xed\xfe|\0asm|dex\n|[CFZ]WS")),
    ("an Office document", re.compile(rb"\xd0\xcf\x11\xe0")),
    ("another image", re.compile(rb"GIF8[79]a")),
)
_PADDING = b"\0\xff \t\r\n"
# A header that reads on as JavaScript: `GIF89a/*…*/=1;`. As sizes the bytes behind the name are out of the question:
# odd ones in BMP and RIFF, a width above 8,000 in GIF.
_HEADER_OF_SCRIPT = re.compile(rb"(?:BM|RIFF)(?:/[/*]|=)|GIF8[79]a\s?(?:/[/*]|=[ -~])")


def open_upload(data: bytes, max_pixels: int) -> Image.Image:
    """The picture in an uploaded file, RGB. Raises ImageError, one sentence, where it is none or not only that."""
    picture = load_image(data, max_pixels, FORMATS)
    other = _also(data)
    if other is not None:
        raise ImageError(f"image is also {other}; save it again as nothing but an image.")
    return picture


def _also(data: bytes) -> str | None:
    """What else the file is, as far as that can be told."""
    if _HEADER_OF_SCRIPT.match(data) or _is_jpeg_of_script(data):
        return "a script"
    behind = data[end_of_image(data) or len(data) :].lstrip(_PADDING)
    anywhere = (kind for kind, signature in _ANYWHERE if signature.search(data))
    return next(anywhere, None) or next((kind for kind, signature in _BEHIND if signature.match(behind)), None)


def _is_jpeg_of_script(data: bytes) -> bool:
    """Whether the first segment's length reads `/*` and a later one, before the pixels, ends that comment."""
    if not (data.startswith(JPEG) and data[4:6] == b"/*"):
        return False
    pixels = next((start for marker, start, _ in jpeg_segments(data) if marker == START_OF_SCAN), len(data))
    return b"*/" in data[:pixels]
