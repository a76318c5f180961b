"""How image files are put together: JPEG's segments, PNG's chunks, TIFF's first directory, and where an image ends.

Nothing is decoded, so a look costs next to nothing, whatever decoding would cost. Layouts from the standards: ITU-T
T.81 annex B, PNG (third edition) section 5, GIF89a, TIFF 6.0 section 2 and BigTIFF, RFC 9649 (WebP), and ISO/IEC
14496-12 section 4 (boxes, of HEIF, AVIF, JPEG 2000 and JPEG XL). A broken file ends the walk and raises nothing: what
is wrong with it is the decoder's to say.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import islice

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"
GIF = (b"GIF87a", b"GIF89a")
TIFF = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
JPEG_2000 = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")  # as a bare stream, and in boxes
JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")  # likewise
ICON = b"\0\0\1\0"
AVIF_BRANDS = {b"avif", b"avis"}
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
START_OF_SCAN, END_OF_JPEG = 0xDA, 0xD9
GIF_PICTURE, GIF_EXTENSION, END_OF_GIF = 0x2C, 0x21, 0x3B

_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # those that begin a segment, and the end
_ZEROS = re.compile(rb"\0*")
_MOST_JPEGS, _MOST_SEGMENTS = 16, 10_000  # behind one another, and of each: hostile files have millions
_BMP_UNCOMPRESSED = (0, 3)
_MOST_BRANDS = 400  # bytes that they are looked for in
_ODD_BOXES = {b"jP  ", b"JXL ", b"url ", b"xml "}  # names with a space in them
_TIFF_DIRECTORIES = {34665, 34853, 40965}  # Exif, GPS, interoperability
_TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def jpeg_segments(data: bytes, start: int = 0) -> Iterator[tuple[int, int, int]]:
    """Marker, beginning and end of each segment, the last one the end of the image where the file has it.

    Of a scan that is its header alone. Bytes between segments are passed over, as libjpeg does.
    """
    position = start + 2
    while found := _JPEG_MARKER.search(data, position):
        position = found.end()
        marker = data[position - 1]
        if marker != END_OF_JPEG:
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
        yield marker, found.start(), position
        if marker == END_OF_JPEG:
            return


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Name and end of each chunk."""
    position = len(PNG)
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        yield name, position
        if name == b"IEND":
            return


def gif_blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """First byte and beginning of each block; the one that ends the image is a single byte."""
    try:
        position = 13 + _colours(data[10])
        while (block := data[position]) != END_OF_GIF:
            if block not in (GIF_PICTURE, GIF_EXTENSION):
                position += 1  # decoders pass over what they don't know
                continue
            yield block, position
            position += 2 if block == GIF_EXTENSION else 11 + _colours(data[position + 9])
            while length := data[position]:
                position += 1 + length
            position += 1
        yield block, position
    except IndexError:  # beyond the end of the file
        return


def tiff_values(data: bytes) -> Iterator[tuple[int, int]]:
    """Of each tag of the first picture: how many values it has, and their size in bytes together. Also for Exif.

    The tags are those of the first directory and of the ones for Exif that it points to.
    """
    order, big = ("<" if data[:2] == b"II" else ">"), b"+" in data[2:4]
    place, number, entry = (8, order + "Q", order + "HHQQ") if big else (4, order + "I", order + "HHII")
    try:
        directories = [struct.unpack_from(number, data, place)[0]]
        for directory in directories:
            (tags,) = struct.unpack_from(order + ("Q" if big else "H"), data, directory)
            first = directory + (8 if big else 2)
            for position in range(first, first + tags * struct.calcsize(entry), struct.calcsize(entry)):
                tag, kind, count, value = struct.unpack_from(entry, data, position)
                yield count, count * _TIFF_BYTES.get(kind, 0)
                if tag in _TIFF_DIRECTORIES and value not in directories:
                    directories.append(value)
    except (struct.error, OverflowError):  # beyond the end of the file, or of any
        return


def media_brands(data: bytes) -> set[bytes]:
    """The brands that a file of boxes names in its first one: what it may be read as; none for other files."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), _MOST_BRANDS)
    return {data[8:12]} | {data[place : place + 4] for place in range(16, end, 4)}


def end_of_boxes(data: bytes) -> int:
    """Where the boxes end: the last of them that has a name of letters and lies within the file."""
    position = 0
    while (name := data[position + 4 : position + 8]).isalnum() or name in _ODD_BOXES:
        size = int.from_bytes(data[position : position + 4], "big")
        if size == 1:  # the size is a long one, behind the name
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if size == 0:
            return len(data)
        if size < 8 or position + size > len(data):
            break
        position += size
    return position


def end_of_image(data: bytes) -> int | None:
    """Where the image's own bytes end and others may follow; None where its format, or a broken file, does not say.

    JPEG images right behind the first are taken for part of it: phones put a gain map or a preview there.
    """
    if data.startswith(JPEG):
        return _end_of_jpegs(data)
    if data.startswith(PNG):
        return next((end for name, end in png_chunks(data) if name == b"IEND" and end <= len(data)), None)
    if data.startswith(GIF):
        return next((start + 1 for block, start in gif_blocks(data) if block == END_OF_GIF), None)
    if data[4:8] == b"ftyp" or data.startswith((JPEG_2000[1], JPEG_XL[1])):
        return end_of_boxes(data)
    try:
        if data.startswith(b"RIFF"):
            (size,) = struct.unpack_from("<I", data, 4)
            return 8 + size + size % 2
        if data.startswith(b"BM"):
            return _end_of_bmp(data)
        if data.startswith(ICON):
            return _end_of_icon(data)
    except struct.error:
        return None
    return None


def _end_of_jpegs(data: bytes) -> int | None:
    start, end = 0, None
    for _ in range(_MOST_JPEGS):
        if not data.startswith(JPEG, start):
            break
        segments = islice(jpeg_segments(data, start), _MOST_SEGMENTS)
        ends = [position for marker, _, position in segments if marker == END_OF_JPEG]
        if not ends:
            break
        end = ends[0]
        start = _ZEROS.match(data, end).end()  # type: ignore[union-attr]  # it matches everywhere
    return end


def _colours(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _end_of_bmp(data: bytes) -> int | None:
    (pixels, header) = struct.unpack_from("<II", data, 10)
    if header < 40:
        return None
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression not in _BMP_UNCOMPRESSED:
        return None
    return pixels + (width * bits + 31) // 32 * 4 * abs(height)


def _end_of_icon(data: bytes) -> int:
    (count,) = struct.unpack_from("<H", data, 4)
    entries = (struct.unpack_from("<II", data, 6 + 16 * number + 8) for number in range(count))
    return max((size + place for size, place in entries), default=len(data))
