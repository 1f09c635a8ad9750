"""Which instances go into which batch: fixed by the prepared store and the shard, so that bits do not depend on what
was interrupted when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VOLUME_BYTES = 16 << 20  # of the float32 voxels in one call of an encoder, whose maps take a hundred times as much
IMAGE_BYTES = 64 << 20  # of images of sizes of their own that wait in one batch


@dataclass(frozen=True)
class Span:
    """Instances start:stop of a patient, in slots at:at + stop - start of a batch."""

    patient: int
    start: int
    stop: int
    at: int

    @property
    def slots(self) -> slice:
        """Where they lie in the batch."""
        return slice(self.at, self.at + self.stop - self.start)


@dataclass(frozen=True)
class Batch:
    """What an encoder sees at once: `size` slots, of which the spans fill the first `used`; `nbytes` of pixels of
    instances with sizes of their own."""

    spans: tuple[Span, ...]
    used: int
    size: int
    nbytes: int = 0


def batch_size(wanted: int, instance_bytes: int) -> int:
    """`--batch`, or as many volumes as VOLUME_BYTES hold where those are fewer (0 bytes: pictures, no limit)."""
    return wanted if not instance_bytes else max(1, min(wanted, VOLUME_BYTES // instance_bytes))


def batches(
    patients: Sequence[int],
    counts: NDArray[np.int64],
    size: int,
    nbytes: Callable[[int], NDArray[np.int64]] | None = None,
) -> Iterator[Batch]:
    """Batch b holds instances b * size : (b + 1) * size of the patients' bags laid end to end.

    `counts[i]` are patient i's instances; with `nbytes`, what each of a patient's instances takes, a batch also ends
    before it holds more than IMAGE_BYTES. The last batch is as large as the others, its spare slots empty: all have
    one shape, and a row's bits do not change with the shard. One that is the only one is no larger than it must be.
    """
    spans: list[Span] = []
    used, weight, made = 0, 0, 0
    for patient in patients:
        sizes = nbytes(patient) if nbytes else None
        start = 0
        while start < counts[patient]:
            room = min(size - used, int(counts[patient]) - start)
            if sizes is not None:
                room = int(np.searchsorted(np.cumsum(sizes[start : start + room]), IMAGE_BYTES - weight, "right"))
                room = room or int(not used)
            if room:
                spans.append(Span(patient, start, start + room, used))
                weight += int(sizes[start : start + room].sum()) if sizes is not None else 0
                start, used = start + room, used + room
            if used == size or not room or (sizes is not None and start < counts[patient]):
                yield Batch(tuple(spans), used, size, weight)
                spans, used, weight, made = [], 0, 0, made + 1
    if spans:
        yield Batch(tuple(spans), used, size if made else used, weight)
