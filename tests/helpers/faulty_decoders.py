"""Decoders each of which does, at its fourth call, something a decoder must not: to see that the watcher finds it."""

from __future__ import annotations

import os
import signal
import struct
import time
import warnings
from collections.abc import Callable
from itertools import count


def fourth(fault: Callable[[], object]) -> Callable[[bytes], object]:
    calls = count(1)
    return lambda data: fault() if next(calls) == 4 else None


raises = fourth(lambda: struct.unpack("<I", b"bad"))
hangs = fourth(lambda: time.sleep(1000))
crashes = fourth(lambda: os.kill(os.getpid(), signal.SIGSEGV))
warns = fourth(lambda: warnings.warn("look", stacklevel=2))
takes_memory = fourth(lambda: bytes(2**31))
