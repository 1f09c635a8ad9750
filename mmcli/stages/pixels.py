"""The pixels of prepared instances, read again from their source, or out of the store where they were kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcli.errors import DamagedError, UnreadableError
from mmcli.files import fingerprint
from mmcli.readers.image import read_image_as
from mmcli.readers.slide import Slide, open_slide
from mmcli.store import JoinedBag, Source

OPEN_SLIDES = 8  # each may keep 32 MB of decoded tiles
OPEN_BYTES = 1 << 30  # of flat slides, which lie decoded in memory
KNOWN_PATIENTS = 16  # whose coordinates are at hand


def quantise(crop: NDArray[np.float32], window: list[float]) -> NDArray[np.int16]:
    """Intensities in a window to int16: low is -32767, high 32767 (0.03 HU apart for the default window)."""
    low, high = window
    share = (np.clip(crop, low, high) - low) / (high - low)
    return np.round(share * 65534 - 32767).astype(np.int16)


def unit(stored: NDArray[np.int16]) -> NDArray[np.float32]:
    """What `quantise` kept, as the share of its window: low is 0, high 1."""
    share: NDArray[np.float32] = ((stored.astype(np.float32) + 32767) / 65534).astype(np.float32)
    return share


def as_seen(kept: NDArray[Any]) -> NDArray[Any]:
    """Stored pixels as an encoder takes them: int16 as a share of the window, pictures as they are."""
    return unit(kept) if kept.dtype == np.int16 else kept


def luminance(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (h, w, 3) RGB to float32 (h, w) in [0, 1]: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), in whole numbers
    until the one division."""
    rgb = tile.astype(np.int32)
    weighted = 299 * rgb[..., 0] + 587 * rgb[..., 1] + 114 * rgb[..., 2]
    share: NDArray[np.float32] = weighted.astype(np.float32) / np.float32(255_000)
    return share


