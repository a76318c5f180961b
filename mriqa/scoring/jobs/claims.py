"""Who works on what, among workers that share nothing but a folder.

A claim is a file that only one worker can create. It holds the worker's name, under which the worker's own file shows
by its time of change that it is alive: a thread touches it. The claim of a worker that is dead (its process is gone, or
its file has been still for a whole lease) passes to who asks next. Times are those of the shared folder's own clock.

Claims only save work. Two workers that take over a dead one's claim in the same instant, or one that sleeps longer than
its lease and wakes up, do the same work twice; that its result comes once is up to whoever writes it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
from pathlib import Path
from types import TracebackType

from mriqa.files import write_text

LEASE = 60.0
"""Seconds after which a worker that gave no sign of life counts as dead."""


class Claims:
    """The claims of one worker, in the folder `folder`: `with Claims(folder) as claims: claims.take("000012")`."""

    def __init__(self, folder: str | Path, lease: float = LEASE) -> None:
        self.folder, self.lease = Path(folder), lease
        self.worker = uuid.uuid4().hex
        self._alive = self.folder / f"worker-{self.worker}"
        self._mine: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show_life, name="mriqa-claims", daemon=True)

    def __enter__(self) -> Claims:
        self._alive.write_text(json.dumps({"machine": _machine(), "process": os.getpid()}))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for name in list(self._mine):
            self.release(name)
        self._alive.unlink(missing_ok=True)

    def take(self, name: str) -> bool:
        """Whether the claim `name` is ours now. Raises FileNotFoundError where the folder is gone."""
        path = self.folder / name
        try:
            with path.open("x") as file:
                file.write(self.worker)
        except FileExistsError:
            if not self._is_abandoned(path):
                return False
            write_text(self.worker, path, parents=False)
        self._mine.add(name)
        return True

    def release(self, name: str) -> None:
        """Give up a claim of ours; none where there is no such claim any more."""
        self._mine.discard(name)
        (self.folder / name).unlink(missing_ok=True)

    def _is_abandoned(self, path: Path) -> bool:
        try:
            worker = path.read_text()
            sign_of_life = self.folder / f"worker-{worker}" if worker else path  # empty: its worker is about to sign
            last = sign_of_life.stat().st_mtime
            owner = json.loads(sign_of_life.read_text() or "{}") if worker else {}
        except FileNotFoundError:
            return True  # released, or its worker has left
        except ValueError:
            owner = {}
        if owner.get("machine") == _machine() and not _runs(owner["process"]):
            return True
        os.utime(self._alive)
        return self._alive.stat().st_mtime - last > self.lease

    def _show_life(self) -> None:
        while not self._stop.wait(self.lease / 12):
            try:
                os.utime(self._alive)
            except OSError:
                continue  # a shared folder may be out of reach for a while; who comes back late has lost its claims


def _machine() -> str:
    """What tells apart the places whose process numbers mean different processes: machines and containers."""
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {os.readlink(namespace) if namespace.exists() else ''}"


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
