"""Files that are nearly images: deterministic mutations of seeds, by bytes and by the parts a format is made of.

Mutations of parts (chunks, segments, directory entries) leave the file well-formed around them, with lengths and
checksums repaired, so that they get past the first check of a decoder and at the code behind it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from random import Random

from seed_images import png_file, seed_files

from mriqa.images import FORMATS

Mutation = Callable[[bytes, Random], bytes]
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**31 - 1, 2**31, 2**32 - 1)
MOST_BYTES = 2**20  # parts that are multiplied several times would fill the memory by themselves
HEAD = 200  # bytes in which headers lie: half of all mutations go there


def mutated_files(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` files, each with the name of what it was made of; the same for the same seed."""
    seeds = seed_files()
    kinds: dict[str, list[str]] = {}
    for name in sorted(seeds):
        kinds.setdefault(name.split()[0], []).append(name)
    weights = [6 if kind in FORMATS else 1 for kind in kinds]
    for number in range(count):
        random = Random(seed * 1_000_003 + number)
        (kind,) = random.choices(list(kinds), weights)
        name = random.choice(kinds[kind])
        data = seeds[name]
        done = []
        for _ in range(random.choice((1, 1, 1, 2, 2, 3, 6))):
            mutation = random.choice([*BY_BYTES, *BY_PARTS.get(kind, ()) * 4])
            if mutation is _cross:
                other = random.choice(kinds[kind] if random.random() < 0.8 else sorted(seeds))
                data = _cross(data, seeds[other], random)
            else:
                data = mutation(data, random)
            data = data[:MOST_BYTES]
            done.append(mutation.__name__.strip("_"))
        yield f"{name}: {', '.join(done)}", data


def _place(data: bytes, random: Random) -> int:
    return random.randrange(min(len(data), HEAD) if random.random() < 0.5 else len(data)) if data else 0


def _slice(data: bytes, random: Random) -> tuple[int, int]:
    start = _place(data, random)
    return start, start + random.choice((1, 2, 4, 8, 64, 1000))


