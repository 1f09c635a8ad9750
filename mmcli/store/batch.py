"""Latents as torch takes them: packed bags, gathered from memory or straight from the file."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmcli.errors import RequestError
from mmcli.store.join import JoinedBag
from mmcli.store.parts import MAPS

Ints = NDArray[np.int64]
SMALL = 1 << 13  # numbers: fewer in a bag are not worth a call of their own
CACHED = 1 << 17  # numbers at a time, which stay in the processor's cache


class PackedBag:
    """The bags of n patients, concatenated: no padding, no bag thrown away.

    features (N, dim); patient i of the batch owns rows offsets[i]:offsets[i+1]; `present` (n,) says who has the
    modality at all (a patient without it has no rows). `rows` are the features as they are: the tensor, or what it can
    be made of, for a layer that takes them piece by piece; the tensor is made when it is first asked for. `maps` are
    the spatial latents of the same N instances: stage -> float32 (N, c, t, h, w), as the encoder gave them.
    """

    def __init__(
        self, rows: Tensor | StandardisedRows, offsets: Tensor, present: Tensor, maps: dict[str, Tensor] | None = None
    ) -> None:
        self.rows = rows
        self.offsets = offsets
        self.present = present
        self.maps = maps or {}

    def __len__(self) -> int:
        return len(self.present)

    @property
    def features(self) -> Tensor:
        """(N, dim)."""
        if not isinstance(self.rows, Tensor):
            self.rows = self.rows.tensor()
        return self.rows

    @property
    def owner(self) -> Tensor:
        """(N,) int64: which patient of the batch each instance belongs to."""
        counts = self.offsets.diff()
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    def to(self, device: torch.device) -> PackedBag:
        """The same on another device."""
        maps = {stage: x.to(device) for stage, x in self.maps.items()}
        return PackedBag(self.features.to(device), self.offsets.to(device), self.present.to(device), maps)


class StandardisedRows:
    """(features - mean) * scale of some bags of latents in memory, float32 (N, dim), which nobody has computed yet."""

    def __init__(self, source: Tensor, starts: Ints, offsets: Ints, mean: Tensor, scale: Tensor, room: Room) -> None:
        """Bag i is rows starts[i] and on of `source`, and rows offsets[i]:offsets[i+1] here."""
        self._source, self._starts, self._offsets = source, starts, offsets
        self._scale, self._shift, self._room = scale, -mean * scale, room
        self.shape = torch.Size((int(offsets[-1]), len(mean)))

    def __len__(self) -> int:
        return self.shape[0]

    def tensor(self) -> Tensor:
        """All rows (N, dim)."""
        target = self._room.take(self.shape.numel()).view(self.shape)
        self._write(target, 0)
        return target

    def pieces(self, numbers: int, dtype: torch.dtype = torch.float32) -> Iterator[tuple[slice, Tensor]]:
        """The rows in order as `dtype`, about `numbers` numbers at a time: where they belong, and the rows, which the
        next piece overwrites."""
        step = _rows(numbers, self.shape[1])
        memory = torch.empty(min(step, len(self)), self.shape[1], dtype=dtype)
        for a in range(0, len(self), step):
            piece = memory[: len(self) - a]
            self._write(piece, a)
            yield slice(a, a + len(piece)), piece

    def _write(self, target: Tensor, a: int) -> None:
        """Rows a and on into the target, bag by bag, or together where bags are small."""
        b, offsets = a + len(target), self._offsets
        first, last = int(np.searchsorted(offsets, a, "right")) - 1, int(np.searchsorted(offsets, b))
        ends = np.clip(offsets[first : last + 1], a, b)
        starts = self._starts[first:last] + ends[:-1] - offsets[first:last]
        if target.numel() < SMALL * (last - first):
            rows = np.arange(a, b) + np.repeat(starts - ends[:-1], np.diff(ends))
            self._compute(self._source.index_select(0, torch.from_numpy(rows)), target)
            return
        step = _rows(CACHED, self.shape[1])
        for start, low, high in zip(starts.tolist(), ends[:-1] - a, ends[1:] - a, strict=True):
            for at in range(low, high, step):
                end = min(at + step, high)
                self._compute(self._source[start + at - low : start + end - low], target[at:end])

    def _compute(self, source: Tensor, target: Tensor) -> None:
        if target.dtype == torch.float32:
            torch.addcmul(self._shift, source, self._scale, out=target)
        else:
            target.copy_(torch.addcmul(self._shift, source, self._scale))


def _rows(numbers: int, dim: int) -> int:
    return max(numbers // max(dim, 1), 1)


class Room:
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

    `features` is float32 or float16 as stored; batches are cast when they are used. `map_shapes` has the (c, t, h, w)
    of the stages whose maps were opened.
    """

    def __init__(self, bag: JoinedBag, in_memory: bool = True) -> None:
        self.bag = bag
        self.dim = bag.dim
        self.map_shapes: dict[str, tuple[int, ...]] = {}
        self._maps: dict[str, Tensor] = {}
        self.features: Tensor | None = torch.from_numpy(bag.load()) if in_memory else None
        self._room = Room()

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

        What lies in memory stays there: it is computed when it is used.
        """
        if self.features is None or mean.device.type != "cpu":
            packed = self.pack(patients, present).to(mean.device)
            return PackedBag(torch.addcmul(-mean * scale, packed.features, scale), packed.offsets, packed.present)
        there, starts, offsets = self._places(patients, present)
        rows = StandardisedRows(self.features, starts, offsets, mean, scale, self._room)
        return PackedBag(rows, torch.from_numpy(offsets), torch.from_numpy(there))

    def open_maps(self, stages: list[str], budget: int) -> int:
        """Make stages' maps ready: in memory as far as `budget` bytes go, else in the file. Returns the bytes taken;
        RequestError where some patients' maps are not there, or of another size than the others'."""
        before = budget
        self.map_shapes |= {stage: _map_shape(self.bag, stage, stages) for stage in stages}
        for stage in stages:
            size = int(self.bag.offsets[-1]) * math.prod(self.map_shapes[stage]) * 2
            if size <= budget and stage not in self._maps:
                self._maps[stage] = self._read_maps(stage, np.arange(len(self.bag.present)), self.bag.offsets)
                budget -= size
        return before - budget

    def maps(
        self, patients: NDArray[np.int64], present: NDArray[np.bool_] | None, stages: list[str]
    ) -> dict[str, Tensor]:
        """The maps of the instances that `pack` gives: stage -> float32 (N, c, t, h, w), as the encoder gave them."""
        _, starts, offsets = self._places(patients, present)
        counts = np.diff(offsets)
        rows = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
        return {
            stage: self._maps[stage].index_select(0, torch.from_numpy(rows)).float()
            if stage in self._maps
            else self._read_maps(stage, patients, offsets).float()
            for stage in stages
        }

    def _read_maps(self, stage: str, patients: NDArray[np.int64], offsets: NDArray[np.int64]) -> Tensor:
        """The maps of some patients out of the file, as stored; patient i gets rows offsets[i]:offsets[i+1]."""
        target = np.empty((int(offsets[-1]), *self.map_shapes[stage]), np.float16)
        for i in np.flatnonzero(np.diff(offsets)):
            target[offsets[i] : offsets[i + 1]] = self.bag.rows(MAPS + stage, int(patients[i]))
        return torch.from_numpy(target)

    def _places(
        self, patients: NDArray[np.int64], present: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
        there = (self.bag.present if present is None else present & self.bag.present)[patients]
        starts, ends = self.bag.offsets[patients], self.bag.offsets[patients + 1]
        return there, starts, np.concatenate([[0], np.cumsum(np.where(there, ends - starts, 0))])


def _map_shape(bag: JoinedBag, stage: str, wanted: list[str]) -> tuple[int, ...]:
    """(c, t, h, w) of the maps of a stage, one of those that are wanted."""
    shapes = []
    for piece in bag.pieces:
        if not piece.offsets[-1]:
            continue
        if MAPS + stage not in piece.arrays:
            there = sorted({n.removeprefix(MAPS) for p in bag.pieces for n in p.arrays if n.startswith(MAPS)})
            stages = ",".join(dict.fromkeys([*there, *wanted]))
            raise RequestError(
                f"{bag.name} has no maps of the stage {stage!r} in these stores (there are: "
                f"{', '.join(there) or 'none'}); make them with `mmcli extract-features prepared.h5 --encoder "
                f"{bag.name}={bag.meta.encoder or 'ENCODER'} --maps {bag.name}={stages} "
                "--out features.h5`"
            )
        shapes.append(tuple(map(int, piece.arrays[MAPS + stage].shape[1:])))
    if len(set(shapes)) > 1:
        sizes = " and ".join("x".join(map(str, shape)) for shape in sorted(set(shapes)))
        raise RequestError(f"{bag.name}: the maps of the stage {stage!r} are {sizes}; extract them with one --maps")
    return shapes[0] if shapes else ()
