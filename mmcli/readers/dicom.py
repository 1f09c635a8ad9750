"""A DICOM series as one voxel grid: slices found, sorted by position along their normal, each with its own rescale.

Neither file names nor InstanceNumber say where a slice lies, and SliceThickness is not the step between slices:
everything here follows from ImagePositionPatient and ImageOrientationPatient (PS3.3 C.7.6.2). Enhanced multi-frame
objects are read from their functional groups (PS3.3 C.7.6.16).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from mmcli.errors import UnreadableError
from mmcli.readers.faults import one_line
from mmcli.readers.grid import LPS, Affine, VoxelGrid, check_shape

# pydicom tells of odd but harmless headers as warnings; what matters is checked here and raised
warnings.filterwarnings("ignore", module=r"pydicom\..*")
logging.getLogger("pydicom").addHandler(logging.NullHandler())

MAX_FILES = 20_000
NO_VOLUME = {
    "SEG": "a segmentation, not an image: give it as the volume's mask",
    "RTSTRUCT": "a set of contours, not an image: give it as the volume's mask",
    "RTDOSE": "a dose grid, not an image",
    "SM": "a slide, not a volume: its modality is of kind slide",
}
STEP_TOLERANCE = 0.05  # a step may differ from the median step by this share of it
TILT_TOLERANCE = 0.01  # sideways shift from slice to slice over the step along the normal


@dataclass(frozen=True)
class Slice:
    """One plane: `frame` is None for a single-frame file. Position, directions in LPS mm, `spacing` (row, column)."""

    path: Path
    frame: int | None
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: tuple[float, float]
    size: tuple[int, int]
    slope: float
    intercept: float


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file's first bytes are DICOM, with the 128-byte preamble or (group 0008, little endian) without."""
    return head[128:132] == b"DICM" or (head[:2] == b"\x08\x00" and head[3:4] == b"\x00" and len(head) > 8)


def read_header(path: Path, pixels: bool = False) -> FileDataset | None:
    """The data set of a file, None when it is no DICOM file; UnreadableError when it is a damaged one."""
    with path.open("rb") as file:
        if not looks_like_dicom(file.read(132)):
            return None
    try:
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=not pixels)
        if "TransferSyntaxUID" not in dataset.file_meta:
            explicit = not dataset.original_encoding[0]
            dataset.file_meta.TransferSyntaxUID = (
                pydicom.uid.ExplicitVRLittleEndian if explicit else pydicom.uid.ImplicitVRLittleEndian
            )
    except Exception as error:  # pydicom has no common error for a damaged header
        raise UnreadableError(f"{path.name} is a damaged DICOM file ({one_line(error)})") from error
    return dataset


def read_series(path: Path) -> VoxelGrid:
    """One series as a grid (k, j, i), float32, in physical units (HU, SUV ...): `path` is a folder, whose other files
    (notes, RTSTRUCT, DICOMDIR) are passed over, or one multi-frame file."""
    series: dict[tuple[str, str], list[Slice]] = {}
    names: dict[tuple[str, str], str] = {}
    frames: set[str] = set()
    refused: list[str] = []
    for dataset in _datasets(path):
        try:
            modality = str(dataset.get("Modality", "") or "")
            if "Rows" not in dataset and "Image Storage" in _sop_class(dataset):
                raise UnreadableError(f"{_name(dataset)} is truncated: its header ends before its image")
            if "Rows" not in dataset or modality in NO_VOLUME:
                refused.append(NO_VOLUME.get(modality, f"{modality or 'an object'} without an image"))
                continue
            key = (str(dataset.get("SeriesInstanceUID", "") or ""), modality)
            series.setdefault(key, []).extend(_slices(dataset))
            frames.add(str(dataset.get("FrameOfReferenceUID", "") or ""))
            names.setdefault(key, f"{modality or 'no modality'} {str(dataset.get('SeriesDescription', '') or '')!r}")
        except UnreadableError:
            raise
        except Exception as error:  # pydicom converts a damaged element when it is asked for, with any error
            raise UnreadableError(f"{_name(dataset)} has a damaged header ({one_line(error)})") from error
    if not series:
        raise UnreadableError(f"is {refused[0]}" if refused else "holds no DICOM image")
    if len(series) > 1:
        told = [f"{names[key]} ({len(slices)} slices)" for key, slices in series.items()]
        more = f" and {len(told) - 4} more" if len(told) > 4 else ""
        raise UnreadableError(f"holds {len(told)} series: {', '.join(told[:4])}{more}; give each its own folder")
    ((key, slices),) = series.items()
    frames.discard("")
    if len(frames) > 1:
        raise UnreadableError("mixes slices of several frames of reference: their positions do not compare")
    return replace(_stack(slices, key[1] or None), frame=frames.pop() if frames else "", series=key[0])


