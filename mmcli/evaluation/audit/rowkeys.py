"""A 64-bit key for each instance, from its bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]


def row_keys(rows: NDArray[Any]) -> Words:
    """(N,) uint64: a key for each row of `rows` (N, dim) that holds more than one number; equal rows have equal keys.

    Each 8 bytes, with their place, go through splitmix64's mixer (Steele, Lea and Flood, OOPSLA 2014), and the results
    are added: unequal rows have equal keys with a probability of about 2^-64.
    """
    rows = np.ascontiguousarray(rows)
    rows = rows[(rows != rows[:, :1]).any(1)] if len(rows) else rows
    raw = rows.view(np.uint8).reshape(len(rows), rows.shape[1] * rows.itemsize)
    padded = np.zeros((len(rows), -(-raw.shape[1] // 8) * 8), np.uint8)
    padded[:, : raw.shape[1]] = raw
    words = padded.view(np.uint64)
    with np.errstate(over="ignore"):
        places = mixed(np.arange(1, words.shape[1] + 1, dtype=np.uint64))
        keys: Words = mixed(words + places).sum(1, dtype=np.uint64)
    return keys


def mixed(words: Words) -> Words:
    """splitmix64's output function, element by element."""
    with np.errstate(over="ignore"):
        z = words + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        out: Words = z ^ (z >> np.uint64(31))
    return out
