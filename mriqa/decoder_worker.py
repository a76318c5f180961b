"""The other side of `mriqa.decoder_process`: read a file from stdin, answer with its picture on stdout, and so on."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

from mriqa.decoder_process import ANSWER, MEMORY, REQUEST
from mriqa.images import ImageError, decoded_here

resource: Any
try:
    import resource
except ImportError:  # Windows, which has no such limits
    resource = None


def main() -> None:
    """Answer requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what decoders print by themselves must not get among the answers
    _limit_memory()
    while request := sys.stdin.buffer.read(REQUEST.size):
        form, max_pixels, seconds, length = REQUEST.unpack(request)
        data = sys.stdin.buffer.read(length)
        _limit_time(seconds)
        try:
            image = decoded_here(data, max_pixels, [form.rstrip(b"\0").decode()])
            size, answer = image.size, image.tobytes()
        except ImageError as error:
            size, answer = (0, 0), str(error).encode()
        answers.write(ANSWER.pack(*size, len(answer)) + answer)
        answers.flush()


def _limit_memory() -> None:
    if resource is not None:
        _limit(resource.RLIMIT_AS, MEMORY)
        _limit(resource.RLIMIT_CORE, 0)  # nobody looks into a decoder that was ended


def _limit_time(seconds: int) -> None:
    """So much from now on; the system ends the process when it is over."""
    if resource is not None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + seconds)


def _limit(what: int, limit: int) -> None:
    _, most = resource.getrlimit(what)
    with suppress(ValueError, OSError):  # macOS knows a limit on memory, and refuses it
        resource.setrlimit(what, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


if __name__ == "__main__":
    main()
