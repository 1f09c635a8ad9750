"""The tiles of a tiled TIFF or SVS file read without OpenSlide: found with tifffile, decoded one by one, kept a while.

Tiles of 8-bit RGB or YCbCr as JPEG (libjpeg-turbo, as in OpenSlide, so that pixels are the same), and of RGB as
deflate, LZW or plain. JPEG tiles get their shared tables, and the colour transform that the TIFF's photometric tag
names: a JPEG without a marker of its own leaves it open. Everything else is not for this module (`open_tiles` says
None), and what it reads is to be compared with OpenSlide before it is trusted (`slide.py` does).
"""

from __future__ import annotations

import itertools
import logging
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray

from mmcli.errors import UnreadableError
from mmcli.readers.faults import one_line
from mmcli.readers.tile_cache import CACHE

Pixels = NDArray[np.uint8]
Decoder = Callable[[bytes, int, int], Pixels]  # a tile's bytes, its height and width in pixels

RGB, YCBCR = 2, 6  # photometric interpretations of TIFF 6.0
PLAIN, LZW, JPEG, DEFLATE = 1, 5, 7, (8, 32946)
MOST_PIXELS, MOST_BYTES = 1 << 24, 1 << 27  # of one tile; a file with larger ones is no tiled slide
_numbers = itertools.count()
# What tifffile complains of, OpenSlide reads or refuses: not for a user's screen.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class TileLevel:
    """One level: its size, its tiles' size and number in a row, and where each tile's bytes lie."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    columns: int
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    decode: Decoder

    @property
    def fullest(self) -> int:
        """The tile of the most bytes: the one with the most to see."""
        return int(np.argmax(self.counts))


class TileFile:
    """The open file. `levels[i]` is None where a level is not of tiles that this module decodes.

    It may be read from several threads, and after a fork by both processes (`pread` keeps no position).
    """

    def __init__(self, path: Path, levels: list[TileLevel | None]) -> None:
        self.path, self.levels = path, levels
        self._number = next(_numbers)
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._closer = weakref.finalize(self, _close, self._file, self._number)

    def close(self) -> None:
        """Let go of the file and of its tiles."""
        self._file = -1
        self._closer()

    def region(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """Region of a level in its own pixels, uint8 (height, width, 3), white outside the level."""
        of = self.levels[level]
        if of is None:
            raise ValueError(f"{self.path.name}: level {level} has no tiles of its own")
        left, right = max(x, 0), min(x + width, of.width)
        top, bottom = max(y, 0), min(y + height, of.height)
        inside = right - left == width and bottom - top == height
        out = np.empty((height, width, 3), np.uint8) if inside else np.full((height, width, 3), 255, np.uint8)
        if left >= right or top >= bottom:
            return out
        for row in range(top // of.tile_height, (bottom - 1) // of.tile_height + 1):
            y0, y1 = max(top, row * of.tile_height), min(bottom, (row + 1) * of.tile_height)
            for column in range(left // of.tile_width, (right - 1) // of.tile_width + 1):
                x0, x1 = max(left, column * of.tile_width), min(right, (column + 1) * of.tile_width)
                tile = self._tile(level, of, column, row)
                part = tile[y0 - row * of.tile_height : y1 - row * of.tile_height,
                            x0 - column * of.tile_width : x1 - column * of.tile_width]  # fmt: skip
                out[y0 - y : y1 - y, x0 - x : x1 - x] = part
        return out

    def _tile(self, level: int, of: TileLevel, column: int, row: int) -> Pixels:
        index = row * of.columns + column

        def make() -> Pixels:
            if self._file < 0:
                raise ValueError(f"{self.path.name} is closed")
            count = int(of.counts[index])
            try:
                raw = os.pread(self._file, count, int(of.offsets[index]))
                if len(raw) < count:
                    raise ValueError("the file ends before the tile does")
                return of.decode(raw, of.tile_height, of.tile_width)
            except (OSError, ValueError, RuntimeError) as error:  # the codecs' errors are RuntimeErrors
                where = f"damaged pixels at level {level}, tile {column},{row}"
                raise UnreadableError(f"{self.path.name}: {where} ({one_line(error)})") from error

        return CACHE.get((self._number, level, index), make)


def open_tiles(path: Path, dimensions: list[tuple[int, int]]) -> TileFile | None:
    """The file's tiles for levels of these (width, height), or None where no level has tiles that are read here.

    A level is the first page of its size; one with a missing tile (of no bytes) is not read here.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            found: dict[tuple[int, int], TileLevel | None] = {}
            for page in tiff.pages:
                found.setdefault((int(page.imagewidth), int(page.imagelength)), _level(page))
    except Exception:  # any surprise of a library at a foreign file: then OpenSlide reads it
        return None
    levels = [found.get(size) for size in dimensions]
    return TileFile(path, levels) if any(levels) else None


