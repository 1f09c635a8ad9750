"""How much memory there is to keep latents in."""

from __future__ import annotations

import re
import resource
from pathlib import Path

from mmcli.errors import RequestError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Bytes of a size such as 8G, 500M or 1.5T (powers of 1024)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    if not match:
        raise RequestError(f"--memory: {text!r} is no size; write for example 8G or 500M")
    return int(float(match[1]) * _UNITS[match[2]])


def free_memory() -> int:
    """Bytes that may still be taken: what the system has, or what a cgroup (a batch job) leaves, the smaller."""
    free = 1 << 33
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        pass
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            used = int((group / "memory.current").read_text(encoding="ascii"))
            free = min(free, max(int(limit) - used, 0))
    except (OSError, ValueError):
        pass
    return free


def latents_budget(memory: str) -> int:
    """Bytes that cached latents may take: `--memory`, or half of what is free."""
    return parse_size(memory) if memory else free_memory() // 2


def peak_memory() -> int:
    """The most bytes that this process has had in memory so far."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):  # second choice: it begins with the peak of the process that started this one
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
