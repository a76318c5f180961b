"""Give freed tensors back to the system when a model trains on a CPU.

glibc raises by itself the size from which on an allocation has pages of its own, and keeps smaller ones in a heap. A
tensor that outlives a layer's temporary ones then pins their places there, and each layer takes new memory: the process
grows to a multiple of what its tensors hold. With a fixed size every larger tensor goes back once it is freed.
"""

from __future__ import annotations

import ctypes
import sys

M_MMAP_THRESHOLD = -3  # of malloc.h
OWN_PAGES = 1 << 20  # bytes


def return_freed_memory() -> bool:
    """Give allocations of a MiB and more pages of their own, in this process; False where its C library can't."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and mallopt(M_MMAP_THRESHOLD, OWN_PAGES) == 1