def _close(file: int, number: int) -> None:
    os.close(file)
    CACHE.drop(number)


def _level(page: Any) -> TileLevel | None:
    decode = _decoder(page)
    if decode is None or not page.is_tiled:
        return None
    width, height, tile_width, tile_height = (
        int(n) for n in (page.imagewidth, page.imagelength, page.tilewidth, page.tilelength)
    )
    if min(width, height, tile_width, tile_height) < 1 or tile_width * tile_height > MOST_PIXELS:
        return None
    columns, rows = -(-width // tile_width), -(-height // tile_height)
    offsets = np.asarray(page.dataoffsets, np.int64)
    counts = np.asarray(page.databytecounts, np.int64)
    if len(offsets) != columns * rows or len(counts) != len(offsets):
        return None
    if counts.min() < 1 or counts.max() > MOST_BYTES or offsets.min() < 1:
        return None
    return TileLevel(width, height, tile_width, tile_height, columns, offsets, counts, decode)


def _decoder(page: Any) -> Decoder | None:
    """How the tiles of a page are decoded, None where not here: more than 8 bits, other colours, planes apart."""
    if (page.bitspersample, page.samplesperpixel, page.planarconfig) != (8, 3, 1) or page.sampleformat != 1:
        return None
    compression, photometric = int(page.compression), int(page.photometric)
    if int(page.fillorder) != 1 or page.tags.valueof("Orientation", 1) != 1:
        return None
    if compression == JPEG and photometric in (RGB, YCBCR):
        return _jpeg_decoder(page.jpegtables or b"", photometric == YCBCR)
    if photometric != RGB or int(page.predictor) not in (1, 2):
        return None
    unpacks = {PLAIN: None, LZW: imagecodecs.lzw_decode, **dict.fromkeys(DEFLATE, imagecodecs.zlib_decode)}
    if compression not in unpacks:
        return None
    return _plain_decoder(unpacks[compression], int(page.predictor) == 2)


def _plain_decoder(unpack: Any, differences: bool) -> Decoder:
    def decode(raw: bytes, height: int, width: int) -> Pixels:
        wanted = height * width * 3
        data = raw if unpack is None else bytes(unpack(raw, out=wanted))
        if len(data) < wanted:
            raise ValueError(f"{len(data)} bytes for {wanted}")
        tile = np.frombuffer(data, np.uint8, wanted).reshape(height, width, 3)
        return np.asarray(imagecodecs.delta_decode(tile, axis=1)) if differences else tile.copy()

    return decode


def _jpeg_decoder(tables: bytes, ycbcr: bool) -> Decoder:
    """Tables and the colour transform are put before the tile's own; markers that would speak of another are left out.

    `strict`: what libjpeg only warns of (data that end too early, or are left over) is an error, as in OpenSlide.
    """
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + (b"\x01" if ycbcr else b"\x00")
    head = b"\xff\xd8" + adobe + tables[2:-2]

    def decode(raw: bytes, height: int, width: int) -> Pixels:
        tile = np.empty((height, width, 3), np.uint8)
        decoded = simplejpeg.decode_jpeg(head + _without_colour(raw), "RGB", buffer=tile, strict=True)
        if decoded.shape != tile.shape:
            raise ValueError(f"a picture of {decoded.shape[1]} x {decoded.shape[0]} in a tile of {width} x {height}")
        return tile

    return decode


def _without_colour(raw: bytes) -> bytes:
    """A JPEG stream from behind its first marker, without its JFIF and Adobe markers."""
    if raw[:2] != b"\xff\xd8":
        raise ValueError("no JPEG")
    at, parts = 2, []
    while raw[at : at + 1] == b"\xff" and raw[at + 1 : at + 2] != b"\xda":  # up to the scan
        end = at + 2 + int.from_bytes(raw[at + 2 : at + 4], "big")
        if raw[at + 1] not in (0xE0, 0xEE):
            parts.append(raw[at:end])
        at = end
    return b"".join([*parts, raw[at:]])
