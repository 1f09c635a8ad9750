"""The pixels of prepared instances, read again from their source, or out of the store where they were kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcli.errors import UnreadableError
from mmcli.files import fingerprint
from mmcli.readers.image import read_image
from mmcli.readers.slide import Slide, open_slide
from mmcli.store import JoinedBag, Source

OPEN_SLIDES = 8


def quantise(crop: NDArray[np.float32], window: list[float]) -> NDArray[np.int16]:
    """Intensities in a window to int16: low is -32767, high 32767 (0.03 HU apart for the default window)."""
    low, high = window
    share = (np.clip(crop, low, high) - low) / (high - low)
    return np.round(share * 65534 - 32767).astype(np.int16)


def unit(stored: NDArray[np.int16]) -> NDArray[np.float32]:
    """What `quantise` kept, as the share of its window: low is 0, high 1."""
    share: NDArray[np.float32] = ((stored.astype(np.float32) + 32767) / 65534).astype(np.float32)
    return share


class Pixels:
    """Reads batches of instances of one modality; safe to use from several threads.

    A source whose fingerprint is not the prepared one is refused: its coordinates would mean something else.
    """

    def __init__(self, bag: JoinedBag, root: Path) -> None:
        self.bag, self.root = bag, root
        self._slides: OrderedDict[str, Slide] = OrderedDict()
        self._checked: set[str] = set()
        self._lock = threading.Lock()

    def batch(self, patient: int, start: int, stop: int) -> NDArray[Any]:
        """Instances start:stop of a bag: uint8 (n, h, w, 3), or float32 (n, d, h, w) in [0, 1] for volumes."""
        if self.bag.meta.kind == "slide":
            return self._tiles(patient, start, stop)
        return (
            self._images(patient, start, stop) if self.bag.meta.kind == "image" else self._crops(patient, start, stop)
        )

    def close(self) -> None:
        """Close all open slides."""
        while self._slides:
            self._slides.popitem()[1].close()

    def _tiles(self, patient: int, start: int, stop: int) -> NDArray[np.uint8]:
        side = int(self.bag.meta.settings["tile_px"])
        coords, sources = self._where(patient, start, stop)
        tiles = np.empty((stop - start, side, side, 3), np.uint8)
        for i, ((x, y, width, height), source) in enumerate(zip(coords.tolist(), sources, strict=True)):
            tiles[i] = self._slide(source).read(x, y, width, height, (side, side))
        return tiles

    def _images(self, patient: int, start: int, stop: int) -> NDArray[np.uint8]:
        coords, sources = self._where(patient, start, stop)
        if stop - start != 1:
            raise ValueError("images have sizes of their own: read them one by one")
        x, y, width, height = coords[0].tolist()
        image: NDArray[np.uint8] = read_image(self._checked_path(sources[0]))[None, y : y + height, x : x + width]
        return image

    def _crops(self, patient: int, start: int, stop: int) -> NDArray[np.float32]:
        return unit(self.bag.rows("pixels", patient)[start:stop])

    def _where(self, patient: int, start: int, stop: int) -> tuple[NDArray[np.int32], list[Source]]:
        coords = self.bag.rows("coords", patient)[start:stop]
        piece = self.bag.pieces[self.bag.where[patient, 0]]
        numbers = self.bag.rows("source", patient)[start:stop].tolist()
        return coords, [piece.sources[i] for i in numbers]

    def _slide(self, source: Source) -> Slide:
        with self._lock:
            if source.path not in self._slides:
                path = self._checked_path(source)
                self._slides[source.path] = open_slide(path, source.mpp or None, source.mpp_source)
                if len(self._slides) > OPEN_SLIDES:
                    # Another thread may still read from the oldest one: it is closed when nobody holds it.
                    self._slides.popitem(last=False)
            self._slides.move_to_end(source.path)
            return self._slides[source.path]

    def _checked_path(self, source: Source) -> Path:
        path = self.root / source.path
        if source.path not in self._checked:
            if not path.exists():
                raise UnreadableError(f"{path}: no such file; --root tells where the cohort's files are now")
            if fingerprint(path) != source.fingerprint:
                raise UnreadableError(f"{path}: changed since preprocess; run `mmcli preprocess` again")
            self._checked.add(source.path)
        return path
