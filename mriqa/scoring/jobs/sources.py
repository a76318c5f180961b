"""What a user points at to the images meant: folders, patterns, files, manifests, tar shards, Parquet files, URLs.

Everything here is a stream of `Item`s, which say where an image is and not what it holds; `mriqa.scoring.jobs.opening`
reads them. What stands inside manifests, tar shards and Parquet files is the business of
`mriqa.scoring.jobs.containers`.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mriqa.errors import UserError

IMAGE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpeg", ".jpf")
    + (".jpg", ".jpx", ".jxl", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp")
)
URL_SCHEMES = ("http://", "https://")
URLS_ARE_OFF = "is a URL, and these are fetched with --allow-urls only"


class SourceError(UserError, ValueError):
    """A source that names no image, as one sentence."""


@dataclass(frozen=True)
class Item:
    """Where one image is.

    Attributes:
        name: what the output calls it: its path, `shard.tar/member`, `file.parquet#row`, or as a manifest has it.
        kind: "file"; "tar", a stretch of a tar file; "parquet", a row of one; "url"; "error", an image known to be bad.
        path: the file, the URL, or for "error" the reason.
        start: where the data begins in a tar file, or the row in a Parquet file, from 0.
        size: bytes of the data in a tar file.
    """

    name: str
    kind: Literal["file", "tar", "parquet", "url", "error"]
    path: str
    start: int = 0
    size: int = 0


def find_files(source: str | Path) -> Iterator[str]:
    """The files that a source names, in no particular order, a folder being read as it is walked.

    A folder stands for every file below it with an image's suffix, hidden ones left out; a pattern (`*`, `?`, `[…]`,
    and `**` for any depth) for what it matches; a file for itself, whatever its suffix. Raises SourceError for a
    source that names no file.
    """
    expanded = os.path.expanduser(source)
    # A name that exists is meant as it stands, even if it holds brackets.
    matches = iter([expanded]) if os.path.lexists(expanded) else glob.iglob(expanded, recursive=True)
    empty = True
    for match in matches:
        for path in _images_below(match) if os.path.isdir(match) else [match]:
            empty = False
            yield path
    if empty:
        raise SourceError(_nothing(str(source)))


def url_item(url: str, allow_urls: bool) -> Item:
    """The image at a URL, or why there is none."""
    return Item(url, "url", url) if allow_urls else Item(url, "error", f"{url} {URLS_ARE_OFF}.")


def _images_below(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    if not entry.is_symlink():
                        yield from _images_below(entry.path)
                elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                    yield entry.path
    except OSError as error:
        raise SourceError(f"The folder {folder} cannot be read ({error.strerror or error}).") from error


def _nothing(source: str) -> str:
    if os.path.isdir(os.path.expanduser(source)):
        return f"The folder {source} holds no image files."
    if glob.has_magic(source):
        return f"The pattern {source} matches nothing."
    return f"There is no file or folder {source}."
