"""Decoded tiles of slides, shared by the threads of a process: the least recently used go when memory is short."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
# Two rows of tiles of 240 px over 90 000 px of tissue, so that a grid read row by row decodes each of them once.
LIMIT = 128 << 20  # bytes


class TileCache:
    """Tiles by key, of at most `limit` bytes together. A tile that several threads want at once is made once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reset()

    def reset(self) -> None:
        """Forget everything. A child forked while another thread held the lock could never take it, hence a new one."""
        self._lock = threading.Lock()
        self._tiles: OrderedDict[Hashable, Pixels] = OrderedDict()
        self._coming: dict[Hashable, threading.Event] = {}
        self._gone: deque[Hashable] = deque()
        self.bytes = 0

    def get(self, key: Hashable, make: Callable[[], Pixels]) -> Pixels:
        """The tile of `key`, read-only, made by `make` where it is not there; what `make` raises is raised."""
        while True:
            with self._lock:
                tile = self._tiles.get(key)
                if tile is not None:
                    self._tiles.move_to_end(key)
                    return tile
                coming = self._coming.get(key)
                if coming is None:
                    mine = self._coming[key] = threading.Event()
                    break
            coming.wait()  # then it is there, or its maker failed and this thread tries and says why
        try:
            tile = make()
            tile.setflags(write=False)
            self._keep(key, tile)
            return tile
        finally:
            with self._lock:
                self._coming.pop(key, None)
            mine.set()

    def drop(self, owner: Hashable) -> None:
        """Forget the tiles whose key is a tuple that begins with `owner`; at the next tile where this is called by the
        garbage collector amid the cache's own work."""
        self._gone.append(owner)
        if self._lock.acquire(blocking=False):
            try:
                self._forget()
            finally:
                self._lock.release()

    def _forget(self) -> None:
        while self._gone:
            owner = self._gone.popleft()
            for key in [k for k in self._tiles if isinstance(k, tuple) and k[0] == owner]:
                self.bytes -= self._tiles.pop(key).nbytes

    def _keep(self, key: Hashable, tile: Pixels) -> None:
        if tile.nbytes > self.limit // 4:
            return
        with self._lock:
            self._forget()
            self._tiles[key] = tile
            self.bytes += tile.nbytes
            while self.bytes > self.limit:
                self.bytes -= self._tiles.popitem(last=False)[1].nbytes


CACHE = TileCache(LIMIT)
os.register_at_fork(after_in_child=CACHE.reset)
