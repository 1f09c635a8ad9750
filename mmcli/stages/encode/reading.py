"""A batch's pixels: decoded once, in each of the forms that its encoders take."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcli.encoders.base import Encoder
from mmcli.errors import DamagedError, RequestError
from mmcli.stages.encode.batches import Batch, Span
from mmcli.stages.pixels import Pixels, as_seen
from mmcli.stages.spooled import why_failed

Form = tuple[tuple[int, ...], str]  # the input size, () = as they are, and the interpolation that leads there
AS_THEY_ARE: Form = ((), "")


def form_of(encoder: Encoder, shape: tuple[int, ...]) -> Form:
    """The form in which an encoder takes instances of a shape (() = each its own)."""
    if not encoder.input_size or len(encoder.input_size) != 2 or shape[:2] == tuple(encoder.input_size):
        return AS_THEY_ARE
    return tuple(encoder.input_size), encoder.interpolation


def digests_of(kept: NDArray[Any]) -> NDArray[np.uint8]:
    """SHA-256 of each instance's stored pixels, (n, 32)."""
    digests = [hashlib.sha256(np.ascontiguousarray(row).tobytes()).digest() for row in kept]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


@dataclass
class Read:
    """What became of a batch: for each form an array of its slots (a list of images where each has its own size),
    the reasons of the patients that cannot be read, and digests uint8 (size, 32) of pixels that the store keeps."""

    pixels: dict[Form, Any]
    failed: dict[int, str] = field(default_factory=dict)
    digests: NDArray[np.uint8] | None = None

    def clear(self, span: Span) -> None:
        """Empty a span's slots: what an encoder sees there must not depend on how far reading came."""
        for held in self.pixels.values():
            if isinstance(held, list):
                held[span.slots] = [None] * (span.stop - span.start)
            else:
                held[span.slots] = 0


class Reader:
    """Reads batches for several encoders of one modality; safe to use from several threads.

    `failed` are patients that need not be tried again. `pinned` puts the arrays where a GPU fetches them on its own.
    """

    def __init__(self, pixels: Pixels, encoders: Sequence[Encoder], failed: set[int], pinned: bool) -> None:
        self.pixels, self._failed, self._pinned = pixels, failed, pinned
        shape = pixels.shape
        self._by_form = {form_of(encoder, shape): encoder for encoder in encoders}
        self._dtype = pixels.dtype

    def form(self, encoder: Encoder) -> Form:
        """The key of an encoder's pixels."""
        return form_of(encoder, self.pixels.shape)

    @property
    def own_sizes(self) -> bool:
        """Whether an encoder takes images whose sizes differ, as they are."""
        return not self.pixels.shape and AS_THEY_ARE in self._by_form

    def nbytes(self, batch: Batch) -> int:
        """What a batch takes once it is read."""
        items = [self._item(form) for form in self._by_form]
        return batch.nbytes + batch.size * self._dtype.itemsize * sum(int(np.prod(i)) for i in items if i)

    def __call__(self, batch: Batch) -> Read:
        read = Read({form: self._empty(form, batch.size) for form in self._by_form})
        if self.pixels.stored:
            read.digests = np.zeros((batch.size, 32), np.uint8)
        for span in batch.spans:
            if span.patient in self._failed:
                continue
            try:
                self._fill(span, read)
            except (RequestError, DamagedError):
                raise  # of the store or the request, not of this patient
            except Exception as error:
                read.failed[span.patient] = why_failed(error)
        return read

    def _fill(self, span: Span, read: Read) -> None:
        if read.digests is not None:
            kept = self.pixels.kept(span.patient, span.start, span.stop)
            read.digests[span.slots] = digests_of(kept)
            instances: Iterator[NDArray[Any]] = map(as_seen, kept)
        else:
            instances = self.pixels.instances(span.patient, span.start, span.stop)
        for slot, instance in enumerate(instances, span.at):
            for form, encoder in self._by_form.items():
                read.pixels[form][slot] = instance if form == AS_THEY_ARE else encoder.resized(instance)

    def _item(self, form: Form) -> tuple[int, ...]:
        return self.pixels.shape if form == AS_THEY_ARE else (*form[0], 3)

    def _empty(self, form: Form, size: int) -> Any:
        item = self._item(form)
        if not item:
            return [None] * size
        if self._pinned:
            import torch

            kind = torch.float32 if self._dtype == np.float32 else torch.uint8
            return torch.zeros((size, *item), dtype=kind, pin_memory=True).numpy()
        return np.zeros((size, *item), self._dtype)
