"""Whole-slide images: OpenSlide for all that it reads, plain TIFF, PNG and JPEG as a flat slide of one level.

A region is read from the nearest finer level and averaged over area to the size that is asked for; what lies outside
the slide, and what is transparent, is white. A slide may be used from several threads; after a fork each process
opens the file anew, because OpenSlide's handles must not be shared between processes.

Levels of plain TIFF or JPEG tiles are decoded without OpenSlide (`tiff_tiles.py`), several times faster: where some
tiles of a level, compared when it is first read, have the very pixels that OpenSlide gives.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from mmcli.errors import UnreadableError
from mmcli.readers.faults import one_line
from mmcli.readers.image import read_picture
from mmcli.readers.resample import on_white, resize
from mmcli.readers.tiff_tiles import TileFile, open_tiles
from mmcli.readers.tile_check import agrees

EXTENSIONS = (
    ".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".czi", ".dcm",
    ".png", ".jpg", ".jpeg",
)  # fmt: skip
FLAT_FORMATS = ("TIFF", "PNG", "JPEG")
FLAT_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\x89PNG", b"\xff\xd8\xff")
MPP_RANGE = (0.05, 20.0)  # µm per pixel; 72 and 96 dpi, the defaults of writers, are 353 and 265
MOST_PAGES = 1000  # that are looked at
STRIP_PIXELS = 4_000_000  # a thumbnail is read in strips of at most this many pixels

Pixels = NDArray[np.uint8]


class Slide:
    """One open slide; close it, or use it in a `with` block. Made by `open_slide`.

    path; dimensions (width, height) at level 0; mpp: µm per pixel at level 0 or None; mpp_source: "metadata",
    "magnification", "resolution tag", what `open_slide` was given, or "none"; source: "openslide" or "flat".
    """

    def __init__(
        self, path: Path, source: str, levels: list[tuple[int, int]], mpp: float | None, mpp_source: str
    ) -> None:
        self.path = path
        self.source = source
        self.levels = levels
        self.dimensions = levels[0]
        self.mpp = mpp
        self.mpp_source = mpp_source

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""

    def read(self, x: float, y: float, width: float, height: float, size: tuple[int, int]) -> Pixels:
        """Rectangle (x, y, width, height) in level-0 pixels as uint8 (h, w, 3), resampled to `size` = (w, h).

        At native size the pixels are the file's own. Smaller: the mean over each output pixel's area, from the nearest
        finer level. Larger: linear interpolation. Raises UnreadableError when the file's pixels are damaged.
        """
        if width <= 0 or height <= 0 or min(size) < 1:
            raise ValueError(f"empty region {width} x {height} or size {size}")
        level, (scale_x, scale_y) = self._level_for(min(width / size[0], height / size[1]))
        left, top, right, bottom = x / scale_x, y / scale_y, (x + width) / scale_x, (y + height) / scale_y
        x0, y0 = math.floor(left + 1e-6), math.floor(top + 1e-6)
        x1, y1 = math.ceil(right - 1e-6), math.ceil(bottom - 1e-6)
        region = self._region(level, x0, y0, max(1, x1 - x0), max(1, y1 - y0))
        return resize(region, (left - x0, top - y0, right - x0, bottom - y0), size)

    def thumbnail(self, max_px: int) -> Pixels:
        """The whole slide as uint8 (h, w, 3), its longer side at most `max_px`; read in strips of bounded memory."""
        width, height = self.dimensions
        shrink = max(1.0, max(width, height) / max_px)
        w, h = max(1, round(width / shrink)), max(1, round(height / shrink))
        _, (scale_x, scale_y) = self._level_for(min(width / w, height / h))
        rows = max(1, min(h, int(STRIP_PIXELS / (width / scale_x) / (height / h / scale_y))))
        out = np.empty((h, w, 3), dtype=np.uint8)
        for top in range(0, h, rows):
            count = min(rows, h - top)
            out[top : top + count] = self.read(0, top * height / h, width, count * height / h, (w, count))
        return out

    def _level_for(self, downsample: float) -> tuple[int, tuple[float, float]]:
        """The coarsest level that is not coarser than `downsample`, and level-0 pixels per pixel of it in x and y."""
        best, scale = 0, (1.0, 1.0)
        for index, (width, height) in enumerate(self.levels):
            candidate = (self.dimensions[0] / width, self.dimensions[1] / height)
            if max(scale) <= max(candidate) <= downsample * 1.01:
                best, scale = index, candidate
        return best, scale

    def _region(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """Region in the level's own pixels, white outside."""
        raise TypeError("a slide is made by open_slide")


