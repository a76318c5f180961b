"""Score any number of images into one table, by any number of workers, of which any may be killed at any time.

Beside the table `scores.parquet` lies, while the job runs, the folder `scores.parquet.work`:

    images.sqlite      the list of all images and the settings, written before the folder gets its name
    claims/            who works on which shard (`mriqa.scoring.jobs.claims`)
    done/00000012.jsonl    the rows of the images 12·S … 13·S - 1
    merged             once all shards are done: the file that takes the table's place

A shard's rows appear under a name that only depends on its number, all of them or none (rename). So each image comes
exactly once however often its shard was begun, even if two workers finish it: the later file replaces an equal one. The
table is put together from all shards, in order, and appears under its name whole; then the folder goes.

Where the images are scored is up to an `Engine`: this process, or a Ray cluster (`mriqa.scoring.ray.engine`).
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mriqa.files import new_folder, remove_folder, write_jsonl, write_text
from mriqa.progress import Bar, progress_bar
from mriqa.scoring.jobs.batch import columns_of, score_rows
from mriqa.scoring.jobs.claims import LEASE, Claims
from mriqa.scoring.jobs.image_list import ImageList
from mriqa.scoring.jobs.sources import Item
from mriqa.scoring.jobs.tables import OutputError, TableFile, check_output

if TYPE_CHECKING:
    from mriqa.scoring.jobs.map_folder import MapFolder
    from mriqa.scoring.scorer import Scorer

LIST, MERGED = "images.sqlite", "merged"
SHARD_SIZE = 64
POLL = 0.5  # seconds between attempts where other workers have all that is left
LOOK = 5.0  # seconds between looks at how far they are


@dataclass(frozen=True)
class Outcome:
    """How a worker's run ended.

    Attributes:
        complete: whether the table is there; without it, other workers have shards left to do.
        n_images, n_done, n_failed: of the whole job, images, those scored, and among them the ones without a score.
        first_failure: name and reason of one of these.
    """

    complete: bool
    n_images: int
    n_done: int
    n_failed: int = 0
    first_failure: tuple[str, str] | None = None


class Engine(Protocol):
    """Where the images of a job are scored."""

    @property
    def takes_all(self) -> bool:
        """Whether it wants all the shards there are at once, rather than one at a time."""
        ...

    def rows(self, job: Job, shards: Sequence[int]) -> Generator[tuple[int, dict[str, Any]], None, None]:
        """The rows of all images of these shards, each with its image's number in the list, in any order."""
        ...


@dataclass(frozen=True)
class InProcess:
    """The engine that is this process, and makes maps where it has a folder for them."""

    scorer: Scorer
    maps: MapFolder | None = None
    takes_all = False

    def rows(self, job: Job, shards: Sequence[int]) -> Generator[tuple[int, dict[str, Any]], None, None]:
        for shard in shards:
            rows = score_rows(self.scorer, job.items(shard), job.text, self.maps)
            yield from enumerate(rows, shard * job.shard_size)


