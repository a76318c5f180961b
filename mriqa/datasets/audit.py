"""Find what manifests share that training and test must not share: pictures, and contents.

    from mriqa.datasets.audit import find_leaks
    leaks = find_leaks({"train": train_rows, "test": test_rows})

Five kinds, the plainest first; a pair of pictures is reported once:

    file      the same file
    bytes     another file with the same bytes
    name      the same name of a picture: by id within one public data set, by path where files are not there
    content   the same reference or prompt, whatever its case and spaces; one leak for each content
    look      near duplicates: re-encoded or resized copies (`mriqa.datasets.near_duplicates`)

Contents count as equal across data sets too, except in two different public ones: KADID-10k's I01 is not TID2013's.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Protocol

import numpy as np

from mriqa.datasets.catalogue import DATA_SETS
from mriqa.datasets.listings import AuditError
from mriqa.datasets.near_duplicates import BITS, NEAR, near_pairs, perceptual_hash
from mriqa.images import ImageError

KINDS = ("file", "bytes", "name", "content", "look")


class Listed(Protocol):
    """What a row must tell: `RatedImage` and `ListedImage` do."""

    @property
    def image(self) -> Path: ...
    @property
    def dataset(self) -> str: ...
    @property
    def content(self) -> str: ...
    @property
    def id(self) -> str: ...


@dataclass(frozen=True)
class Leak:
    """Something that two manifests share.

    Attributes:
        kind: one of `KINDS`.
        manifests: names of the two.
        images: a picture of the first and one of the second.
        detail: the shared content, or by how much the pictures differ; "" where there is nothing to add.
        rows: how many rows of the first and of the second manifest it concerns.
    """

    kind: str
    manifests: tuple[str, str]
    images: tuple[Path, Path]
    detail: str = ""
    rows: tuple[int, int] = (1, 1)

    def __str__(self) -> str:
        first, second = self.images
        if self.kind == "content":
            return f"content {self.detail!r}: {self.rows[0]} and {self.rows[1]} rows, such as {first} and {second}"
        return f"{self.kind}: {first} and {second}{f' ({self.detail})' if self.detail else ''}"


@dataclass
class Audit:
    """What an audit found, and what it could not look at."""

    leaks: list[Leak] = field(default_factory=list)
    absent: dict[str, int] = field(default_factory=dict)
    """Manifests with pictures that are not there, and how many."""
    unreadable: dict[Path, str] = field(default_factory=dict)
    """Pictures that can't be read, and why."""

    def counts(self) -> dict[tuple[str, str, str], int]:
        """Leaks by manifests and kind."""
        return dict(Counter((*leak.manifests, leak.kind) for leak in self.leaks))


def find_leaks(
    manifests: Mapping[str, Sequence[Listed]],
    *,
    look: bool = True,
    progress: Callable[[Iterable[object], int], Iterable[object]] | None = None,
) -> list[Leak]:
    """What two or more manifests share. Raises AuditError where a picture can't be read: nobody knows what it leaks.

    Arguments and errors as for `audit`.
    """
    found = audit(manifests, look=look, progress=progress)
    if found.unreadable:
        path, reason = next(iter(found.unreadable.items()))
        raise AuditError(f"{len(found.unreadable)} pictures can't be compared (first: {path}: {reason.rstrip('.')}).")
    return found.leaks


