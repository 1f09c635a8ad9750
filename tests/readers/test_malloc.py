"""The allocator's limits, seen by the page faults of a process that allocates and frees."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, threading
import numpy as np
from mmcli.readers.malloc import keep_freed_memory
told = keep_freed_memory(sys.argv[1] == "large") if sys.argv[1] != "no" else False
size = int(sys.argv[2]) << 20
def work():
    for _ in range(10):
        some = [np.ones(size, np.uint8) for _ in range(3)]
        del some
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
threads = [threading.Thread(target=work) for _ in range(2)]  # whose own heaps hold 64 MB at most
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(int(told), faults)
"""


def run(told: str, megabytes: int, **environment: str) -> list[int]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", SCRIPT, told, str(megabytes)]
    done = subprocess.run(command, env={**kept, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_freed_memory_is_not_taken_anew() -> None:
    small, plain = run("yes", 5), run("no", 5)
    assert (small[0], plain[0]) == (1, 0)
    assert small[1] < 2000 < plain[1]
    assert run("yes", 5, MALLOC_TRIM_THRESHOLD_="100000")[0] == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_large_blocks_stay_only_where_it_is_asked_for() -> None:
    large, small = run("large", 70), run("yes", 70)
    assert (large[0], small[0]) == (1, 1)
    assert large[1] < 2000 < small[1]
