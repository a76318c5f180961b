"""Decode mutated files in another process, and say of each how it ended: even if it hangs or ends the process.

`python watched_decoding.py DECODER FIRST COUNT SEED` is that process. DECODER is MODULE:FUNCTION; it takes a file's
bytes and gives a Pillow image or raises `mriqa.images.ImageError`. Anything else that happens is a fault.
"""

from __future__ import annotations

import importlib
import os
import re
import resource
import selectors
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

MEMORY = 2 * 2**30  # address space of the process
MOST_PIXELS = 25_000_000


@dataclass
class Outcome:
    """How the files ended. `faults`: number and name of each file that ended otherwise, and how."""

    decoded: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    slowest: str = ""
    peak_mib: float = 0.0
    faults: list[str] = field(default_factory=list)


def watch(decoder: str, count: int, seed: int, seconds: float = 30.0, memory: int = MEMORY) -> Outcome:
    """Decode `count` mutated files; a file that takes longer than `seconds` is a fault, and the rest goes on."""
    outcome, first = Outcome(), 0
    while first < count:
        first = _watch_one_process(decoder, first, count, seed, seconds, memory, outcome)
    return outcome


def _watch_one_process(
    decoder: str, first: int, count: int, seed: int, seconds: float, memory: int, outcome: Outcome
) -> int:
    """The number of the next file to decode: `count`, or the one behind the file that ended the process."""
    command = [sys.executable, __file__, decoder, str(first), str(count), str(seed), str(memory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None and process.stderr is not None
        said, errors, number, name = b"", b"", first - 1, "before any file"
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            ready.register(process.stderr, selectors.EVENT_READ)
            while ready.get_map():
                events = ready.select(seconds + (20 if name == "before any file" else 0))
                if not events:
                    process.kill()
                    outcome.faults.append(f"{number} {name}: more than {seconds:g} s")
                    return number + 1
                for key, _ in events:
                    chunk = os.read(key.fd, 65536)
                    if not chunk:
                        ready.unregister(key.fileobj)
                    elif key.fileobj is process.stderr:  # libtiff's remarks; the last ones tell of a crash
                        errors = (errors + chunk)[-2000:]
                    else:
                        *lines, said = (said + chunk).split(b"\n")
                        for line in lines:
                            number, name = _note(line.decode().split("\t"), number, name, outcome)
        status = process.wait()
    if status == 0:
        return count
    outcome.faults.append(f"{number} {name}: the process ended with {status}: {errors.decode(errors='replace')}")
    assert number >= first, outcome.faults[-1]
    return number + 1


def _note(words: list[str], number: int, name: str, outcome: Outcome) -> tuple[int, str]:
    if words[0] == "file":
        return int(words[1]), words[2]
    if words[0] == "peak":
        outcome.peak_mib = max(outcome.peak_mib, float(words[1]))
        return number, name
    how, took = words[0], float(words[1])
    outcome.decoded += how == "decoded"
    outcome.refused += how == "refused"
    if how not in ("decoded", "refused"):
        outcome.faults.append(f"{number} {name}: {how}")
    if took > outcome.slowest_s:
        outcome.slowest_s, outcome.slowest = took, f"{number} {name}"
    return number, name


def _peak_mib() -> float:
    """Of this process alone; `ru_maxrss` would begin with its parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    return int(re.search(r"VmHWM:\s+(\d+)", status.read_text()).group(1)) / 1024


def decode_all(decode: Callable[[bytes], object], first: int, count: int, seed: int, memory: int) -> None:
    """In the watched process: a line before each file, a line after it."""
    from mutate_images import mutated_files

    from mriqa.images import ImageError

    warned: list[str] = []
    warnings.showwarning = lambda message, *_: warned.append(str(message))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    for number, (name, data) in enumerate(islice(mutated_files(count, seed), first, None), first):
        print("file", number, name, sep="\t", flush=True)
        started = time.process_time()
        try:
            decode(data)
            how = "decoded"
        except ImageError as error:
            how = "memory" if "memory" in str(error) else "refused"
        except BaseException as error:
            how = f"raised {type(error).__name__}: {error}".replace("\n", " ").replace("\t", " ")
        how = f"warned {warned.pop()}" if warned else how
        print(how, time.process_time() - started, sep="\t", flush=True)
    print("peak", _peak_mib(), sep="\t", flush=True)


def load_image(data: bytes) -> object:
    from mriqa.images import load_image

    return load_image(data, MOST_PIXELS)


def open_upload(data: bytes) -> object:
    from mriqa.serving.uploads import open_upload

    return open_upload(data, MOST_PIXELS)


if __name__ == "__main__":
    warnings.simplefilter("always")
    module, function = sys.argv[1].split(":")
    decode_all(getattr(importlib.import_module(module), function), *map(int, sys.argv[2:]))
