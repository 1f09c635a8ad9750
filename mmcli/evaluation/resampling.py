"""The bootstrap and the jackknife as rows of weights: which units a resample holds, and how often.

A unit is what was sampled from the population: a patient, or a cluster (a group, a site) whose rows come and go
together. A resample of U units is U draws with replacement (Efron 1979); a unit's count is the weight of all its rows
(the cluster bootstrap: Field and Welsh 2007). Within strata, each stratum is resampled by itself and keeps its size.

Everything that is compared is evaluated on the same rows, so that the difference of two runs is a paired one. Where
runs have different patients, the design is of the union of their patients in the order of their ids, and a run sees
the columns of its own patients: a patient who is in two runs counts in both equally often. A run with n of the N
patients then holds n patients on average, not in every resample; metrics are ratios, so that only the width of its
interval feels it, and hardly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmcli.metrics.metric import Floats, Ints

CHUNK_BYTES = 16 << 20
LEFT_OUT = 1000
"""Most rows that a jackknife has."""


@dataclass(frozen=True)
class Design:
    """What is resampled.

    units: the unit (n,) of each row, 0 to U - 1. Where each row is a unit of its own, `Design.rows(n)`.
    strata: the stratum (U,) of each unit, any integers, e.g. the class of each patient; None = one stratum.
    """

    units: Ints
    strata: Ints | None = None

    def __post_init__(self) -> None:
        if self.strata is not None and len(self.units) and len(self.strata) <= self.units.max():
            raise ValueError(f"strata of {len(self.strata)} units, but rows of unit {self.units.max()}")

    @classmethod
    def rows(cls, n: int, strata: Ints | None = None) -> Design:
        """Every one of `n` rows is a unit."""
        return cls(np.arange(n, dtype=np.int64), strata)

    @property
    def n_units(self) -> int:
        """U."""
        if self.strata is not None:
            return len(self.strata)
        return int(self.units.max()) + 1 if len(self.units) else 0

    def members(self) -> list[Ints]:
        """The units of each stratum."""
        if self.strata is None:
            return [np.arange(self.n_units, dtype=np.int64)]
        return [np.flatnonzero(self.strata == s).astype(np.int64) for s in np.unique(self.strata)]

    def spread(self, unit_weights: Floats) -> Floats:
        """Weights (b, n) of the rows from those of the units (b, U)."""
        if np.array_equal(self.units, np.arange(unit_weights.shape[1])):
            return unit_weights
        return unit_weights[:, self.units]


def resample(design: Design, resamples: int, seed: int, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Floats]:
    """Yield blocks (b, n) of the rows' weights, `resamples` in all, of at most `chunk_bytes` (but one at least).

    The weights depend on the design and the seed alone: not on the size of the blocks, and the first resamples of a
    longer bootstrap are those of a shorter one. While a block is made, about three times its size is in use.
    """
    members = design.members()
    # Each stratum has its own stream: what another one draws, and how much at a time, does not touch it.
    streams = [np.random.default_rng(seed)]
    if design.strata is not None:
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(len(members))]
    for size in _blocks(design, resamples, chunk_bytes):
        drawn = [counts(draw(stream, len(m), size)) for stream, m in zip(streams, members, strict=True)]
        if len(drawn) == 1:
            yield design.spread(drawn[0])
            continue
        weights = np.empty((size, design.n_units))
        for m, own in zip(members, drawn, strict=True):
            weights[:, m] = own
        yield design.spread(weights)


def jackknife(design: Design, most: int = LEFT_OUT, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Floats]:
    """Yield blocks (b, n) of the rows' weights, each of which leaves one unit out and counts the others once.

    Of more than `most` units, it leaves out `most` groups of units instead, dealt at random (always the same way) and
    as evenly as possible over the strata: the sums of cubes and of squares that BCa's acceleration is made of have
    the same expectation for groups as for units. Within strata, what is left of a stratum is weighted up to its
    size, since there a bootstrap keeps it too; a unit that is alone in its stratum is never left out.
    """
    group = _left_out_together(design, most)
    rows = int(group.max(initial=-1)) + 1
    members = design.members()
    first = 0
    for size in _blocks(design, rows, chunk_bytes):
        weights = (group[None, :] != np.arange(first, first + size)[:, None]).astype(np.float64)
        first += size
        if design.strata is not None:
            for m in members:
                kept = weights[:, m]
                weights[:, m] = kept * (len(m) / np.maximum(kept.sum(axis=1, keepdims=True), 1))
        yield design.spread(weights)


def _left_out_together(design: Design, most: int) -> Ints:
    """Which row of the jackknife leaves each unit (U,) out; -1 = none does."""
    members = [m for m in design.members() if design.strata is None or len(m) > 1]
    order = np.concatenate([np.zeros(0, dtype=np.int64), *members])
    if len(order) > most:
        generator = np.random.default_rng(0)
        order = np.concatenate([generator.permutation(m) for m in members])
    group = np.full(design.n_units, -1, dtype=np.int64)
    # A stratum's units are neighbours in the order, so that dealing them round spreads them evenly. No stratum loses
    # all of its units in one row: that takes one with more units than rows.
    group[order] = np.arange(len(order)) % most
    return group


def _blocks(design: Design, rows: int, chunk_bytes: int) -> Iterator[int]:
    """Sizes of the blocks that `rows` rows come in; one empty block where there are none."""
    most = max(1, chunk_bytes // (8 * max(len(design.units), design.n_units, 1)))
    for start in range(0, max(rows, 1), most):
        yield min(most, rows - start)


def draw(generator: np.random.Generator, n: int, resamples: int) -> npt.NDArray[np.int64]:
    """Indices (resamples, n) of units drawn with replacement."""
    return generator.integers(n, size=(resamples, n))


def counts(indices: npt.NDArray[np.int64]) -> Floats:
    """How often each of the n units occurs (B, n) in the drawn indices (B, n)."""
    resamples, n = indices.shape
    cells = (indices + np.arange(resamples)[:, None] * n).ravel()
    return np.bincount(cells, minlength=resamples * n).reshape(resamples, n).astype(np.float64)
