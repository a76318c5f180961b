"""Parts of a dataset that share no content, so that what is measured on one was not learnt from another.

Distorted versions of one picture look alike; were they in training and test, the test would measure memory. Whole
contents therefore go to one part or another.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, overload

from mriqa.errors import UserError

if TYPE_CHECKING:
    from mriqa.manifest import RatedImage


class SplitError(UserError, ValueError):
    """Parts that rows cannot be split into, as one sentence with the cure."""


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
        SplitError: the fractions are not positive or do not sum to 1, or there are fewer contents than parts.

    Example:
        >>> train, test = split_by_content(rows, [0.8, 0.2], seed=1)  # doctest: +SKIP
    """
    shares = list(fractions.values() if isinstance(fractions, Mapping) else fractions)
    if not shares or not all(math.isfinite(share) and share > 0 for share in shares):
        raise SplitError(f"Split fractions must be positive numbers, not {shares}.")
    if not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
        raise SplitError(f"Split fractions must sum to 1, but {shares} sum to {sum(shares):g}.")
    contents = sorted({row.content for row in rows}, key=lambda content: _draw(content, seed))
    if len(contents) < len(shares):
        raise SplitError(
            f"Cannot split {len(contents)} contents into {len(shares)} parts: each part needs a content of its own, so "
            "use fewer parts or more contents."
        )

    part_of: dict[str, int] = {}
    for part, size in enumerate(_sizes(len(contents), shares)):
        for content in contents[len(part_of) : len(part_of) + size]:
            part_of[content] = part
    parts: list[list[RatedImage]] = [[] for _ in shares]
    for row in sorted(rows, key=lambda row: (row.dataset, row.id, str(row.image))):
        parts[part_of[row.content]].append(row)
    return dict(zip(fractions, parts, strict=True)) if isinstance(fractions, Mapping) else parts


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