def audit(
    manifests: Mapping[str, Sequence[Listed]],
    *,
    look: bool = True,
    progress: Callable[[Iterable[object], int], Iterable[object]] | None = None,
) -> Audit:
    """Compare every two of the manifests.

    Arguments:
        manifests: rows by the manifest's name.
        look: whether to compare how pictures look, which decodes each of them; bytes are compared in any case.
        progress: wraps the hashing of pictures, as `mriqa.progress.with_progress` does.

    Raises:
        AuditError: there are fewer than two manifests, or one without rows.
        DataSetError: imagehash is not installed (with `look`).
    """
    if len(manifests) < 2:
        raise AuditError("An audit compares two manifests or more.")
    empty = [name for name, rows in manifests.items() if not rows]
    if empty:
        raise AuditError(f"Manifest {empty[0]} has no rows to compare.")
    lists = {name: _PictureList(name, rows) for name, rows in manifests.items()}
    found = Audit(absent={each.name: each.absent for each in lists.values() if each.absent})
    present = {path for each in lists.values() for path in each.files if path is not None}
    digests = _Digests(lists.values())
    hashes = _hashes(sorted(present), found, progress) if look else {}
    for first, second in combinations(lists.values(), 2):
        found.leaks += _leaks(first, second, digests, hashes)
    return found


class _PictureList:
    """One manifest's rows with what they are compared by."""

    def __init__(self, name: str, rows: Sequence[Listed]):
        self.name, self.rows = name, rows
        self.files = [_resolved(row.image) for row in rows]
        self.absent = self.files.count(None)
        self.contents = [_content(row) for row in rows]

    def by_file(self) -> dict[Path, int]:
        """Each file's first row."""
        rows: dict[Path, int] = {}
        for row, path in enumerate(self.files):
            if path is not None:
                rows.setdefault(path, row)
        return rows


def _resolved(path: Path) -> Path | None:
    try:
        return path.resolve() if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # over-long names, NUL bytes, circular links
        return None


def _content(row: Listed) -> str:
    """The row's content as it is compared; "" where it has none but itself."""
    return "" if row.content == row.id else " ".join(row.content.split()).casefold()


def _different_data_sets(first: Listed, second: Listed) -> bool:
    return first.dataset != second.dataset and first.dataset in DATA_SETS and second.dataset in DATA_SETS


def _leaks(
    first: _PictureList, second: _PictureList, digests: _Digests, hashes: Mapping[Path, np.ndarray]
) -> Iterator[Leak]:
    """The leaks between two manifests, each pair of pictures once."""
    names = (first.name, second.name)
    reported: set[tuple[int, int]] = set()

    def leak(kind: str, pairs: Iterable[tuple[int, int]]) -> Iterator[Leak]:
        for pair in pairs:
            if pair not in reported:
                reported.add(pair)
                yield Leak(kind, names, (first.rows[pair[0]].image, second.rows[pair[1]].image))

    yield from leak("file", _same_files(first, second))
    yield from leak("bytes", _same_bytes(first, second, digests))
    yield from leak("name", _same_names(first, second))
    yield from _same_contents(first, second)
    yield from _same_looks(first, second, hashes, reported)


def _same_files(first: _PictureList, second: _PictureList) -> Iterator[tuple[int, int]]:
    there = second.by_file()
    for path, row in first.by_file().items():
        if path in there:
            yield row, there[path]


def _same_bytes(first: _PictureList, second: _PictureList, digests: _Digests) -> Iterator[tuple[int, int]]:
    there: dict[bytes, list[int]] = defaultdict(list)
    for path, row in second.by_file().items():
        if digest := digests.of(path):
            there[digest].append(row)
    for path, row in first.by_file().items():
        if digest := digests.of(path):
            yield from ((row, other) for other in there.get(digest, ()))


def _same_names(first: _PictureList, second: _PictureList) -> Iterator[tuple[int, int]]:
    """By id within a public data set; by the path's end where a picture is not there to be compared."""
    ids = {(row.dataset, row.id.casefold()): place for place, row in enumerate(second.rows) if row.dataset in DATA_SETS}
    for place, row in enumerate(first.rows):
        other = ids.get((row.dataset, row.id.casefold()))
        if other is not None:
            yield place, other
    if not first.absent and not second.absent:
        return
    there: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(second.rows):
        there[row.image.name.casefold()].append(place)
    often = Counter(row.image.name.casefold() for row in first.rows)
    for place, row in enumerate(first.rows):
        name = row.image.name.casefold()
        others = there.get(name, ())
        unique = len(others) == 1 and often[name] == 1
        for other in others:
            both_there = first.files[place] is not None and second.files[other] is not None
            if both_there or _different_data_sets(row, second.rows[other]):
                continue
            if unique or row.image.parent.name.casefold() == second.rows[other].image.parent.name.casefold():
                yield place, other