class Job:
    """One table to be made of a list of images; see `open`."""

    def __init__(self, out: Path, images: ImageList, overwrite: bool, prepared: Path | None) -> None:
        self.out, self.images, self.overwrite = out, images, overwrite
        self.folder = work_folder(out)
        self._prepared = prepared
        self._looked = -math.inf

    @property
    def shard_size(self) -> int:
        """Images per shard; the last one may be shorter."""
        return self.images.settings["shard_size"]

    @property
    def n_shards(self) -> int:
        return -(-len(self.images) // self.shard_size)

    @property
    def text(self) -> bool:
        """Whether the table has the raw answers."""
        return self.images.settings.get("text", False)

    def items(self, shard: int) -> list[Item]:
        """The images of a shard."""
        return self.images.part(shard * self.shard_size, (shard + 1) * self.shard_size)

    @classmethod
    def open(
        cls,
        out: str | Path,
        sources: Iterable[str | Path],
        settings: Mapping[str, Any],
        *,
        overwrite: bool = False,
        allow_urls: bool = False,
        shard_size: int = SHARD_SIZE,
    ) -> Job:
        """The job that makes `out` (.jsonl, .csv or .parquet), begun by another worker or an earlier run, or new.

        `settings` is what the scores depend on, "text" for columns with the raw answers and "map", the folder of maps,
        for a column with their names. Of a new job nothing is
        written yet to the folder of `out`. Raises SourceError, and OutputError where `out` exists and is not to be
        overwritten, or where a job with other settings has been begun there.
        """
        out = Path(out)
        sources = [str(source) for source in sources]
        wanted = {**settings, "sources": sources, "allow_urls": allow_urls}
        folder = work_folder(out)
        check_output(out, overwrite)
        if (folder / LIST).is_file():
            images = ImageList(folder / LIST)
            different = [key for key in wanted if images.settings.get(key) != wanted[key]]
            if not different:
                return cls(out, images, overwrite, None)
            before = images.settings.get(different[0])
            images.close()
            if not _is_idle_and_empty(folder):
                raise OutputError(
                    f"{folder} holds an unfinished job with another {different[0]} ({before!r}, not "
                    f"{wanted[different[0]]!r}); give the same options to go on with it, name another --out, or delete "
                    "that folder."
                )
            remove_folder(folder)
        prepared = Path(tempfile.mkdtemp(prefix="mriqa-"))
        try:
            stored = {**wanted, "shard_size": shard_size}
            images = ImageList.build(prepared / LIST, sources, stored, allow_urls)
        except BaseException:
            shutil.rmtree(prepared)
            raise
        return cls(out, images, overwrite, prepared)

    def run(
        self,
        scorer: Scorer,
        part: tuple[int, int] = (0, 1),
        lease: float = LEASE,
        progress: Callable[..., Any] = progress_bar,
    ) -> Outcome:
        """`run_on` this process."""
        return self.run_on(InProcess(scorer), part, lease, progress)

    def run_on(
        self,
        engine: Engine,
        part: tuple[int, int] = (0, 1),
        lease: float = LEASE,
        progress: Callable[..., Any] = progress_bar,
    ) -> Outcome:
        """Score what nobody has scored yet, and put the table together once everything is.

        With `part` (i, n) only every n-th shard from the i-th on; then others may be missing at the end. Without it,
        the worker stays until all are done, to take over those of workers that die. Raises OutputError where the disk
        is full, and what the engine raises; run it again to go on.
        """
        self._publish()
        try:
            with ExitStack() as stack:
                with self._writing():
                    claims = stack.enter_context(Claims(self.folder / "claims", lease))
                with progress(len(self.images), self._n_done()) as bar:
                    self._score_shards(engine, claims, range(part[0], self.n_shards, part[1]), bar)
                while len(self._done_shards()) == self.n_shards:
                    if self._take(claims, MERGED):
                        return self._merge(claims)
                    time.sleep(POLL)
                return Outcome(False, len(self.images), self._n_done())
        except FileNotFoundError:
            if self.folder.exists() or not self.out.exists():
                raise
            return Outcome(True, len(self.images), len(self.images))  # another worker has finished the table

    def close(self) -> None:
        """Forget the list of a job that was not run."""
        self.images.close()
        if self._prepared is not None:
            shutil.rmtree(self._prepared, ignore_errors=True)

    def _publish(self) -> None:
        """Give a new job's folder its name, whole; where another worker was first, its list is the one."""
        if self._prepared is None:
            return
        self.images.close()
        with self._writing():
            try:
                with new_folder(self.folder, sync=True) as new:
                    for name in ("claims", "done"):
                        (new / name).mkdir()
                    shutil.copy(self._prepared / LIST, new / LIST)
                    check_output(self.out, self.overwrite)  # another worker may have finished it by now
            except OSError:
                if not (self.folder / LIST).is_file():  # else another worker's folder was there first
                    raise
        shutil.rmtree(self._prepared)
        settings = self.images.settings
        self.images, self._prepared = ImageList(self.folder / LIST), None
        if self.images.settings | {"shard_size": 0} != settings | {"shard_size": 0}:
            raise OutputError(f"Another job has just begun to write {self.out}; name another --out.")

    def _score_shards(self, engine: Engine, claims: Claims, shards: Sequence[int], bar: Bar) -> None:
        pending = deque(shards)
        while pending:
            mine, busy = [], 0
            for _ in range(len(pending)):
                shard = pending.popleft()
                if self._file(shard).exists():
                    continue
                name = _name(shard)
                if not self._take(claims, name):
                    pending.append(shard)
                    busy += 1
                elif self._file(shard).exists():  # done between the two lines above
                    claims.release(name)
                elif engine.takes_all:
                    mine.append(shard)
                else:
                    self._score(engine, [shard], claims, bar)
            if mine:
                self._score(engine, mine, claims, bar)
            if busy and busy == len(pending):
                self._look_at_others(bar)
                time.sleep(POLL)

    def _score(self, engine: Engine, shards: Sequence[int], claims: Claims, bar: Bar) -> None:
        """Have shards of ours scored, each of them being written and given up as soon as its last image is there."""
        arrived: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
        with closing(engine.rows(self, shards)) as rows:
            for number, row in rows:
                shard = number // self.shard_size
                arrived[shard][number] = row
                bar.advance()
                if len(arrived[shard]) == min(self.shard_size, len(self.images) - shard * self.shard_size):
                    whole = arrived.pop(shard)
                    self._write(shard, [whole[number] for number in sorted(whole)])
                    claims.release(_name(shard))
                    self._look_at_others(bar)

    def _write(self, shard: int, rows: Sequence[Mapping[str, Any]]) -> None:
        with self._writing():
            write_jsonl(rows, self._file(shard), sync=True, parents=False)

    def _look_at_others(self, bar: Bar) -> None:
        """Count their images, too, but not so often that listing the folder takes time."""
        if time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            bar.move_to(self._n_done())

    def _take(self, claims: Claims, name: str) -> bool:
        with self._writing():
            return claims.take(name)

    def _merge(self, claims: Claims) -> Outcome:
        """All shards as one table, which takes its place under its name; then nothing else is left."""
        if self.out.exists() and not self.overwrite:
            raise OutputError(f"{self.out} exists by now; all scores are in {self.folder}, move one of the two away.")
        for left_behind in self.folder.glob(f"{MERGED}-*"):
            left_behind.unlink()
        merged = self.folder / f"{MERGED}-{claims.worker}{self.out.suffix}"
        n_failed, first_failure = 0, None
        with TableFile(merged, self._columns()) as table:
            for row in self._rows():
                table.write(row)
                if row["error"]:
                    n_failed += 1
                    first_failure = first_failure or (row["image"], row["error"])
        with self._writing():
            write_text(merged.name, self.folder / MERGED, parents=False)
            merged.replace(self.out)
            remove_folder(self.folder)
        return Outcome(True, len(self.images), len(self.images), n_failed, first_failure)

    def _columns(self) -> dict[str, type]:
        settings = self.images.settings
        interval = any(row.get("low") is not None for row in self._rows())
        return columns_of(self.text, settings.get("head") is not None, interval, settings.get("map") is not None)

    def _rows(self) -> Iterator[dict[str, Any]]:
        for shard in range(self.n_shards):
            with self._file(shard).open(encoding="ascii") as lines:
                yield from map(json.loads, lines)

    def _file(self, shard: int) -> Path:
        return self.folder / "done" / f"{_name(shard)}.jsonl"

    def _done_shards(self) -> list[str]:
        return [name for name in os.listdir(self.folder / "done") if not name.startswith(".")]

    def _n_done(self) -> int:
        """Images of all finished shards; the last shard is shorter."""
        done = self._done_shards()
        whole = len(done) * self.shard_size
        missing = self.n_shards * self.shard_size - len(self.images)
        return whole - missing if f"{_name(self.n_shards - 1)}.jsonl" in done else whole

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise  # `run` knows whether another worker has finished
        except OSError as error:
            raise OutputError(
                f"The scores can't be written to {self.folder} ({error.strerror or error}). What is done is kept: see "
                "to that and run the same command again."
            ) from error


def work_folder(out: Path) -> Path:
    """Where a job keeps what it has done so far."""
    return out.with_name(out.name + ".work")


def was_just_finished(out: str | Path) -> bool:
    """Whether the worker that made `out` was killed after the table got its name; what it left behind is removed."""
    folder = work_folder(Path(out))
    mark = folder / MERGED
    if mark.is_file() and Path(out).exists() and mark.read_text() and not (folder / mark.read_text()).exists():
        remove_folder(folder)
        return True
    return False


def _is_idle_and_empty(folder: Path) -> bool:
    """Whether a job ended before it had a single shard, as where a server was not there: then nothing is lost."""
    return not any((folder / "done").iterdir()) and not any((folder / "claims").iterdir())


def _name(shard: int) -> str:
    return f"{shard:08d}"