class OpenSlideSlide(Slide):
    """A slide that OpenSlide reads, or its own tiles where they are the same."""

    def __init__(self, path: Path, handle: Any, mpp: float | None, mpp_source: str) -> None:
        levels = [(int(w), int(h)) for w, h in handle.level_dimensions]
        super().__init__(path, "openslide", levels, mpp, mpp_source)
        self._downsamples = [float(d) for d in handle.level_downsamples]
        self._open, self._process = handle, os.getpid()
        # Other formats place their tiles by rules of their own.
        plain = handle.properties.get(openslide.PROPERTY_NAME_VENDOR) in ("aperio", "generic-tiff")
        self._tiles = open_tiles(path, levels) if plain else None
        self._agree: dict[int, bool] = {}

    def close(self) -> None:
        if self._open is not None and self._process == os.getpid():
            self._open.close()
        if self._tiles is not None:
            self._tiles.close()
        self._open = None

    def own_tiles(self, level: int) -> TileFile | None:
        """The file's own tiles, where those of a level have OpenSlide's pixels; None where OpenSlide reads it."""
        if self._tiles is None or self._tiles.levels[level] is None:
            return None
        if level not in self._agree:  # threads that come here together find the same
            self._agree[level] = agrees(self._tiles, level, self.path, self._downsamples[level])
        return self._tiles if self._agree[level] else None

    def _handle(self) -> Any:
        if self._process != os.getpid():
            self._inherited = self._open  # kept, so that this process never closes what its parent uses
            self._open, self._process = openslide.OpenSlide(str(self.path)), os.getpid()
        return self._open

    def _region(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        if self._open is None:
            raise ValueError(f"{self.path.name} is closed")
        tiles = self.own_tiles(level)
        if tiles is not None:
            return tiles.region(level, x, y, width, height)
        scale_x = self.dimensions[0] / self.levels[level][0]
        scale_y = self.dimensions[1] / self.levels[level][1]
        try:
            handle = self._handle()
            region = handle.read_region((round(x * scale_x), round(y * scale_y)), level, (width, height))
        except openslide.OpenSlideError as error:
            raise UnreadableError(f"{self.path.name}: damaged pixels at level {level} ({one_line(error)})") from error
        return on_white(np.asarray(region))


class FlatSlide(Slide):
    """A picture without levels, held decoded in memory (at most 400 megapixels)."""

    def __init__(self, path: Path, pixels: Pixels, mpp: float | None, mpp_source: str) -> None:
        super().__init__(path, "flat", [(pixels.shape[1], pixels.shape[0])], mpp, mpp_source)
        self._pixels = pixels

    def _region(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        out = np.full((height, width, 3), 255, dtype=np.uint8)
        whole_width, whole_height = self.dimensions
        x0, x1 = max(0, x), min(whole_width, x + width)
        y0, y1 = max(0, y), min(whole_height, y + height)
        if x0 < x1 and y0 < y1:
            out[y0 - y : y1 - y, x0 - x : x1 - x] = self._pixels[y0:y1, x0:x1]
        return out


def open_slide(path: Path | str, mpp: float | None = None, mpp_source: str = "cohort") -> Slide:
    """Open a slide, or a folder with one DICOM slide.

    The µm per pixel are `mpp` where given, else the file's own: stated, else 10 over the objective's power, else a
    resolution tag of 0.05 to 20 µm (a writer's 72 or 96 dpi is none). Pixels whose two sides differ by more than 5 %
    raise UnreadableError, as does every file that cannot be read.
    """
    path = Path(path)
    if mpp is not None and not (math.isfinite(mpp) and mpp > 0):
        raise UnreadableError(f"{path.name}: the given MPP {mpp} is no size of a pixel")
    if path.is_dir():
        path = _first_dicom(path)
    if not path.is_file():
        raise UnreadableError(f"{path.name}: no such file")
    if path.stat().st_size == 0:
        raise UnreadableError(f"{path.name}: is empty (zero bytes)")
    try:
        handle = openslide.OpenSlide(str(path))
    except openslide.OpenSlideUnsupportedFormatError:
        return _open_flat(path, mpp, mpp_source)
    except openslide.OpenSlideError as error:
        why = one_line(error).replace(f"{path.parent}/", "")
        raise UnreadableError(f"{path.name}: OpenSlide cannot read it ({why})") from error
    try:
        found = (mpp, mpp_source) if mpp is not None else _openslide_mpp(path, handle.properties)
        return OpenSlideSlide(path, handle, *found)
    except BaseException:
        handle.close()
        raise


def _first_dicom(folder: Path) -> Path:
    for file in sorted(folder.iterdir()):
        if file.is_file():
            with file.open("rb") as opened:
                if opened.read(132)[128:] == b"DICM":
                    return file
    raise UnreadableError(f"{folder.name}: a folder without a DICOM slide: name the slide's file")


def _open_flat(path: Path, mpp: float | None, mpp_source: str) -> FlatSlide:
    try:
        with path.open("rb") as opened:
            start = opened.read(132)
        known = start.startswith(FLAT_STARTS) and start[128:] != b"DICM"
        pixels = read_picture(path, FLAT_FORMATS) if known else None
        if known:
            _check_pages(path)
    except UnreadableError as error:
        raise UnreadableError(f"{path.name}: unknown to OpenSlide, and as a flat picture it {error}") from error
    except OSError as error:
        raise UnreadableError(f"{path.name}: cannot be read ({one_line(error)})") from error
    if pixels is None:
        what = "a DICOM file, but no slide" if start[128:] == b"DICM" else "neither TIFF, PNG nor JPEG"
        raise UnreadableError(f"{path.name}: unknown to OpenSlide, and {what}")
    if mpp is not None:
        return FlatSlide(path, pixels, mpp, mpp_source)
    try:
        with Image.open(path, formats=FLAT_FORMATS) as picture:
            dpi = picture.info.get("dpi", (0, 0))
            known = picture.format != "TIFF" or picture.tag_v2.get(296, 2) in (2, 3)
        sizes = [25_400 / float(d) if known and float(d) > 0 else None for d in dpi]
    except (OSError, ValueError, TypeError, KeyError, ArithmeticError):
        sizes = [None, None]
    return FlatSlide(path, pixels, *_square(path, sizes[0], sizes[1], "resolution tag"))


def _check_pages(path: Path) -> None:
    """UnreadableError for a TIFF whose pages go on behind its end: OpenSlide does not know it, and what is left of it
    would pass for a flat picture without its MPP."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16 or head[2:4] not in (b"*\0", b"\0*", b"+\0", b"\0+"):
            return
        big = b"+" in head[2:4]
        count_form, entry, form = ("Q", 20, "Q") if big else ("H", 12, "I")
        width, counted = struct.calcsize(form), struct.calcsize(count_form)
        at = struct.unpack_from(order + form, head, 8 if big else 4)[0]
        seen: set[int] = set()
        while at and at not in seen and len(seen) < MOST_PAGES:
            seen.add(at)
            file.seek(min(at, size))
            held = file.read(counted)
            end = at + counted + entry * struct.unpack(order + count_form, held)[0] if len(held) == counted else size
            if end + width > size:
                raise UnreadableError(f"is truncated: its page {len(seen)} lies behind its end; copy it again")
            file.seek(end)
            at = struct.unpack(order + form, file.read(width))[0]


def _openslide_mpp(path: Path, properties: Any) -> tuple[float | None, str]:
    def number(name: str) -> float | None:
        try:
            value = float(properties.get(name, ""))
        except ValueError:
            return None
        return value if math.isfinite(value) and value > 0 else None

    kind = "resolution tag" if properties.get(openslide.PROPERTY_NAME_VENDOR) == "generic-tiff" else "metadata"
    found = _square(path, number(openslide.PROPERTY_NAME_MPP_X), number(openslide.PROPERTY_NAME_MPP_Y), kind)
    power = number(openslide.PROPERTY_NAME_OBJECTIVE_POWER)
    if found[0] is None and power is not None and 1 <= power <= 150:
        return 10.0 / power, "magnification"
    return found


def _square(path: Path, x: float | None, y: float | None, kind: str) -> tuple[float | None, str]:
    """The mean of a pixel's two sides in µm, (None, "none") where they are no plausible size."""
    if x is None or y is None or not all(MPP_RANGE[0] <= side <= MPP_RANGE[1] for side in (x, y)):
        return None, "none"
    if max(x, y) > 1.05 * min(x, y):
        raise UnreadableError(f"{path.name}: its pixels are not square ({x:.4g} x {y:.4g} µm): give the MPP")
    return (x + y) / 2, kind
