"""DICOM structure sets (RTSTRUCT): the closed contours of chosen structures, drawn into a volume's grid by position.

A voxel belongs to a structure where its centre lies inside an odd number of the contours of its plane, so that a
contour within another is a hole, and the two sides of a keyhole's channel cancel out (PS3.3 C.8.8.6.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from mmcli.errors import UnreadableError
from mmcli.readers.grid import Affine, choose_labels

CLOSED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}
FLAT = 0.2  # in voxels: how far a contour's points may leave their plane, and planes their slice


@dataclass(frozen=True)
class Contours:
    """Closed contours, each (n, 3) in RAS mm, the frame of reference they are in, and the series they refer to."""

    polygons: list[NDArray[np.float64]]
    frame: str
    series: frozenset[str]


def read_contours(dataset: FileDataset, label: str | None) -> Contours:
    """The closed contours of the chosen structures: names or numbers with | between, * for all; None takes the only
    structure that has any. UnreadableError lists what there is where the name is unknown."""
    names = {int(roi.ROINumber): roi for roi in dataset.get("StructureSetROISequence") or []}
    closed: dict[int, list[NDArray[np.float64]]] = {}
    for item in dataset.get("ROIContourSequence") or []:
        number = int(item.ReferencedROINumber)
        for contour in item.get("ContourSequence") or []:
            if str(contour.get("ContourGeometricType", "")) in CLOSED:
                closed.setdefault(number, []).append(_points(contour))
    if not closed:
        raise UnreadableError("holds no closed contour")
    there = [(n, str(names[n].get("ROIName", "") or "") if n in names else "") for n in sorted(closed)]
    chosen = choose_labels(label, there, "structure")
    of = {str(names[n].get("ReferencedFrameOfReferenceUID", "") or "") for n in chosen if n in names} - {""}
    if len(of) > 1:
        raise UnreadableError("its structures are in several frames of reference: choose those of one")
    polygons = [polygon for n in chosen for polygon in closed[n]]
    series = frozenset(_uids(dataset.get("ReferencedFrameOfReferenceSequence") or []))
    return Contours(polygons, of.pop() if of else "", series)


def _points(contour: Dataset) -> NDArray[np.float64]:
    points = np.array([float(v) for v in contour.get("ContourData") or []])
    if len(points) % 3 or not np.isfinite(points).all():
        raise UnreadableError(f"has a contour of {len(points)} numbers, which are no points")
    return points.reshape(-1, 3) * [-1.0, -1.0, 1.0]


def _uids(items: Any) -> set[str]:
    """Every series that the tree of references names."""
    found: set[str] = set()
    for item in items:
        found |= {str(item.get("SeriesInstanceUID", "") or "")} - {""}
        for name in ("RTReferencedStudySequence", "RTReferencedSeriesSequence"):
            found |= _uids(item.get(name) or [])
    return found


def draw(polygons: list[NDArray[np.float64]], shape: tuple[int, ...], affine: Affine) -> NDArray[np.bool_]:
    """Mask (z, y, x) of the contours (n, 3) in RAS mm on the grid of `shape` whose voxels lie at `affine`.

    Contours on the volume's own slices mark those slices and no other. Contours that lie between them (drawn on another
    series of the same patient) mark what is nearer than half their own step. Nothing is filled in between contours:
    where a structure was drawn on every second slice or more sparsely, UnreadableError says so.
    """
    inverse = np.linalg.inv(affine)
    lines = [points @ inverse[:3, :3].T + inverse[:3, 3] for points in _distinct(polygons)]
    lines = [points for points in lines if len(points) > 2]
    if not lines:
        raise UnreadableError("its contours have fewer than three points")
    spread = np.max([np.ptp(points, axis=0) for points in lines], axis=0)
    axis = int(spread.argmin())
    if spread[axis] > FLAT:
        raise UnreadableError("its contours are not drawn along this volume's slices: give the mask as SEG or NIfTI")
    at = np.array([points[:, axis].mean() for points in lines])
    rows, columns = [(2, 1), (2, 0), (1, 0)][axis]
    size = (shape[2 - rows], shape[2 - columns])
    out = np.zeros(shape, dtype=np.bool_)
    for number, members in _slices(at, shape[2 - axis]):
        plane = even_odd([lines[i][:, [columns, rows]] for i in members], size)
        np.moveaxis(out, 2 - axis, 0)[number] = plane
    return out


def _distinct(polygons: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Without contours that are there twice, which would cancel each other out."""
    return list({points.tobytes(): points for points in polygons}.values())


def _slices(at: NDArray[np.float64], count: int) -> list[tuple[int, NDArray[np.intp]]]:
    """(slice, contours of the plane that marks it) for contours at the fractional slice numbers `at`."""
    order = np.argsort(at, kind="stable")
    cuts = np.flatnonzero(np.diff(at[order]) > FLAT) + 1
    groups = np.split(order, cuts)
    planes = np.array([at[group].mean() for group in groups])
    steps = np.sort(np.diff(planes))
    step = float(steps[(len(steps) - 1) // 2]) if len(steps) else 1.0
    if np.abs(planes - np.rint(planes)).max() <= FLAT:
        if len(steps) > 1 and steps[0] > 1.5 and np.median(steps) - steps[0] < FLAT:
            raise UnreadableError(
                f"its contours are on one slice of {step:.0f} only, and are not filled in between: interpolate them "
                "where they were drawn"
            )
        step = 1.0
    slices = np.arange(max(0, int(np.floor(planes[0] - step))), min(count, int(np.ceil(planes[-1] + step)) + 1))
    if not len(slices):
        return []
    nearest = np.abs(slices[:, None] - planes).argmin(axis=1)
    off = np.round(slices - planes[nearest], 6)
    near = (off > -step / 2) & (off <= step / 2)  # a slice midway between two planes belongs to one of them
    return [(int(s), groups[p]) for s, p in zip(slices[near], nearest[near], strict=True)]


def even_odd(polygons: list[NDArray[np.float64]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels (height, width) whose centre lies inside an odd number of the polygons (n, 2) of (x, y) pixel numbers."""
    height, width = size
    inside = np.zeros((height, width), dtype=np.bool_)
    # each crossing of a row with an edge turns all pixels to its right: a running sum along the row counts them
    turns = np.zeros((height, width + 1), dtype=np.int32)
    for points in polygons:
        a, b = points, np.roll(points, -1, axis=0)
        low = np.ceil(np.clip(np.minimum(a[:, 1], b[:, 1]), -1, height)).astype(np.intp)
        high = np.ceil(np.clip(np.maximum(a[:, 1], b[:, 1]), -1, height)).astype(np.intp)
        low = np.maximum(low, 0)
        counts = np.maximum(high - low, 0)
        edge = np.repeat(np.arange(len(points)), counts)
        row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + low[edge]
        slope = (b[edge, 0] - a[edge, 0]) / (b[edge, 1] - a[edge, 1])
        x = a[edge, 0] + (row - a[edge, 1]) * slope
        np.add.at(turns, (row, np.ceil(np.clip(x, 0, width)).astype(np.intp)), 1)
    np.not_equal(np.cumsum(turns, axis=1)[:, :width] % 2, 0, out=inside)
    return inside
