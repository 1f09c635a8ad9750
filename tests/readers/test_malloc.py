"""The allocator's limits, seen by the page faults of a process that allocates and frees."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from mmcli.readers.malloc import keep_freed_memory
told = keep_freed_memory() if sys.argv[1] == "yes" else False
def work():
    for _ in range(50):
        some = [np.ones(3 << 20, np.uint8) for _ in range(8)]
        del some
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(int(told), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(told: str, **environment: str) -> list[int]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", SCRIPT, told]
    done = subprocess.run(command, env={**kept, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_freed_memory_is_not_taken_anew() -> None:
    assert run("yes")[0] == 1
    assert run("yes")[1] < 2000 < run("no")[1]
    assert run("yes", MALLOC_TRIM_THRESHOLD_="100000")[0] == 0
