"""From where an image is to its encoded bytes, one container open at a time."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from mriqa.images import ImageError
from mriqa.scoring.jobs.containers import bytes_column
from mriqa.scoring.jobs.sources import Item

MOST_BYTES = 256 * 2**20
"""The size of an encoded image above which it is not read."""

URL_TIMEOUT = 30.0  # seconds
ROWS_AT_ONCE = 16  # of a Parquet file


class Opener:
    """Reads items, quickest in the order of their list: `with Opener() as opener: source = opener.open(item)`."""

    def __init__(self) -> None:
        self._tar: tuple[str, IO[bytes]] | None = None
        self._parquet: tuple[str, _ParquetCursor] | None = None

    def open(self, item: Item) -> Path | bytes:
        """What `load_image` takes: a path or encoded bytes. Raises ImageError, the reason as a sentence."""
        if item.kind == "file":
            return Path(item.path)
        if item.kind == "error":
            raise ImageError(item.path)
        if item.size > MOST_BYTES:
            raise ImageError(f"image {item.name!r} is too large: {item.size:,} bytes.")
        if item.kind == "url":
            return fetch(item.path)
        try:
            return self._from_tar(item) if item.kind == "tar" else self._from_parquet(item)
        except OSError as error:  # Arrow's errors of reading are of this kind or ValueErrors
            raise ImageError(f"image {item.name!r} cannot be read ({error.strerror or error}).") from error

    def _from_tar(self, item: Item) -> bytes:
        if self._tar is None or self._tar[0] != item.path:
            self.close()
            self._tar = item.path, open(item.path, "rb")  # noqa: SIM115 - stays open for the next item
        file = self._tar[1]
        file.seek(item.start)
        data = file.read(item.size)
        if len(data) < item.size:
            raise ImageError(f"image {item.name!r} is cut off: the tar file ends within it.")
        return data

    def _from_parquet(self, item: Item) -> bytes:
        import pyarrow

        try:
            if self._parquet is None or self._parquet[0] != item.path:
                self.close()
                self._parquet = item.path, _ParquetCursor(item.path)
            data = self._parquet[1].value(item.start)
        except (pyarrow.ArrowException, StopIteration) as error:
            self.close()
            raise ImageError(f"image {item.name!r} cannot be read ({error}).") from error
        if isinstance(data, dict):
            data = data["bytes"]
        if not data:
            raise ImageError(f"image {item.name!r} is empty: its row holds no bytes.")
        if len(data) > MOST_BYTES:
            raise ImageError(f"image {item.name!r} is too large: {len(data):,} bytes.")
        return data

    def close(self) -> None:
        """Close the container opened last."""
        if self._tar is not None:
            self._tar[1].close()
        if self._parquet is not None:
            self._parquet[1].file.close()
        self._tar = self._parquet = None

    def __enter__(self) -> Opener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _ParquetCursor:
    """Goes forward through the image column a few rows at a time, so that a row group of gigabytes stays on disk."""

    def __init__(self, path: str) -> None:
        import pyarrow.parquet

        self.file = pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20)
        self.column = bytes_column(self.file.schema_arrow)
        groups = range(self.file.metadata.num_row_groups)
        self.ends = list(accumulate(self.file.metadata.row_group(group).num_rows for group in groups))
        self.group, self.first, self.batch = -1, 0, None

    def value(self, row: int) -> Any:
        group = bisect_right(self.ends, row)
        if group != self.group or row < self.first:
            self.group, self.first, self.batch = group, self.ends[group - 1] if group else 0, None
            self.batches = self.file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[self.column])
        while self.batch is None or row >= self.first + len(self.batch):
            self.first += len(self.batch) if self.batch is not None else 0
            self.batch = next(self.batches)
        return self.batch.column(0)[row - self.first].as_py()


def fetch(url: str) -> bytes:
    """The bytes at a URL, at most `MOST_BYTES` of them. Raises ImageError."""
    import httpx

    try:
        with httpx.stream("GET", url, timeout=URL_TIMEOUT, follow_redirects=True) as response:
            response.raise_for_status()
            data = bytearray()
            for piece in response.iter_bytes():
                data += piece
                if len(data) > MOST_BYTES:
                    raise ImageError(f"image {url!r} is too large: more than {MOST_BYTES:,} bytes.")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ImageError(f"image {url!r} cannot be fetched ({type(error).__name__}: {error}).") from error
    return bytes(data)
