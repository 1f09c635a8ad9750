"""Latents as torch takes them: packed bags, gathered from memory or straight from the file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmcli.store.join import JoinedBag


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


class Latents:
    """All latents of one modality: read once into memory, or left in the file when they would not fit.

    `features` is float32 or float16 as stored; batches are cast when they are used.
    """

    def __init__(self, bag: JoinedBag, in_memory: bool = True) -> None:
        self.bag = bag
        self.dim = bag.dim
        self.features: Tensor | None = torch.from_numpy(bag.load()) if in_memory else None

    def pack(self, patients: NDArray[np.int64], present: NDArray[np.bool_] | None = None) -> PackedBag:
        """The bags of some patients, in their order. `present` (n of all patients,) may hide bags that exist.

        The features are copied once: out of memory by one gather, or out of the file into the tensor.
        """
        there = (self.bag.present if present is None else present & self.bag.present)[patients]
        starts, ends = self.bag.offsets[patients], self.bag.offsets[patients + 1]
        counts = np.where(there, ends - starts, 0)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        if self.features is not None:
            rows = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
            features = self.features.index_select(0, torch.from_numpy(rows))
        else:
            target = np.empty((int(offsets[-1]), self.dim), self.bag.dtype)
            features = torch.from_numpy(target)
            for i in np.flatnonzero(counts):
                piece, row = self.bag.where[patients[i]]
                self.bag.pieces[piece].read_into(target, int(row), int(offsets[i]))
        return PackedBag(features, torch.from_numpy(offsets), torch.from_numpy(there))
