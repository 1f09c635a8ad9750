"""The patient-level bootstrap: which patients a resample holds, and how often.

A resample of N patients is a row of N counts, N draws with replacement. Everything that is compared is evaluated on
the same rows, so that the difference of two runs is a paired one. Where runs have different patients, the draw is
over the union of their patients in the order of their ids, and a run sees the columns of its own patients: a patient
who is in two runs counts in both equally often. A run with n of the N patients then holds n patients on average, not
in every resample; metrics are ratios, so that only the width of its interval feels it, and hardly.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mmcli.metrics.metric import Floats

CHUNK_BYTES = 16 << 20


def resample(n: int, resamples: int, seed: int, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Floats]:
    """Yield blocks (b, n) of counts, `resamples` rows in all, of at most `chunk_bytes` (but one row at least).

    The rows depend on `n` and `seed` alone: not on the size of the blocks, and the first rows of a longer bootstrap
    are those of a shorter one.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, chunk_bytes // (8 * max(n, 1)))
    for start in range(0, resamples, rows):
        yield counts(draw(generator, n, min(rows, resamples - start)))


def draw(generator: np.random.Generator, n: int, resamples: int) -> npt.NDArray[np.int64]:
    """Indices (resamples, n) of patients drawn with replacement."""
    return generator.integers(n, size=(resamples, n))


def counts(indices: npt.NDArray[np.int64]) -> Floats:
    """How often each of the n patients occurs (B, n) in the drawn indices (B, n)."""
    resamples, n = indices.shape
    cells = (indices + np.arange(resamples)[:, None] * n).ravel()
    return np.bincount(cells, minlength=resamples * n).reshape(resamples, n).astype(np.float64)