@dataclass(frozen=True)
class Stacked:
    """How tiles in a row become one instance: `length` of them, as luminance (`channels` 1) or as RGB (3)."""

    length: int
    channels: int

    def pile(self, tiles: Iterator[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """float32 in [0, 1], (length, h, w) or (length, h, w, 3)."""
        if self.channels == 1:
            return np.stack([luminance(tile) for tile in tiles])
        return np.stack([tile.astype(np.float32) / np.float32(255) for tile in tiles])


@dataclass
class _Opened:
    """A slide, opened once by whichever thread comes first."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    slide: Slide | None = None

    @property
    def nbytes(self) -> int:
        return (
            3 * self.slide.dimensions[0] * self.slide.dimensions[1] if self.slide and self.slide.source == "flat" else 0
        )


@dataclass(frozen=True)
class _Where:
    """A patient's coords (N, k), the row of `sources` of each instance, and those sources."""

    coords: NDArray[np.int32]
    numbers: NDArray[np.int32]
    sources: list[Source]


class Pixels:
    """Reads instances of one modality; safe to use from several threads.

    A source whose fingerprint is not the prepared one is refused: its coordinates would mean something else.
    At most `most_open` slides stay open: as many as threads read at a time, and one or two to come. With `stacked`,
    an instance is a sequence of the slide's tiles, as `preprocess --sequence` laid them down.
    """

    def __init__(
        self, bag: JoinedBag, root: Path, most_open: int = OPEN_SLIDES, stacked: Stacked | None = None
    ) -> None:
        self.bag, self.root, self._most_open, self.stacked = bag, root, most_open, stacked
        tiles = np.diff(bag.offsets)
        self._step = stacked.length if stacked else 1
        if (tiles % self._step).any():
            raise DamagedError(f"{bag.name}: its tiles are not in sequences of {self._step}; prepare it again")
        self.counts: NDArray[np.int64] = tiles // self._step  # instances of each patient
        self.stored = any("pixels" in piece.arrays for piece in bag.pieces)
        self._slides: OrderedDict[str, _Opened] = OrderedDict()
        self._known: OrderedDict[int, _Where] = OrderedDict()
        self._checked: set[str] = set()
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one instance: (h, w, 3), (d, h, w) or (d, h, w, 3); () where each has its own."""
        if self.stored:
            return next(tuple(p.arrays["pixels"].shape[1:]) for p in self.bag.pieces if "pixels" in p.arrays)
        side = int(self.bag.meta.settings["tile_px"]) if self.bag.meta.kind == "slide" else 0
        if self.stacked:
            return (self.stacked.length, side, side, 3)[: 4 if self.stacked.channels == 3 else 3]
        return (side, side, 3) if side else ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of instances as an encoder takes them."""
        return np.dtype(np.float32 if self.stacked or self.bag.meta.kind == "volume" else np.uint8)

    def rows(self, array: str, patient: int) -> NDArray[Any]:
        """One patient's row of "coords" or "source" for each instance: of a sequence its first tile's."""
        return self.bag.rows(array, patient)[:: self._step]

    def nbytes(self, patient: int) -> NDArray[np.int64]:
        """What each image of a patient takes as uint8 RGB, by the coordinates."""
        coords = self._where(patient).coords.astype(np.int64)
        return np.asarray(coords[:, 2] * coords[:, 3] * 3)

    def instances(self, patient: int, start: int, stop: int) -> Iterator[NDArray[Any]]:
        """Instances start:stop of a bag, one by one: uint8 (h, w, 3), or float32 (d, h, w) in [0, 1] for volumes and
        sequences (of three channels: (d, h, w, 3))."""
        if self.stored:
            yield from map(as_seen, self.kept(patient, start, stop))
            return
        where = self._where(patient)
        for number in range(start, stop):
            if self.stacked:
                first = number * self._step
                yield self.stacked.pile(self._picture(where, row) for row in range(first, first + self._step))
            else:
                yield self._picture(where, number)

    def _picture(self, where: _Where, row: int) -> NDArray[np.uint8]:
        x, y, width, height = where.coords[row, :4].tolist()
        source = where.sources[where.numbers[row]]
        if self.bag.meta.kind != "slide":
            return read_image_as(self._checked_path(source), (x, y, width, height), self.bag.meta.settings)
        side = int(self.bag.meta.settings["tile_px"])
        return self._slide(source).read(x, y, width, height, (side, side))

    def kept(self, patient: int, start: int, stop: int) -> NDArray[Any]:
        """The stored pixels (n, ...) of instances start:stop."""
        piece, row = (int(v) for v in self.bag.where[patient])
        return self.bag.pieces[piece].some_rows("pixels", row, start, stop)

    def close(self) -> None:
        """Close all open slides."""
        while self._slides:
            opened = self._slides.popitem()[1]
            if opened.slide is not None:
                opened.slide.close()

    def _where(self, patient: int) -> _Where:
        with self._lock:
            if patient not in self._known:
                piece = self.bag.pieces[self.bag.where[patient, 0]]
                self._known[patient] = _Where(
                    self.bag.rows("coords", patient), self.bag.rows("source", patient), piece.sources
                )
                if len(self._known) > KNOWN_PATIENTS:
                    self._known.popitem(last=False)
            self._known.move_to_end(patient)
            return self._known[patient]

    def _slide(self, source: Source) -> Slide:
        with self._lock:
            opened = self._slides.setdefault(source.path, _Opened())
            self._slides.move_to_end(source.path)
        with opened.lock:  # other slides can be opened and read meanwhile
            if opened.slide is None:
                path = self._checked_path(source)
                opened.slide = open_slide(path, source.mpp or None, source.mpp_source)
                self._drop_oldest()
            return opened.slide

    def _drop_oldest(self) -> None:
        """Another thread may still read from what is dropped: it is closed when nobody holds it."""
        with self._lock:
            while len(self._slides) > 1 and (
                len(self._slides) > self._most_open or sum(o.nbytes for o in self._slides.values()) > OPEN_BYTES
            ):
                self._slides.popitem(last=False)

    def _checked_path(self, source: Source) -> Path:
        path = self.root / source.path
        if source.path not in self._checked:
            if not path.exists():
                raise UnreadableError(f"{path}: no such file; --root tells where the cohort's files are now")
            if fingerprint(path) != source.fingerprint:
                raise UnreadableError(f"{path}: changed since preprocess; run `mmcli preprocess` again")
            self._checked.add(source.path)
        return path
