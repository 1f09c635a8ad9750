"""The scanned sector of an ultrasound picture, without the machine's text and bars around it.

Where a DICOM file says in its SequenceOfUltrasoundRegions (PS3.3 C.8.5.5) where tissue and flow lie, that is taken.
Otherwise the sector is found in the pixels: speckle is dense and differs from pixel to pixel, letters are thin and
lie apart, bars and buttons are flat. What is written *inside* the sector (callipers, "LEFT BREAST") stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from mmcli.errors import UnreadableError

Box = tuple[int, int, int, int]  # x, y, width, height

WORK_PX = 512  # the sector is looked for in a copy whose longer side is no longer than this
DARK = 6  # grey levels of 255 above the background that echo must have
DENSE = 0.5  # share of a window that must be echo: letters have less
LEAST = 0.03  # of the picture's area that a sector must have
MOST = 0.65  # of the picture's area: a larger sector was cut out before, and its dark rims belong to it
RIM = 0.02  # of a side: a sector as near to three of the picture's edges was cut out before, too
PIECE = 0.05  # of the largest piece that another one above or below it must have
TISSUE, FLOW = 1, 2  # RegionDataType
PLANE = 1  # RegionSpatialFormat: 2D


@dataclass(frozen=True)
class Sector:
    """Where the scan lies: `box` around it, and `inside` bool (h, w) over the whole picture."""

    box: Box
    inside: NDArray[np.bool_]


def regions(dataset: Dataset) -> list[Box]:
    """The regions of tissue and colour flow that a DICOM file names, as boxes.

    None where there are none, or where one lies outside of the picture (the pixels were resized after the scan), or
    where one is the whole picture: then it says nothing.
    """
    width, height = int(dataset.get("Columns", 0) or 0), int(dataset.get("Rows", 0) or 0)
    found = []
    for item in dataset.get("SequenceOfUltrasoundRegions", None) or []:
        if item.get("RegionSpatialFormat") != PLANE or item.get("RegionDataType") not in (TISSUE, FLOW):
            continue
        corners = [item.get(f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        if any(c is None for c in corners):
            continue
        x0, y0, x1, y1 = (int(c) for c in corners)
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            return []
        found.append((x0, y0, min(x1 + 1, width) - x0, min(y1 + 1, height) - y0))
    return [] if any(w >= 0.98 * width and h >= 0.98 * height for _, _, w, h in found) else found


def find_sector(frames: Sequence[NDArray[np.uint8]], named: Sequence[Box] = ()) -> Sector:
    """The sector of a picture, or of a clip's frames (each uint8 (h, w, 3), all of one size).

    `named`: the regions that the file names; without them the largest dense piece of echo, with the hull around it.
    UnreadableError where there is no echo of at least 3 % of the picture.
    """
    height, width, _ = frames[0].shape
    if named:
        inside = np.zeros((height, width), bool)
        for x, y, w, h in named:
            inside[y : y + h, x : x + w] = True
        return Sector(_box(inside), inside)
    factor = max(1.0, max(height, width) / WORK_PX)
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    grey = np.max([_grey(frame) for frame in frames], axis=0)
    varied = ndimage.maximum_filter(grey, 3) > ndimage.minimum_filter(grey, 3)
    echo = (grey > int(np.percentile(grey, 1)) + DARK) & varied
    small = np.asarray(Image.fromarray(echo.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)) / 255.0
    window = max(5, round(min(size) / 40) | 1)
    dense = ndimage.uniform_filter(small, window) >= DENSE
    pieces, count = ndimage.label(dense)
    if count == 0:
        raise UnreadableError("no ultrasound sector is found in it (nothing but black, text and bars)")
    hull = _hull(_scan(pieces, count))
    if hull.mean() > MOST or _edges(hull) >= 3:
        return Sector((0, 0, width, height), np.ones((height, width), bool))
    if hull.mean() < LEAST:
        raise UnreadableError(f"no ultrasound sector is found in it (the largest echo is {hull.mean():.1%} of it)")
    inside = np.asarray(Image.fromarray(hull).resize((width, height), Image.Resampling.NEAREST), dtype=bool)
    return Sector(_box(inside), inside)


def _grey(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    brightest: NDArray[np.uint8] = frame.max(axis=2)
    return brightest


def _scan(pieces: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """The largest piece, with what lies above or below it beyond something that gives no echo (an eye's vitreous)."""
    areas = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    largest = int(areas.argmax())
    columns = [span[1] for span in ndimage.find_objects(pieces)]
    left, right = columns[largest].start, columns[largest].stop
    chosen = [
        i + 1
        for i, span in enumerate(columns)
        if areas[i] >= PIECE * areas[largest] and span.start >= left and span.stop <= right
    ]
    return np.isin(pieces, chosen)


def _edges(hull: NDArray[np.bool_]) -> int:
    """How many of the picture's edges the hull reaches."""
    (height, width), (x, y, w, h) = hull.shape, _box(hull)
    gaps = (x / width, y / height, 1 - (x + w) / width, 1 - (y + h) / height)
    return sum(gap <= RIM for gap in gaps)


def _hull(piece: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The convex hull of a piece, filled: scans are fans, trapezia and rectangles, and their dark parts belong to
    them."""
    rows, columns = np.nonzero(piece & ~ndimage.binary_erosion(piece))
    points = np.stack([columns, rows], axis=1).astype(np.float64)
    try:
        planes = ConvexHull(points).equations
    except QhullError:  # a single row or column of pixels
        return piece
    y, x = np.mgrid[: piece.shape[0], : piece.shape[1]]
    filled = np.ones(piece.shape, bool)
    for a, b, c in planes:
        filled &= a * x + b * y + c <= 1e-6
    return filled


def _box(inside: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y
