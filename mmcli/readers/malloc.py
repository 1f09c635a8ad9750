"""Memory that was freed is kept for the next picture, rather than given back to the system and taken anew."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
KEPT, MAPPED = 128 << 20, 32 << 20  # bytes; the second is the most that glibc takes
KEPT_LARGE = 1 << 30


def keep_freed_memory(large: bool = False) -> bool:
    """Tell glibc's allocator to keep up to 128 MB of freed memory; blocks of 32 MB and more still go back at once.

    A tile and its steps are blocks of .1 to 3 MB, which glibc maps and unmaps, or cuts off its heap, again and again:
    the page faults are up to half of a reader's time. With `large`, blocks of any size stay, up to 1 GB that is free:
    a network on the processor makes and drops maps of 30 to 100 MB in every layer, and the faults of that are a third
    of its time (ResNet-50, 32 tiles: 400 000 faults). For the whole process, so it is for commands to call, not for
    readers. False where there is no glibc, or the environment sets these limits already.
    """
    if any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    if large:
        return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, KEPT_LARGE))
    return bool(mallopt(_MMAP_THRESHOLD, MAPPED)) and bool(mallopt(_TRIM_THRESHOLD, KEPT))
