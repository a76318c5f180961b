"""Write a result file or folder whole or not at all: the one place that does.

What is written grows under a hidden name beside its own and takes that name in one step (a rename). So readers never
see half of it, a full disk or a killed process leaves what was there before, and of several writers the last one wins
whole. A process that is killed may leave the hidden file behind; `remove_half_written`
clears those away.

`sync=True` also waits until the bytes are on the disk, so that not even a power cut leaves a name without its content,
and a full network disk is noticed. It costs milliseconds a file; leave it out for what is quickly made again.

Imports nothing of ours but `mriqa.errors`.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mriqa.errors import UserError

AnyPath = str | os.PathLike[str]

HALF_WRITTEN = re.compile(r"\.[\w-]+\.[0-9a-f]{32}(\.\w+)?")  # names as of `_beside`


class WriteError(UserError, OSError):
    """A file or folder that cannot be written; with `errno`, `strerror` and `filename` as any OSError."""

    def __str__(self) -> str:
        return f"{self.filename} cannot be written ({self.strerror}): see to that, or name another place."


@contextmanager
def replacing(path: AnyPath, *, sync: bool = False, parents: bool = True) -> Iterator[Path]:
    """A hidden path to write a file to; it takes the place of `path` if the block ends without an error.

    The hidden path has the suffix of `path`, for writers that go by it. `parents` makes missing folders.

    Raises:
        WriteError: the disk is full or cannot be written to.
        FileNotFoundError: the folder is gone, and `parents` is off.
    """
    path = Path(path)
    temporary = _beside(path)
    with _failures_named(path):
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if sync:
                flush_to_disk(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: AnyPath, *, overwrite: bool = False, sync: bool = False) -> Iterator[Path]:
    """An empty hidden folder to fill; it gets the name `path` if the block ends without an error.

    Replacing takes two renames: a process killed between them leaves the former folder under a hidden name only.

    Raises:
        WriteError: the disk is full or cannot be written to; or the folder is there already, holds something and
            `overwrite` does not say to replace it (this shows at the end of the block).
    """
    path = Path(path)
    temporary = _beside(path)
    with _failures_named(path):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            if sync:
                flush_to_disk(temporary)
            if overwrite and path.is_dir():
                _swap(temporary, path)
            else:
                temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(text: str, path: AnyPath, *, sync: bool = False, parents: bool = True) -> None:
    """Write `text` as UTF-8; the arguments as for `replacing`."""
    with replacing(path, sync=sync, parents=parents) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(
    value: Any, path: AnyPath, *, indent: int | None = 2, ensure_ascii: bool = True, sync: bool = False
) -> None:
    """Write `value` as standard JSON, NaN and infinity as null (JSON has no word for them).

    Arrays and tensors become lists. `ensure_ascii=False` keeps other letters readable instead of escaping them.
    """
    text = json.dumps(_plain(value), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)
    write_text(text + "\n", path, sync=sync)


def write_jsonl(
    rows: Iterable[Any], path: AnyPath, *, ensure_ascii: bool = True, sync: bool = False, parents: bool = True
) -> None:
    """Write JSON Lines, one value a line, each as `write_json` would; `rows` may be made while they are written."""
    with replacing(path, sync=sync, parents=parents) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for row in rows:
            lines.write(json.dumps(_plain(row), ensure_ascii=ensure_ascii, allow_nan=False) + "\n")


def flush_to_disk(path: AnyPath) -> None:
    """Wait until the bytes of a file, or of every file in a folder, are on the disk.

    Raises OSError where they are not: a full disk shows here at the latest.
    """
    path = Path(path)
    for file in (found for found in path.rglob("*") if found.is_file()) if path.is_dir() else (path,):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def remove_folder(path: AnyPath) -> None:
    """Delete a folder; it loses its name first, so that no half of it is ever taken for the whole."""
    gone = _beside(Path(path))
    Path(path).rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def remove_half_written(folder: AnyPath) -> None:
    """Delete what processes that were killed while they wrote left in `folder`; nobody may write there meanwhile.

    Files and folders named in letters, digits, "-" and "_" are known by their hidden names; others stay.
    """
    for left in [each for each in Path(folder).glob(".*") if HALF_WRITTEN.fullmatch(each.name)]:
        shutil.rmtree(left) if left.is_dir() else left.unlink()


@contextmanager
def _failures_named(path: Path) -> Iterator[None]:
    """Errors of the disk become WriteErrors about `path`; a folder that is gone stays a FileNotFoundError."""
    try:
        yield
    except (UserError, FileNotFoundError):
        raise
    except OSError as error:
        raise WriteError(error.errno or 0, error.strerror or str(error), str(path)) from error


def _beside(path: Path) -> Path:
    """A hidden name in the same folder, which nobody else uses."""
    return path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")


def _swap(new: Path, path: Path) -> None:
    former = _beside(path)
    path.rename(former)
    try:
        new.rename(path)
    except OSError:
        former.rename(path)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
