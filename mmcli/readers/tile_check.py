"""Whether a slide's own tiles may stand for what OpenSlide reads: the two are compared before the tiles are trusted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from mmcli.errors import UnreadableError
from mmcli.readers.resample import on_white
from mmcli.readers.tiff_tiles import TileFile, TileLevel

LARGEST = 512  # pixels a side of what is compared
RANDOM_PLACES = 3
STEPS = 256  # cairo, which OpenSlide draws with, moves pixels by steps of 1/256
NEAR = 2  # levels of grey between cairo's interpolation and the one here, whose weights are not rounded

Pixels = NDArray[np.uint8]


def agrees(tiles: TileFile, level: int, path: Path, downsample: float) -> bool:
    """Whether a level's tiles give OpenSlide's pixels in its fullest tile, its corners, its centre and at random.

    Where OpenSlide's level-0 coordinates fall on a pixel of the level (always at level 0 and where the downsample is
    whole), every value has to be the same. Elsewhere OpenSlide interpolates between the level's pixels; then the tiles'
    pixels, interpolated alike, must be within 2 of 255. What OpenSlide refuses as damaged has to be refused. The other
    way round, a tile here and there may be: OpenSlide takes a JPEG for whole that has no end.
    """
    of = tiles.levels[level]
    if of is None:
        return False
    width, height = _side(of.tile_width, of.width), _side(of.tile_height, of.height)
    places = _places(of, width, height)
    refused = 0
    handle = None
    try:
        for x, y in places:
            handle = handle or openslide.OpenSlide(str(path))  # not the slide's own, which an error makes useless
            own = _own(tiles, level, x, y, width, height, downsample)
            at = (round(x * downsample), round(y * downsample))
            try:
                theirs = on_white(np.asarray(handle.read_region(at, level, (width, height))))
            except openslide.OpenSlideError:
                if own is not None:
                    return False
                handle.close()
                handle = None
                continue
            if own is None:
                refused += 1
            elif own.dtype == np.uint8:
                if not np.array_equal(own, theirs):
                    return False
            elif np.abs(own - theirs).max() > NEAR:
                return False
    except openslide.OpenSlideError:
        return False
    finally:
        if handle is not None:
            handle.close()
    return 2 * refused < len(places)


def _side(tile: int, whole: int) -> int:
    return max(1, min(tile, LARGEST, whole - 1))


def _places(of: TileLevel, width: int, height: int) -> list[tuple[int, int]]:
    """Upper left corners of what is compared, inside the level with a pixel to spare."""
    right, bottom = max(of.width - width - 1, 0), max(of.height - height - 1, 0)
    row, column = divmod(of.fullest, of.columns)
    rng = np.random.default_rng([of.width, of.height])
    places = [(column * of.tile_width, row * of.tile_height), (right // 2, bottom // 2)]
    places += [(0, 0), (right, 0), (0, bottom), (right, bottom)]
    places += [(int(rng.integers(right + 1)), int(rng.integers(bottom + 1))) for _ in range(RANDOM_PLACES)]
    return [(min(x, right), min(y, bottom)) for x, y in places]


def _own(
    tiles: TileFile, level: int, x: int, y: int, width: int, height: int, downsample: float
) -> Pixels | NDArray[np.float64] | None:
    """What OpenSlide's interpolation would make of the tiles there; uint8 where it leaves them as they are, None where
    they are damaged."""
    (x0, share_x), (y0, share_y) = (_moved(place, downsample) for place in (x, y))
    try:
        found = tiles.region(level, x0, y0, width + 1, height + 1)
    except UnreadableError:
        return None
    if share_x == share_y == 0:
        return found[:-1, :-1]
    rows = found[:-1] * (1 - share_y) + found[1:] * share_y
    return np.asarray(rows[:, :-1] * (1 - share_x) + rows[:, 1:] * share_x)


def _moved(place: int, downsample: float) -> tuple[int, float]:
    """The pixel of a level that OpenSlide's level-0 coordinate for `place` falls on, and the share of the next one."""
    at = round(round(place * downsample) / downsample * STEPS) / STEPS
    return math.floor(at), at - math.floor(at)
