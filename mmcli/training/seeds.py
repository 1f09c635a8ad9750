"""Random numbers that depend on what they are for, and on nothing that happened before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(*what: object) -> int:
    """A seed below 2**63 from anything that can be written as text: SHA-256 of the texts joined by a NUL."""
    digest = hashlib.sha256("\0".join(map(str, what)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*what: object) -> np.random.Generator:
    """A numpy generator of its own for one purpose."""
    return np.random.Generator(np.random.PCG64(derive(*what)))


@contextmanager
def reproducible() -> Iterator[None]:
    """Deterministic algorithms, and torch's global generator as it was before."""
    was = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms would load torch's compiler: a second
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_deterministic_debug_mode(was)
