"""The list of images to score, on disk: a million of them cost no memory, and every worker sees the same ones.

It is an SQLite file that is written once and only read ever after, so that it may lie on a shared folder. SQLite sorts
and finds doubles on disk as well.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from mriqa.scoring.jobs.containers import items_of
from mriqa.scoring.jobs.sources import URL_SCHEMES, URLS_ARE_OFF, Item, SourceError, find_files, url_item

SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE settings (json TEXT);
CREATE TABLE items (number INTEGER PRIMARY KEY, kind TEXT, name BLOB, path BLOB, start INTEGER, size INTEGER);
CREATE TEMP TABLE found (real BLOB PRIMARY KEY, name BLOB, path BLOB, holds_many INTEGER) WITHOUT ROWID;
"""
ADD = "INSERT INTO items (kind, name, path, start, size) VALUES (?, ?, ?, ?, ?)"
PAGE = 1000


class ImageList:
    """The images of a list that is on disk, by number from 0; `settings` is what was stored with it."""

    def __init__(self, path: str | Path) -> None:
        # Immutable: without locks, which shared folders are bad at.
        address = f"{Path(path).resolve().as_uri()}?mode=ro&immutable=1"
        self._file = sqlite3.connect(address, uri=True)
        self.settings: dict[str, Any] = json.loads(self._file.execute("SELECT json FROM settings").fetchone()[0])
        self._length: int = self._file.execute("SELECT COALESCE(MAX(number), 0) FROM items").fetchone()[0]

    @classmethod
    def build(
        cls,
        path: str | Path,
        sources: Iterable[str | Path],
        settings: Mapping[str, Any] | None = None,
        allow_urls: bool = False,
    ) -> ImageList:
        """Write the list of all images of `sources` to the new file `path`, and open it.

        First come the image files, sorted, each once however often it is named; then the contents of manifests, tar
        shards and Parquet files, file by file, sorted, in their own order; then URLs. Raises SourceError for a source
        that names nothing, or cannot be read.
        """
        given = [str(source) for source in sources]
        urls = [source for source in given if source.startswith(URL_SCHEMES)]
        if urls and not allow_urls:
            raise SourceError(f"{urls[0]} {URLS_ARE_OFF}.")
        with closing(sqlite3.connect(path)) as file, file:
            file.executescript(SCHEMA)
            file.execute("INSERT INTO settings VALUES (?)", [json.dumps(dict(settings or {}))])
            for source in given:
                if source not in urls:
                    file.executemany("INSERT OR IGNORE INTO found VALUES (?, ?, ?, ?)", _found(source))
            file.execute(
                "INSERT INTO items (kind, name, path, start, size) "
                "SELECT 'file', name, path, 0, 0 FROM found WHERE NOT holds_many ORDER BY name"
            )
            for (holder,) in file.execute("SELECT name FROM found WHERE holds_many ORDER BY name").fetchall():
                file.executemany(ADD, map(_row, items_of(os.fsdecode(holder), allow_urls) or ()))
            file.executemany(ADD, (_row(url_item(url, allow_urls)) for url in dict.fromkeys(urls)))
        images = cls(path)
        if not len(images):
            raise SourceError(f"There is no image in {', '.join(given)}.")
        return images

    def __len__(self) -> int:
        return self._length

    def part(self, start: int, stop: int) -> list[Item]:
        """Items `start` … `stop` - 1, as many of them as there are."""
        rows = self._file.execute(
            "SELECT name, kind, path, start, size FROM items WHERE number > ? AND number <= ? ORDER BY number",
            (start, stop),
        )
        return [Item(os.fsdecode(name), kind, os.fsdecode(path), *place) for name, kind, path, *place in rows]

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), PAGE):
            yield from self.part(start, start + PAGE)

    def close(self) -> None:
        self._file.close()


def _found(source: str) -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    for name in find_files(source):
        # "*" also matches what lies beside images; only who says "*.tar" means the contents of tar files.
        named_so = os.path.splitext(name)[1].lower() == os.path.splitext(source)[1].lower()
        holds_many = named_so and items_of(name) is not None
        # Paths may hold bytes that are no UTF-8, which SQLite's text has no place for.
        real, path = os.path.realpath(name), os.path.abspath(name)
        yield os.fsencode(real), os.fsencode(name), os.fsencode(path), holds_many


def _row(item: Item) -> tuple[str, bytes, bytes, int, int]:
    """An item as a row; its path becomes absolute, as another worker may start from another folder."""
    on_disk = item.kind in ("file", "tar", "parquet")
    path = os.path.abspath(item.path) if on_disk else item.path
    return item.kind, os.fsencode(item.name), os.fsencode(path), item.start, item.size
