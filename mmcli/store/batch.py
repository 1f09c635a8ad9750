"""Latents as torch takes them: packed bags, gathered from memory or straight from the file."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmcli.store.join import JoinedBag

LARGE = 1 << 16  # numbers: a bag of as many is worth some calls of its own


@dataclass(frozen=True)
class PackedBag:
    """The bags of n patients, concatenated: no padding, no bag thrown away.

    features (N, dim); patient i of the batch owns rows offsets[i]:offsets[i+1]; `present` (n,) says who has the
    modality at all (a patient without it has no rows).
    """

    features: Tensor
    offsets: Tensor
    present: Tensor

    def __len__(self) -> int:
        return len(self.present)

    @property
    def owner(self) -> Tensor:
        """(N,) int64: which patient of the batch each instance belongs to."""
        counts = self.offsets.diff()
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    def to(self, device: torch.device) -> PackedBag:
        """The same on another device."""
        return PackedBag(self.features.to(device), self.offsets.to(device), self.present.to(device))


class _Room:
    """Memory for one batch after another. Blocks of this size come from the system and go back to it each time, and to
    touch new memory costs several times what is done with it."""

    def __init__(self) -> None:
        self._blocks: list[Tensor] = []
        self._lent: list[weakref.ref[NDArray[np.float32]]] = []

    def take(self, numbers: int) -> Tensor:
        """(numbers,) float32 with anything in it: the block of an earlier tensor that nobody holds any more, or a new
        one; it keeps two, as a batch is made while the one before is still held."""
        free = next((i for i, lent in enumerate(self._lent) if lent() is None), len(self._blocks))
        if free == 2:
            return torch.empty(numbers)
        if free == len(self._blocks) or len(self._blocks[free]) < numbers:
            self._blocks[free : free + 1] = [torch.empty(numbers + numbers // 8)]
        view: NDArray[np.float32] = self._blocks[free].numpy()[:numbers]
        self._lent[free : free + 1] = [weakref.ref(view)]
        return torch.from_numpy(view)


class Latents:
    """All latents of one modality: read once into memory, or left in the file when they would not fit.

    `features` is float32 or float16 as stored; batches are cast when they are used.
    """

    def __init__(self, bag: JoinedBag, in_memory: bool = True) -> None:
        self.bag = bag
        self.dim = bag.dim
        self.features: Tensor | None = torch.from_numpy(bag.load()) if in_memory else None
        self._room = _Room()

    def pack(self, patients: NDArray[np.int64], present: NDArray[np.bool_] | None = None) -> PackedBag:
        """The bags of some patients, in their order. `present` (n of all patients,) may hide bags that exist.

        The features are copied once: out of memory by one gather, or out of the file into the tensor.
        """
        there, starts, offsets = self._places(patients, present)
        if self.features is not None:
            counts = np.diff(offsets)
            rows = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
            features = self.features.index_select(0, torch.from_numpy(rows))
        else:
            target = np.empty((int(offsets[-1]), self.dim), self.bag.dtype)
            features = torch.from_numpy(target)
            for i in np.flatnonzero(np.diff(offsets)):
                piece, row = self.bag.where[patients[i]]
                self.bag.pieces[piece].read_into(target, int(row), int(offsets[i]))
        return PackedBag(features, torch.from_numpy(offsets), torch.from_numpy(there))

    def standardised(
        self, patients: NDArray[np.int64], present: NDArray[np.bool_] | None, mean: Tensor, scale: Tensor
    ) -> PackedBag:
        """The same as (features - mean) * scale in float32, on the device of `mean` (dim,) and `scale` (dim,).

        Large bags in memory are computed one by one on their way, while they are in the processor's cache.
        """
        there, starts, offsets = self._places(patients, present)
        few = self.features is None or mean.device.type != "cpu" or offsets[-1] * self.dim < LARGE * max(there.sum(), 1)
        if few:
            packed = self.pack(patients, present).to(mean.device)
            features = packed.features.float().sub_(mean).mul_(scale)  # a copy of ours
            return PackedBag(features, packed.offsets, packed.present)
        target = self._room.take(int(offsets[-1]) * self.dim).view(int(offsets[-1]), self.dim)
        assert self.features is not None
        for i in np.flatnonzero(np.diff(offsets)).tolist():
            start, a, b = int(starts[i]), int(offsets[i]), int(offsets[i + 1])
            for at in range(a, b, step := max(2 * LARGE // self.dim, 1)):
                piece = target[at : min(at + step, b)]
                source = self.features[start + at - a : start + at - a + len(piece)]
                torch.sub(source, mean, out=piece).mul_(scale)
        return PackedBag(target, torch.from_numpy(offsets), torch.from_numpy(there))

    def _places(
        self, patients: NDArray[np.int64], present: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
        there = (self.bag.present if present is None else present & self.bag.present)[patients]
        starts, ends = self.bag.offsets[patients], self.bag.offsets[patients + 1]
        return there, starts, np.concatenate([[0], np.cumsum(np.where(there, ends - starts, 0))])