def _datasets(path: Path) -> Iterator[FileDataset]:
    if path.is_file():
        dataset = read_header(path)
        if dataset is not None:
            yield dataset
        return
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    if len(files) > MAX_FILES:
        raise UnreadableError(f"holds {len(files):,} files: name the folder of one series")
    for file in files:
        dataset = read_header(file)
        if dataset is not None:
            yield dataset
        elif not file.stat().st_size or file.suffix.lower() in (".dcm", ".ima"):
            # passed over, a damaged slice at either end of the stack would never be missed
            why = "is no DICOM file, whatever its name says" if file.stat().st_size else "is empty (zero bytes)"
            raise UnreadableError(f"{file.name} {why}")


def _sop_class(dataset: FileDataset) -> str:
    uid = dataset.file_meta.get("MediaStorageSOPClassUID")
    return pydicom.uid.UID(uid).name if uid else ""


def _name(dataset: FileDataset) -> str:
    return Path(str(dataset.filename)).name


def _slices(dataset: FileDataset) -> Iterator[Slice]:
    if int(dataset.get("SamplesPerPixel", 1) or 1) != 1:
        raise UnreadableError("its slices are in colour: only scalar volumes are read")
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        if frames > 1:
            raise UnreadableError(f"{_name(dataset)} has {frames} frames without a position each: it is no volume")
        yield _plane(dataset, None, [dataset])
        return
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    if len(groups) != frames:
        raise UnreadableError(f"{_name(dataset)} says {frames} frames and describes {len(groups)}")
    for index, group in enumerate(groups):
        yield _plane(dataset, index, functional_groups(group, shared[0]))


def functional_groups(group: Dataset, shared: Dataset) -> list[Dataset]:
    """The items that tell a frame's place and scale: its own ones before those that all frames share."""
    return [
        item[name][0]
        for item in (group, shared)
        for name in (
            "PlanePositionSequence",
            "PlaneOrientationSequence",
            "PixelMeasuresSequence",
            "PixelValueTransformationSequence",
        )
        if name in item and len(item[name].value)
    ]


def numbers_of(where: list[Dataset], name: str, count: int, file: str) -> NDArray[np.float64]:
    """The `count` numbers of an element, from the first item that has it; UnreadableError where none has."""
    for item in where:
        value = item.get(name)
        if value is not None and value != "" and len(value) == count:
            numbers = np.array([float(v) for v in value])
            if np.isfinite(numbers).all():
                return numbers
    raise UnreadableError(f"{file} has no {name}: its place in the patient is unknown")


def _plane(dataset: FileDataset, frame: int | None, where: list[Dataset]) -> Slice:
    def find(name: str, count: int) -> NDArray[np.float64]:
        return numbers_of(where, name, count, _name(dataset))

    def scalar(name: str, default: float) -> float:
        for item in where:
            value = item.get(name)
            if value is not None and value != "":
                return float(value)
        return default

    row, column = find("PixelSpacing", 2)
    slope = scalar("RescaleSlope", 1.0)
    if min(row, column) <= 0 or slope == 0:
        raise UnreadableError(f"{_name(dataset)} has a PixelSpacing or RescaleSlope of zero")
    return Slice(
        Path(str(dataset.filename)),
        frame,
        find("ImagePositionPatient", 3),
        find("ImageOrientationPatient", 6),
        (float(row), float(column)),
        (int(dataset.Rows), int(dataset.Columns)),
        slope,
        scalar("RescaleIntercept", 0.0),
    )


