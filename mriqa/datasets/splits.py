"""Parts of a dataset that share no content, so that what is measured on one was not learnt from another.

Distorted versions of one picture look alike; were they in training and test, the test would measure memory. Whole
contents therefore go to one part or another.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, overload

from mriqa.datasets.data_set import PARTS, DataSetError

if TYPE_CHECKING:
    from mriqa.manifest import RatedImage

RANDOM_SPLITS = 10
"""As many as papers take the median of."""


@overload
def split_by_content(
    rows: Sequence[RatedImage], fractions: Mapping[str, float], seed: int = 0
) -> dict[str, list[RatedImage]]: ...


@overload
def split_by_content(
    rows: Sequence[RatedImage], fractions: Sequence[float], seed: int = 0
) -> list[list[RatedImage]]: ...


def split_by_content(
    rows: Sequence[RatedImage],
    fractions: Mapping[str, float] | Sequence[float],
    seed: int = 0,
) -> dict[str, list[RatedImage]] | list[list[RatedImage]]:
    """Split rows into parts that are disjoint by `content`, the same way whatever the order of the rows.

    Arguments:
        rows: rated images. Equal content names count as one content even in different datasets.
        fractions: share of the contents (not of the images) for each part, summing to 1: a list, or a dict from part
            names to shares. Every part gets at least one content; rounding goes to the largest remainders.
        seed: another seed, another split.

    Returns:
        One list of rows for each fraction, ordered by dataset and id; a dict of them where `fractions` is one.

    Raises:
        DataSetError: the fractions are not positive or do not sum to 1, or there are fewer contents than parts.

    Example:
        >>> train, test = split_by_content(rows, [0.8, 0.2], seed=1)  # doctest: +SKIP
    """
    shares = list(fractions.values() if isinstance(fractions, Mapping) else fractions)
    if not shares or not all(math.isfinite(share) and share > 0 for share in shares):
        raise DataSetError(f"Split fractions must be positive numbers, not {shares}.")
    if not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
        raise DataSetError(f"Split fractions must sum to 1, but {shares} sum to {sum(shares):g}.")
    contents = sorted({row.content for row in rows}, key=lambda content: _draw(content, seed))
    if len(contents) < len(shares):
        raise DataSetError(
            f"Cannot split {len(contents)} contents into {len(shares)} parts: each part needs a content of its own, so "
            "use fewer parts or more contents."
        )

    part_of = _dealt(contents, shares)
    parts: list[list[RatedImage]] = [[] for _ in shares]
    for row in sorted(rows, key=lambda row: (row.dataset, row.id, str(row.image))):
        parts[part_of[row.content]].append(row)
    return dict(zip(fractions, parts, strict=True)) if isinstance(fractions, Mapping) else parts


def random_split(contents: Iterable[str], ratios: Sequence[int], index: int = 0) -> dict[str, str]:
    """The part of each content in one of ten random splits, the same way whatever the order.

    Arguments:
        contents: names of contents (references, prompts); of pictures where each is its own content.
        ratios: sizes of training, validation and test, or of training and test. They are exact where they sum to the
            number of contents.
        index: which of the ten splits, 0 to 9.

    Returns:
        content -> "training", "validation" or "test".

    Raises:
        DataSetError: there is no such split, or there are fewer contents than parts.
    """
    if index not in range(RANDOM_SPLITS):
        raise DataSetError(f"There are {RANDOM_SPLITS} random splits, 0 to {RANDOM_SPLITS - 1}, and no split {index}.")
    parts = PARTS if len(ratios) == len(PARTS) else (PARTS[0], PARTS[-1])
    drawn = sorted(set(contents), key=lambda content: _draw(content, index))
    if len(drawn) < len(parts):
        raise DataSetError(f"{len(drawn)} contents can't be split into {len(parts)} parts; take a larger data set.")
    part_of = _dealt(drawn, [ratio / sum(ratios) for ratio in ratios])
    return {content: parts[part] for content, part in part_of.items()}


def _dealt(contents: Sequence[str], shares: list[float]) -> dict[str, int]:
    """The part of each content: the first ones to the first part, as many as its share says."""
    part_of: dict[str, int] = {}
    for part, size in enumerate(_sizes(len(contents), shares)):
        for content in contents[len(part_of) : len(part_of) + size]:
            part_of[content] = part
    return part_of


def _draw(content: str, seed: int) -> bytes:
    """A random-looking key that depends on nothing but the content's name and the seed."""
    return hashlib.sha256(f"{seed}:{content}".encode("utf-8", errors="surrogatepass")).digest()


def _sizes(count: int, shares: list[float]) -> list[int]:
    """Contents for each part: its share of `count` by largest remainder, at least one."""
    sizes = [max(1, math.floor(share * count)) for share in shares]
    while sum(sizes) != count:
        surplus = [size - share * count for size, share in zip(sizes, shares, strict=True)]
        if sum(sizes) < count:
            sizes[surplus.index(min(surplus))] += 1
        else:
            largest = max(
                (part for part in range(len(sizes)) if sizes[part] > 1),
                key=lambda part: surplus[part],
            )
            sizes[largest] -= 1
    return sizes
