"""Decoding in a process of its own, with limits on time and memory, for formats that may take any amount of both.

A few bytes of JPEG 2000, HEIF, AVIF or JPEG XL may ask for gigabytes or for hours, whatever size they announce, and
their decoders are the youngest. So they run in another Python, started at the first such picture and kept for the
next ones; one that ends, or takes too long, costs that picture alone.

A request is a format's name, the pixels and seconds that are allowed and the file's bytes; an answer is an RGB picture
or half a sentence that says why there is none. `mriqa.decoder_worker` is the other side.
"""

from __future__ import annotations

import atexit
import os
import signal
import struct
import subprocess
import sys
import threading
from typing import IO

SECONDS = 20
"""Processor time that a picture may take, to a second or so."""

MEMORY = 4 * 2**30
"""Address space of the process in bytes."""

REQUEST = struct.Struct(">8sQIQ")  # format, pixels, seconds, and bytes of the file, which follow
ANSWER = struct.Struct(">IIQ")  # width and height, both 0 for a refusal, and bytes that follow
_PATIENCE = 10  # seconds by the clock for one of the processor's, which others may be using
_PROGRAM = "import sys; sys.path[:] = {path!r}; from mriqa.decoder_worker import main; main()"

_idle: list[DecoderProcess] = []


class DecoderProcessError(ValueError):
    """Why there is no picture, as the rest of a sentence that begins with the image.

    Never reaches a person by itself: mriqa.images puts the image's name before it.
    """


def decode(data: bytes, form: str, max_pixels: int, seconds: int = SECONDS) -> tuple[tuple[int, int], bytes]:
    """Width and height of the picture in a file of the format `form`, and its RGB bytes, row by row.

    Raises DecoderProcessError where the file is broken, larger than `max_pixels`, or takes too much time or memory.
    """
    try:
        process = _idle.pop()
    except IndexError:
        process = DecoderProcess()
    try:
        size, answer = process.ask(data, form, max_pixels, seconds)
    except BaseException:
        process.end()
        raise
    _idle.append(process)
    if size == (0, 0):
        raise DecoderProcessError(answer.decode("utf-8"))
    return size, answer


class DecoderProcess:
    """One such process, which answers one request at a time."""

    def __init__(self) -> None:
        # As few arenas as can be: each takes 64 MB of the address space.
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
        program = _PROGRAM.format(path=sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def ask(self, data: bytes, form: str, max_pixels: int, seconds: int) -> tuple[tuple[int, int], bytes]:
        """Size and pixels, or (0, 0) and a refusal. Raises DecoderProcessError where the process ends instead."""
        assert self._process.stdin is not None and self._process.stdout is not None
        alarm = threading.Timer(_PATIENCE * (1 + seconds), self._process.kill)
        alarm.daemon = True
        alarm.start()
        try:
            self._process.stdin.write(REQUEST.pack(form.encode(), max_pixels, seconds, len(data)) + data)
            self._process.stdin.flush()
            width, height, length = ANSWER.unpack(_exactly(self._process.stdout, ANSWER.size))
            return (width, height), _exactly(self._process.stdout, length)
        except (BrokenPipeError, EOFError):
            raise DecoderProcessError(self._why_it_ended(seconds)) from None
        finally:
            alarm.cancel()

    def _why_it_ended(self, seconds: int) -> str:
        status = self._process.wait()
        if status in (-getattr(signal, "SIGXCPU", 0), -getattr(signal, "SIGKILL", 0)):
            return f"takes more than {seconds} seconds, or too much memory, to decode; save it as PNG or JPEG."
        return f"is corrupt: its decoder ended with status {status}."

    def end(self) -> None:
        """End it, at once."""
        self._process.kill()
        self._process.communicate()


def _exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _end_all() -> None:
    while _idle:
        _idle.pop().end()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):  # a forked process must not talk to its parent's decoders
    os.register_at_fork(after_in_child=_idle.clear)
