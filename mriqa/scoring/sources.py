"""What a user points at (files, folders, glob patterns) to the list of image files meant."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".ico", ".jfif", ".jpeg", ".jpg")
    + (".j2k", ".jp2", ".jpx", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp")
)


class SourceError(ValueError):
    """A source that names no image, as one sentence."""


def expand_sources(sources: Iterable[str | Path]) -> list[Path]:
    """The image files of all sources, sorted, each file once however often it is named.

    A folder stands for every file below it with an image's suffix, hidden ones left out; a pattern (`*`, `?`, `[…]`,
    and `**` for any depth) for what it matches; a file for itself, whatever its suffix. Raises SourceError for a
    source that names no file.
    """
    found: dict[str, Path] = {}
    for source in sources:
        paths = list(_expand(str(source)))
        if not paths:
            raise SourceError(_nothing(str(source)))
        for path in paths:
            found.setdefault(os.path.realpath(path), path)
    return sorted(found.values())


def _expand(source: str) -> Iterator[Path]:
    expanded = os.path.expanduser(source)
    # A name that exists is meant as it stands, even if it holds brackets.
    matches = [expanded] if os.path.lexists(expanded) else glob.glob(expanded, recursive=True)
    for match in matches:
        if os.path.isdir(match):
            yield from _images_below(match)
        else:
            yield Path(match)


def _images_below(folder: str) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield Path(parent, name)


def _nothing(source: str) -> str:
    if os.path.isdir(os.path.expanduser(source)):
        return f"The folder {source} holds no image files."
    if glob.has_magic(source):
        return f"The pattern {source} matches nothing."
    return f"There is no file or folder {source}."