def _flip_bits(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 2, 8, 40))):
        if changed:
            changed[_place(data, random)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _set_number(data: bytes, random: Random) -> bytes:
    """An extreme value of one, two or four bytes, of either byte order."""
    code = random.choice("BHI")
    number = struct.pack(random.choice("<>") + code, random.choice(EXTREMES) % 256 ** struct.calcsize("<" + code))
    place = _place(data, random)
    return data[:place] + number + data[place + len(number) :]


def _random_bytes(data: bytes, random: Random) -> bytes:
    start, end = _slice(data, random)
    return data[:start] + random.randbytes(end - start) + data[end:]


def _truncate(data: bytes, random: Random) -> bytes:
    return data[: _place(data, random)]


def _insert(data: bytes, random: Random) -> bytes:
    place = _place(data, random)
    new = random.choice((random.randbytes(random.choice((1, 4, 100))), b"\xff" * 300, bytes(300)))
    return data[:place] + new + data[place:]


def _delete(data: bytes, random: Random) -> bytes:
    start, end = _slice(data, random)
    return data[:start] + data[end:]


def _repeat(data: bytes, random: Random) -> bytes:
    start, end = _slice(data, random)
    return data[:end] + data[start:end] * random.choice((1, 3, 200)) + data[end:]


def _move(data: bytes, random: Random) -> bytes:
    start, end = _slice(data, random)
    place = _place(data, random)
    return data[:place] + data[start:end] + data[place:]


def _cross(data: bytes, other: bytes, random: Random) -> bytes:
    """The head of one and the tail of the other."""
    place = _place(data, random)
    return data[:place] + other[place if random.random() < 0.5 else _place(other, random) :]


def _change_parts(parts: list[bytes], random: Random, change: Mutation) -> list[bytes]:
    """Drop, double, swap, multiply or change one of the parts."""
    if not parts:
        return parts
    one, two = random.randrange(len(parts)), random.randrange(len(parts))
    what = random.choice(("drop", "double", "swap", "multiply", "change", "change", "change", "change"))
    if what == "drop":
        return parts[:one] + parts[one + 1 :]
    if what == "double":
        return parts[:two] + [parts[one]] + parts[two:]
    if what == "multiply":
        times = min(random.choice((3, 30, 400)), MOST_BYTES // (len(parts[one]) + 1))
        return parts[:one] + [parts[one]] * times + parts[one:]
    if what == "swap":
        parts[one], parts[two] = parts[two], parts[one]
        return parts
    return parts[:one] + [change(parts[one], random)] + parts[one + 1 :]


def _any_of_bytes(data: bytes, random: Random) -> bytes:
    return random.choice((_flip_bits, _set_number, _random_bytes, _truncate, _insert, _delete, _repeat))(data, random)


def _png_chunks(data: bytes, random: Random) -> bytes:
    chunks, position = [], 8
    while position + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        chunks.append(data[position + 4 : position + 8 + length])  # name and content
        position += 12 + length

    def change(chunk: bytes, random: Random) -> bytes:
        return chunk[:4] + _any_of_bytes(chunk[4:], random)

    return png_file((chunk[:4], chunk[4:]) for chunk in _change_parts(chunks, random, change))


def _png_rows(data: bytes, random: Random) -> bytes:
    """What is compressed in the first chunk of pixels, if it is still sound."""
    start = data.find(b"IDAT")
    if start < 4:
        return data
    (length,) = struct.unpack_from(">I", data, start - 4)
    try:
        rows = zlib.decompress(data[start + 4 : start + 4 + length])
    except zlib.error:
        return data
    changed = png_file([(b"IDAT", zlib.compress(_any_of_bytes(rows, random)))])[8:]
    return data[: start - 4] + changed + data[start + 8 + length :]


def _jpeg_segments(data: bytes, random: Random) -> bytes:
    """Those before the first scan, and what follows as one more; a changed segment gets its right length."""
    segments, position = [], 2
    while position + 4 <= len(data) and data[position + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, position + 2)
        segments.append(data[position : position + 2 + length])
        position += 2 + length

    def change(segment: bytes, random: Random) -> bytes:
        content = _any_of_bytes(segment[4:], random)[:65533]
        return segment[:2] + struct.pack(">H", len(content) + 2) + content

    segments = _change_parts(segments, random, change) if random.random() < 0.7 else segments
    scans = data[position:].split(b"\xff\xda")
    if random.random() < 0.4:
        scans = _change_parts(scans, random, _any_of_bytes)
    return data[:2] + b"".join(segments) + b"\xff\xda".join(scans)


def _riff_chunks(data: bytes, random: Random) -> bytes:
    chunks, position = [], 12
    while position + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, position + 4)
        chunks.append(data[position : position + 8 + length + length % 2])
        position += 8 + length + length % 2

    def change(chunk: bytes, random: Random) -> bytes:
        content = _any_of_bytes(chunk[8:], random)
        return chunk[:4] + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    body = b"WEBP" + b"".join(_change_parts(chunks, random, change))
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _boxes(data: bytes, random: Random) -> bytes:
    """Those of HEIF, AVIF, JPEG 2000 and JPEG XL, each with its right size, at the top or inside of one of them."""
    boxes, position = [], 0
    while position + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, position)
        size = size if 8 <= size <= len(data) - position else len(data) - position
        boxes.append(data[position + 4 : position + size])  # name and content
        position += size

    def change(box: bytes, random: Random) -> bytes:
        head = {b"meta": 8, b"iprp": 4, b"ipco": 4, b"jp2h": 4, b"moov": 4, b"trak": 4}.get(box[:4])
        if head is not None and random.random() < 0.8:
            return box[:head] + _boxes(box[head:], random)
        return box[:4] + _any_of_bytes(box[4:], random)

    return b"".join(struct.pack(">I", len(box) + 4) + box for box in _change_parts(boxes, random, change))


def _tiff_entry(data: bytes, random: Random) -> bytes:
    """One field of one entry in the first directory (not of a BigTIFF)."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 10:
        return data
    (directory,) = struct.unpack_from(order + "I", data, 4)
    if directory + 2 > len(data):
        return data
    (tags,) = struct.unpack_from(order + "H", data, directory)
    place, code = random.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H")))
    place += directory + 2 + 12 * random.randrange(max(1, min(tags, 60)))
    value = random.choice((random.choice(EXTREMES), random.randrange(20), random.randrange(len(data) + 1)))
    number = struct.pack(order + code, value % 256 ** struct.calcsize("<" + code))
    return data[:place] + number + data[place + len(number) :]


BY_BYTES = [_flip_bits, _set_number, _random_bytes, _truncate, _insert, _delete, _repeat, _move, _cross]
BY_PARTS: dict[str, tuple[Mutation, ...]] = {
    "PNG": (_png_chunks, _png_rows),
    "JPEG": (_jpeg_segments,),
    "WEBP": (_riff_chunks,),
    "TIFF": (_tiff_entry,),
    **dict.fromkeys(("AVIF", "HEIF", "JPEG2000", "JXL"), (_boxes,)),
}
