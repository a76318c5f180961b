"""The images inside files that hold many: manifests, tar shards in WebDataset's layout, Parquet with image bytes.

Only what says where the images are is read here: manifest rows, tar headers, Parquet's footer. So a million images are
listed without being read, and each is found again by its place. A row without a usable image becomes an "error" item.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriqa.manifest.formats import ManifestError, stream_records
from mriqa.manifest.rows import IMAGE_KEYS, shortened
from mriqa.scoring.jobs.sources import IMAGE_SUFFIXES, URL_SCHEMES, Item, SourceError, url_item

if TYPE_CHECKING:
    import pyarrow

BYTES_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "bytes", "content", "data")
COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def items_of(path: str, allow_urls: bool = False) -> Iterator[Item] | None:
    """The items in a file that holds many, in its order; None for a file that is an image itself.

    Raises SourceError where the file as a whole cannot be used.
    """
    readers: dict[str, Callable[[str], Iterator[Item]]] = {
        ".tar": _in_tar,
        ".parquet": lambda path: _in_parquet(path, allow_urls),
        **dict.fromkeys((".jsonl", ".json", ".csv"), lambda path: _in_manifest(path, allow_urls)),
    }
    if path.lower().endswith(COMPRESSED_TARS):
        raise SourceError(f"{path} is compressed, so that its images can't be found again one by one; unpack it first.")
    reader = readers.get(os.path.splitext(path)[1].lower())
    return None if reader is None else reader(path)


def bytes_column(schema: pyarrow.Schema) -> str | None:
    """The column that holds encoded images, as bytes or as Hugging Face's struct of bytes and path; None without one.

    Raises SourceError where several columns could be meant.
    """
    import pyarrow.types as types

    def holds_bytes(kind: Any) -> bool:
        if types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0 and holds_bytes(kind.field("bytes").type)
        return types.is_binary(kind) or types.is_large_binary(kind)

    found = [field.name for field in schema if holds_bytes(field.type)]
    known = [name for name in BYTES_COLUMNS if name in found]
    if len(found) > 1 and not known:
        raise SourceError(f"it has several columns of bytes ({', '.join(found)}); name the one of the images 'image'")
    return known[0] if known else (found or [None])[0]


def _in_manifest(path: str, allow_urls: bool) -> Iterator[Item]:
    folder = os.path.dirname(path)
    try:
        for record in stream_records(Path(path)):
            place = f"{path}:{record.line}"
            if record.problem:
                yield Item(place, "error", f"Row {place} {record.problem}.")
                continue
            value = next((record.row[key] for key in IMAGE_KEYS if record.row.get(key)), None)
            if isinstance(value, list) and len(value) == 1:
                value = value[0]
            if not isinstance(value, str):
                keys = ", ".join(IMAGE_KEYS)
                yield Item(place, "error", f"Row {place} names no image in {keys}, but has {shortened(value)}.")
            elif value.startswith(URL_SCHEMES):
                yield url_item(value, allow_urls)
            else:
                yield Item(value, "file", os.path.join(folder, value))
    except ManifestError as error:
        raise SourceError(str(error)) from error


def _in_tar(path: str) -> Iterator[Item]:
    tar: Any  # whose list of members is not declared
    try:
        with tarfile.open(path, "r:") as tar:
            while True:
                try:
                    member = tar.next()
                except tarfile.ReadError as error:
                    yield Item(f"{path}/…", "error", f"{path} is broken from here on ({error}).")
                    return
                if member is None:
                    return
                tar.members = []  # tarfile would keep them all
                if member.isreg() and os.path.splitext(member.name)[1].lower() in IMAGE_SUFFIXES:
                    yield Item(f"{path}/{member.name}", "tar", path, member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        raise SourceError(f"{path} is not a readable tar file ({error}).") from error


def _in_parquet(path: str, allow_urls: bool) -> Iterator[Item]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
        column = bytes_column(schema)
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{path} is not a readable Parquet file ({error}).") from error
    except SourceError as error:
        raise SourceError(f"{path} cannot be used: {error}.") from error
    if column is None:
        yield from _in_manifest(path, allow_urls)
    else:
        yield from (Item(f"{path}#{row}", "parquet", path, row) for row in range(rows))
