"""Random numbers that belong to a patient: the same whoever else is in the call, and in whatever order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_GOLDEN, _MIX1, _MIX2 = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def patient_keys(seed: int, ids: Sequence[str]) -> NDArray[np.uint64]:
    """(n,) a 64-bit key a patient, from the seed and the patient's id."""
    digests = b"".join(hashlib.sha256(f"{seed}\0{patient}".encode()).digest()[:8] for patient in ids)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def uniforms(keys: NDArray[np.uint64], first: int, count: int) -> NDArray[np.float64]:
    """(n, count) numbers in (0, 1): the `first`-th and following of each key's own SplitMix64 sequence.

    SplitMix64: Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014, figure 17.
    """
    steps = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    state = keys[:, None] + steps * _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * _MIX1
    state = (state ^ (state >> np.uint64(27))) * _MIX2
    state ^= state >> np.uint64(31)
    numbers: NDArray[np.float64] = ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return numbers