def _stack(slices: list[Slice], modality: str | None) -> VoxelGrid:
    first = slices[0]
    if len(slices) == 1:
        raise UnreadableError("holds one slice only, which is no volume: name the folder of the whole series")
    for other in slices[1:]:
        if np.abs(other.orientation - first.orientation).max() > 1e-3:
            raise UnreadableError("mixes slices of several orientations: give each stack its own folder")
        if other.size != first.size:
            raise UnreadableError(
                f"mixes slices of {first.size[1]} x {first.size[0]} and {other.size[1]} x {other.size[0]} pixels "
                f"({other.path.name})"
            )
        if not np.allclose(other.spacing, first.spacing, rtol=1e-3):
            raise UnreadableError(
                f"mixes slices with pixels of {first.spacing[0]:.4g} and {other.spacing[0]:.4g} mm ({other.path.name})"
            )
    check_shape((len(slices), *first.size))
    normal = normal_of(first.orientation)
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    step = _check_steps(slices, normal)
    affine = stack_affine(first.orientation, first.spacing, step, slices[0].position)
    return VoxelGrid(_pixels(slices), affine, modality)


def normal_of(orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit normal of planes whose rows and columns run along `orientation` (6,)."""
    normal = np.cross(orientation[:3], orientation[3:])
    lengths = [np.linalg.norm(v) for v in (orientation[:3], orientation[3:], normal)]
    if max(abs(length - 1) for length in lengths) > 0.01:
        raise UnreadableError("its ImageOrientationPatient is not of two unit vectors at right angles")
    return normal


def stack_affine(
    orientation: NDArray[np.float64], spacing: tuple[float, float], step: float, position: NDArray[np.float64]
) -> Affine:
    """Voxel (i, j, k) -> RAS mm of planes `step` mm apart; spacing (row, column) and `position` of the first in LPS."""
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * spacing[1]
    affine[:3, 1] = orientation[3:] * spacing[0]
    affine[:3, 2] = normal_of(orientation) * step
    affine[:3, 3] = position
    return LPS @ affine


def _check_steps(slices: list[Slice], normal: NDArray[np.float64]) -> float:
    """The mean step in mm along the normal, once no slice is missing, doubled, unevenly placed or shifted sideways."""
    moves = np.diff(np.array([s.position for s in slices]), axis=0)
    steps = moves @ normal
    if (steps < 1e-3).any():
        at = int(np.argmax(steps < 1e-3))
        raise UnreadableError(
            f"holds {int((steps < 1e-3).sum())} slice(s) at a position that another has ({slices[at].path.name} and "
            f"{slices[at + 1].path.name}): a doubled slice, or several volumes in one series"
        )
    usual = float(np.median(steps)) if len(steps) > 2 else float(steps.min())
    wrong = np.abs(steps - usual) > max(STEP_TOLERANCE * usual, 0.005)
    if wrong.any():
        at = int(np.argmax(wrong))
        missing = round(float(steps[at]) / usual) - 1
        even = abs(steps[at] / usual - (missing + 1)) <= STEP_TOLERANCE
        what = f"{missing} missing slice(s)" if missing > 0 and even else "slices unevenly spaced"
        raise UnreadableError(
            f"has {what}: {steps[at]:.4g} mm between {slices[at].path.name} and {slices[at + 1].path.name} where the "
            f"usual step is {usual:.4g} mm"
        )
    step = float(steps.mean())
    sideways = float(np.linalg.norm(moves.mean(axis=0) - step * normal))
    if sideways > TILT_TOLERANCE * step:
        raise UnreadableError(
            f"has a gantry tilt: each slice is shifted {sideways:.3g} mm sideways; resample it to a straight grid first"
        )
    return step


def _pixels(slices: list[Slice]) -> NDArray[np.float32]:
    out = np.empty((len(slices), *slices[0].size), dtype=np.float32)
    opened: tuple[Path, NDArray[Any]] | None = None
    for index, one in enumerate(slices):
        if opened is None or opened[0] != one.path:
            dataset = read_header(one.path, pixels=True)
            try:
                assert dataset is not None
                opened = (one.path, dataset.pixel_array)
            except Exception as error:  # each decoder plug-in has errors of its own
                raise UnreadableError(f"{one.path.name}: its pixels cannot be decoded ({one_line(error)})") from error
        plane = opened[1] if one.frame is None or opened[1].ndim == 2 else opened[1][one.frame]
        if plane.shape != one.size:
            raise UnreadableError(f"{one.path.name} holds {plane.shape} pixels where its header says {one.size}")
        out[index] = plane * np.float64(one.slope) + np.float64(one.intercept)
    return out
