"""Pictures that look the same although their files differ: re-encoded, resized, slightly cropped or brightened.

A picture's perceptual hash (`imagehash.phash` of 16 × 16) has 256 bits of its coarse structure. Measured on the 146
photographs of `photos`, 75 pictures of image generators and 26 film stills: copies differ in at most 30 bits (JPEG at
quality 10, or 1 % cropped on each side; JPEG at quality 90: 6; half the size: 10), different photographs in 96 or more,
different pictures of one generator in 68 or more. Mirrored copies are not found.

Legend: N, M pictures of two lists, W words of 64 bits in a hash.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mriqa.datasets.data_set import DataSetError
from mriqa.images import load_image

HASH_SIDE = 16
BITS = HASH_SIDE**2
NEAR = 32
"""Bits, out of `BITS`, up to which two pictures are near duplicates."""

FLAT = 2.0  # grey levels of standard deviation, below which a picture has no structure to tell it from another
CHUNK = 1024  # rows compared with all others at a time


def perceptual_hash(path: Path) -> np.ndarray | None:
    """The hash of a picture as (W,) uint64; None where it is too flat to have one.

    Raises:
        ImageError: the picture can't be read.
        DataSetError: imagehash is not installed.
    """
    try:
        import imagehash
    except ImportError:
        raise DataSetError("Comparing how pictures look needs imagehash: pip install 'mriqa[data]'.") from None
    picture = load_image(path)
    small = picture.convert("L").resize((4 * HASH_SIDE, 4 * HASH_SIDE))
    if np.asarray(small, dtype=np.float64).std() < FLAT:
        return None
    bits = imagehash.phash(picture, hash_size=HASH_SIDE).hash.ravel()
    return np.packbits(bits).view(np.uint64)


def near_pairs(first_NW: np.ndarray, second_MW: np.ndarray, near: int = NEAR) -> list[tuple[int, int, int]]:
    """Pairs of rows that differ in at most `near` bits: (row of the first, row of the second, bits), in order."""
    pairs = []
    for start in range(0, len(first_NW), CHUNK):
        chunk_CW = first_NW[start : start + CHUNK]
        bits_CM = np.zeros((len(chunk_CW), len(second_MW)), dtype=np.uint16)
        for word in range(first_NW.shape[1]):
            bits_CM += np.bitwise_count(chunk_CW[:, None, word] ^ second_MW[None, :, word])
        for row, column in np.argwhere(bits_CM <= near):
            pairs.append((start + int(row), int(column), int(bits_CM[row, column])))
    return pairs
