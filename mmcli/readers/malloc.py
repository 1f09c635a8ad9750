"""Memory that was freed is kept for the next picture, rather than given back to the system and taken anew."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT, MAPPED = 128 << 20, 32 << 20  # bytes; the second is the most that glibc takes


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep up to 128 MB of freed memory; blocks of 32 MB and more still go back at once.

    A tile and its steps are blocks of .1 to 3 MB, which glibc maps and unmaps, or cuts off its heap, again and again:
    the page faults are up to half of a reader's time. For the whole process, so it is for commands to call, not for
    readers. False where there is no glibc, or the environment sets these limits already.
    """
    if any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, MAPPED)) and bool(mallopt(_TRIM_THRESHOLD, KEPT))
