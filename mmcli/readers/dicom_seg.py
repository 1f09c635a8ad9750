"""DICOM segmentations (SEG): the frames of chosen segments as one mask, each frame in its own place.

A SEG may leave out the frames that are empty, keep them in any order and hold many segments over another: what lies
where follows from each frame's own plane position and segment number (PS3.3 C.8.20.2 and C.8.20.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels import iter_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from mmcli.errors import UnreadableError
from mmcli.readers.dicom import functional_groups, normal_of, numbers_of, stack_affine
from mmcli.readers.faults import one_line
from mmcli.readers.grid import VoxelGrid, check_shape, choose_labels

PACKED = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian}
STEP_TOLERANCE = 0.05  # a plane may lie off the even stack by this share of its step


def read_seg(dataset: FileDataset, label: str | None) -> VoxelGrid:
    """The union of the chosen segments, bool (k, j, i): their labels or numbers with | between, * for all; None takes
    the only one. A FRACTIONAL segment is where at least half of a voxel belongs to it."""
    name = Path(str(dataset.filename)).name
    kind = str(dataset.get("SegmentationType", "") or "")
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise UnreadableError(f"is a segmentation of type {kind or 'unknown'}, not BINARY, FRACTIONAL or LABELMAP")
    segments = [
        (int(s.SegmentNumber), str(s.get("SegmentLabel", "") or "")) for s in dataset.get("SegmentSequence", [])
    ]
    chosen = choose_labels(label, segments, "segment")
    planes, numbers, orientation, spacing = _planes(dataset, name, kind)
    size = (int(dataset.Rows), int(dataset.Columns))
    normal = normal_of(orientation)
    along = planes @ normal
    first, step = float(along.min()), _step(dataset, along)
    places = np.rint((along - first) / step).astype(np.int64)
    sideways = planes - planes[int(along.argmin())] - np.outer(along - first, normal)
    if np.abs(sideways).max() > 0.1 * min(spacing):
        raise UnreadableError("its planes are shifted sideways from one to the next (a gantry tilt)")
    mine = np.flatnonzero(np.isin(numbers, chosen) | (kind == "LABELMAP"))
    if not len(mine):
        raise UnreadableError("the mask is empty: no frame belongs to the segment")
    low, high = int(places[mine].min()), int(places[mine].max())
    shape = (high - low + 1, *size)
    check_shape(shape)
    mask = np.zeros(shape, dtype=np.bool_)
    for index, frame in zip(mine.tolist(), _frames(dataset, name, mine), strict=True):
        if frame.shape != size:
            raise UnreadableError(f"{name} holds frames of {frame.shape} where its header says {size}")
        if kind == "LABELMAP":
            frame = np.isin(frame, chosen)
        elif kind == "FRACTIONAL":
            frame = frame >= max(1.0, int(dataset.MaximumFractionalValue) / 2)
        mask[places[index] - low] |= frame != 0
    origin = planes[int(along.argmin())] + normal * step * low
    affine = stack_affine(orientation, spacing, step, origin)
    return VoxelGrid(mask, affine, "SEG", str(dataset.get("FrameOfReferenceUID", "") or ""), _referenced(dataset))


def _planes(
    dataset: FileDataset, name: str, kind: str
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], tuple[float, float]]:
    """Each frame's position (n, 3) in LPS mm and segment number (n,), and their one orientation and pixel spacing."""
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if len(groups) != frames or not frames:
        raise UnreadableError(f"says {frames} frames and describes {len(groups)}")
    positions, numbers, ways = [], [], []
    for group in groups:
        where = functional_groups(group, shared)
        positions.append(numbers_of(where, "ImagePositionPatient", 3, name))
        ways.append((numbers_of(where, "ImageOrientationPatient", 6, name), numbers_of(where, "PixelSpacing", 2, name)))
        if np.abs(ways[-1][0] - ways[0][0]).max() > 1e-3 or not np.allclose(ways[-1][1], ways[0][1], rtol=1e-3):
            raise UnreadableError("mixes frames of several orientations or pixel sizes")
        item = group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        if not item and kind != "LABELMAP":
            raise UnreadableError("has a frame that belongs to no segment")
        numbers.append(int(item[0].ReferencedSegmentNumber) if item else 0)
    orientation, (row, column) = ways[0]
    if min(row, column) <= 0:
        raise UnreadableError("has a PixelSpacing of zero")
    return np.array(positions), np.array(numbers, dtype=np.int64), orientation, (float(row), float(column))


def _step(dataset: FileDataset, along: NDArray[np.float64]) -> float:
    """Distance of the stack's planes in mm, of which all frames' planes are whole multiples apart."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    measures = [item["PixelMeasuresSequence"][0] for item in (shared, dataset.PerFrameFunctionalGroupsSequence[0])
                if item.get("PixelMeasuresSequence")]  # fmt: skip
    said = [float(m.get(name) or 0) for name in ("SpacingBetweenSlices", "SliceThickness") for m in measures]
    gaps = np.diff(np.unique(np.round(along, 4)))
    gaps = gaps[gaps > 1e-3]
    if not len(gaps):
        known = [value for value in said if value > 0]
        if not known:
            raise UnreadableError("is of one plane and says neither SpacingBetweenSlices nor SliceThickness")
        return known[0]
    offsets = along - along.min()
    for step in [*(value for value in said[: len(measures)] if value > 0), float(gaps.min())]:
        whole = np.rint(offsets / step)
        if np.abs(offsets - whole * step).max() <= STEP_TOLERANCE * step:
            # a rounded header drifts over hundreds of planes: the planes themselves say the step more exactly
            far = int(whole.max())
            return float(offsets.max() / far) if far else step
    raise UnreadableError(f"its planes lie unevenly: {gaps.min():.4g} to {gaps.max():.4g} mm apart")


def _frames(dataset: FileDataset, name: str, indices: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
    """The frames of these rising indices, decoded one by one: a SEG of many organs is far larger than its file."""
    if int(dataset.BitsAllocated) == 1 and dataset.file_meta.TransferSyntaxUID in PACKED:
        # pydicom 3.0 unpacks single frames of bits wrongly where a frame does not end with a byte
        height, width = int(dataset.Rows), int(dataset.Columns)
        raw = np.frombuffer(dataset.PixelData, np.uint8)
        if len(raw) * 8 < (int(indices.max()) + 1) * height * width:
            raise UnreadableError(f"{name}: its pixels cannot be decoded (it is truncated)")
        for index in indices.tolist():
            start, stop = index * height * width, (index + 1) * height * width
            bits = np.unpackbits(raw[start // 8 : -(-stop // 8)], bitorder="little")[start % 8 :]
            yield bits[: stop - start].reshape(height, width)
        return
    try:
        yield from iter_pixels(dataset, indices=indices.tolist())
    except Exception as error:  # each decoder plug-in has errors of its own
        raise UnreadableError(f"{name}: its pixels cannot be decoded ({one_line(error)})") from error


def _referenced(dataset: FileDataset) -> str:
    series = dataset.get("ReferencedSeriesSequence") or [Dataset()]
    return str(series[0].get("SeriesInstanceUID", "") or "")
