"""Contrast-limited adaptive histogram equalisation (Zuiderveld, Graphics Gems IV, 1994, p. 474), as OpenCV does it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LEVELS = 256
TILES = 8  # in each direction


def clahe(image: NDArray[np.uint8], clip: float, tiles: int = TILES) -> NDArray[np.uint8]:
    """An RGB picture uint8 (h, w, 3) with its brightness equalised in `tiles` x `tiles` tiles; colours stay.

    `clip`: how many times its even share a grey level may have in a tile's histogram; 1 leaves little change, 2 to 4
    are usual. Pictures smaller than the grid have fewer tiles.
    """
    grey = bool((image == image[:, :, :1]).all())
    if grey:
        return np.repeat(equalise(image[:, :, 0], clip, tiles)[:, :, None], 3, axis=2)
    parts = np.array(Image.fromarray(image).convert("YCbCr"))
    parts[:, :, 0] = equalise(parts[:, :, 0], clip, tiles)
    height, width, _ = parts.shape
    return np.array(Image.frombytes("YCbCr", (width, height), parts.tobytes()).convert("RGB"))


def equalise(grey: NDArray[np.uint8], clip: float, tiles: int = TILES) -> NDArray[np.uint8]:
    """One channel, uint8 (h, w)."""
    height, width = grey.shape
    across, down = min(tiles, width), min(tiles, height)
    padded = grey
    if height % down or width % across:  # OpenCV then adds to both sides, a whole tile count where it fits
        add = (down - height % down, across - width % across)
        padded = np.pad(grey, ((0, add[0]), (0, add[1])), mode="reflect" if min(height, width) > tiles else "edge")
    tile_height, tile_width = padded.shape[0] // down, padded.shape[1] // across
    blocks = padded.reshape(down, tile_height, across, tile_width).transpose(0, 2, 1, 3).reshape(down * across, -1)
    tables = np.stack([_table(block, clip) for block in blocks]).reshape(down, across, LEVELS)
    top, bottom, share_y = _neighbours(height, tile_height, down)
    left, right, share_x = _neighbours(width, tile_width, across)
    share_y, share_x = share_y[:, None], share_x[None, :]
    top, bottom, left, right = top[:, None], bottom[:, None], left[None, :], right[None, :]
    one = np.float32(1)
    above = tables[top, left, grey] * (one - share_x) + tables[top, right, grey] * share_x
    below = tables[bottom, left, grey] * (one - share_x) + tables[bottom, right, grey] * share_x
    equal: NDArray[np.uint8] = np.rint(above * (one - share_y) + below * share_y).astype(np.uint8)
    return equal


def _table(block: NDArray[np.uint8], clip: float) -> NDArray[np.float32]:
    """New grey levels (256,) of a tile: the running sum of its clipped histogram; what is clipped is spread evenly."""
    histogram = np.bincount(block, minlength=LEVELS)
    limit = max(1, int(clip * block.size / LEVELS))
    excess = int(np.maximum(histogram - limit, 0).sum())
    histogram = np.minimum(histogram, limit) + excess // LEVELS
    rest = excess % LEVELS
    if rest:
        histogram[:: max(1, LEVELS // rest)][:rest] += 1
    scale = np.float32(LEVELS - 1) / np.float32(block.size)
    table: NDArray[np.float32] = np.rint(np.cumsum(histogram).astype(np.float32) * scale).astype(np.float32)
    return table


def _neighbours(length: int, tile: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each row (or column) the tiles before and after it, by their centres, and the share of the latter."""
    at = np.arange(length, dtype=np.float32) * np.float32(1 / tile) - np.float32(0.5)
    before = np.floor(at).astype(np.int64)
    share = (at - before.astype(np.float32)).astype(np.float32)
    return np.clip(before, 0, count - 1), np.clip(before + 1, 0, count - 1), share
