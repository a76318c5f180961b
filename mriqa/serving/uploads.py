"""An upload's bytes to a picture, stricter than `mriqa.images`: a file that is also something else is refused.

Such polyglots do this service no harm, since it only ever looks at pixels. They are how files get past a check of
uploads somewhere else, and a service that calls one "an image, quality 3.4" would be lending it that word.
"""

from __future__ import annotations

import io
import re
import zipfile

from PIL import Image

from mriqa.images import ImageError, load_image

# Long enough that the compressed pixels of a large image don't contain one by chance.
_SIGNATURES = {
    "a web page or a script": re.compile(rb"<(?:script|html|iframe)[\s>]|<\?php\s|<svg\s+xmlns|<!doctype\s+html", re.I),
    "a RAR archive": re.compile(rb"Rar!\x1a\x07"),
    "a 7z archive": re.compile(rb"7z\xbc\xaf\x27\x1c"),
}
_PDF_HEADER_WITHIN = 1024  # bytes, where readers of PDF look for it


def open_upload(data: bytes, max_pixels: int) -> Image.Image:
    """The picture in an uploaded file, RGB. Raises ImageError, one sentence, where it is none or not only that."""
    picture = load_image(data, max_pixels)
    other = _also(data)
    if other is not None:
        raise ImageError(f"image is also {other}; save it again as nothing but an image.")
    return picture


def _also(data: bytes) -> str | None:
    """What else the file is, as far as that can be told."""
    if b"PK\x03\x04" in data and zipfile.is_zipfile(io.BytesIO(data)):
        return "a ZIP archive"
    if b"%PDF-" in data[:_PDF_HEADER_WITHIN]:
        return "a PDF document"
    return next((kind for kind, signature in _SIGNATURES.items() if signature.search(data)), None)