def _same_contents(first: _PictureList, second: _PictureList) -> Iterator[Leak]:
    there: dict[str, list[int]] = defaultdict(list)
    for place, content in enumerate(second.contents):
        there[content].append(place)
    here: dict[str, list[int]] = defaultdict(list)
    for place, content in enumerate(first.contents):
        here[content].append(place)
    for content, places in here.items():
        if not content or content not in there:
            continue
        pairs = [
            (place, other)
            for place in places
            for other in there[content]
            if not _different_data_sets(first.rows[place], second.rows[other])
        ]
        if pairs:
            rows = (len({place for place, _ in pairs}), len({other for _, other in pairs}))
            images = (first.rows[pairs[0][0]].image, second.rows[pairs[0][1]].image)
            yield Leak("content", (first.name, second.name), images, first.rows[pairs[0][0]].content, rows)


def _same_looks(
    first: _PictureList,
    second: _PictureList,
    hashes: Mapping[Path, np.ndarray],
    reported: set[tuple[int, int]],
) -> Iterator[Leak]:
    """Near duplicates that are no pair of an earlier kind and don't share a content that was reported."""
    here = [(row, hashes[path]) for path, row in first.by_file().items() if path in hashes]
    there = [(row, hashes[path]) for path, row in second.by_file().items() if path in hashes]
    if not here or not there:
        return
    pairs = near_pairs(np.stack([words for _, words in here]), np.stack([words for _, words in there]), NEAR)
    for place, other, bits in pairs:
        pair = (here[place][0], there[other][0])
        content = first.contents[pair[0]]
        known = content and content == second.contents[pair[1]]
        if pair in reported or (known and not _different_data_sets(first.rows[pair[0]], second.rows[pair[1]])):
            continue
        images = (first.rows[pair[0]].image, second.rows[pair[1]].image)
        yield Leak("look", (first.name, second.name), images, f"{bits} of {BITS} bits differ")


class _Digests:
    """SHA-256 of files, of those only that have the size of a file in another manifest."""

    def __init__(self, lists: Iterable[_PictureList]):
        sizes: dict[int, set[str]] = defaultdict(set)
        self._sizes: dict[Path, int] = {}
        for each in lists:
            for path in each.by_file():
                self._sizes[path] = path.stat().st_size
                sizes[self._sizes[path]].add(each.name)
        self._shared = {size for size, names in sizes.items() if len(names) > 1}
        self._known: dict[Path, bytes] = {}

    def of(self, path: Path) -> bytes:
        """The digest; b"" where no other manifest has a file of that size."""
        if self._sizes[path] not in self._shared:
            return b""
        if path not in self._known:
            self._known[path] = hashlib.sha256(path.read_bytes()).digest()
        return self._known[path]


def _hashes(
    paths: Sequence[Path], found: Audit, progress: Callable[[Iterable[object], int], Iterable[object]] | None
) -> dict[Path, np.ndarray]:
    """Perceptual hashes of the pictures that have one; those that can't be read go to `found.unreadable`."""

    def hashed(path: Path) -> np.ndarray | ImageError | None:
        try:
            return perceptual_hash(path)
        except ImageError as error:
            return error

    hashes: dict[Path, np.ndarray] = {}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results: Iterable[object] = pool.map(hashed, paths)
        for path, result in zip(paths, progress(results, len(paths)) if progress else results, strict=True):
            if isinstance(result, ImageError):
                found.unreadable[path] = str(result)
            elif isinstance(result, np.ndarray):
                hashes[path] = result
    return hashes
