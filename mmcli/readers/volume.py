"""Volumes (CT, MR, PET ...) and their masks: NIfTI, NRRD, MetaImage, DICOM series, SEG and RTSTRUCT.

Every volume is handed out in one orientation: array (z, y, x) whose indices grow to superior, anterior, right.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from mmcli.errors import UnreadableError
from mmcli.readers.dicom import looks_like_dicom, read_header, read_series
from mmcli.readers.dicom_seg import read_seg
from mmcli.readers.faults import naming, one_line
from mmcli.readers.grid import Affine, VoxelGrid, choose_labels, same_grid, to_ras
from mmcli.readers.itk import read_itk, resample_nearest, to_sitk
from mmcli.readers.nifti import is_nifti, read_nifti
from mmcli.readers.rtstruct import draw, read_contours

T = TypeVar("T")
MOST_LABELS = 1000
EXTENSIONS = (".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".seg")


@dataclass(frozen=True)
class Volume:
    """One volume: `array` float32 (z, y, x), indices growing to superior, anterior, right; `affine` (4, 4) takes
    (x, y, z) indices to RAS world mm (nibabel's convention); `modality` as DICOM has it ("CT", "MR", "PT"), else None;
    `frame` and `series` are DICOM's UIDs of the frame of reference and the series, else "".
    """

    array: NDArray[np.float32]
    affine: Affine
    modality: str | None
    path: Path
    frame: str = ""
    series: str = ""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size (x, y, z) in mm."""
        return VoxelGrid(self.array, self.affine).spacing

    @cached_property
    def lowest(self) -> float:
        """The smallest voxel: what is put where a crop leaves the volume."""
        return float(self.array.min())

    @property
    def origin(self) -> tuple[float, float, float]:
        """RAS world position of voxel (0, 0, 0) in mm."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    @property
    def image(self) -> sitk.Image:
        """The volume as a SimpleITK image (a copy), in SimpleITK's LPS world."""
        return to_sitk(self.array, self.affine)


def read_volume(path: Path | str) -> Volume:
    """Volume of a file or of a DICOM series' folder.

    Refused with UnreadableError: truncated or contradictory files, NaN or infinite voxels, missing, doubled or
    unevenly placed slices, several series or volumes, tilted axes, an unknown orientation, colour and complex voxels.
    """
    path = Path(path)
    with _naming(path):
        grid = to_ras(_read_any(path))
    with np.errstate(over="ignore"):
        array = np.asarray(grid.array, dtype=np.float32)
    bad = sum(plane.size - int(np.count_nonzero(np.isfinite(plane))) for plane in array)
    if bad:
        raise UnreadableError(f"{path.name}: {bad:,} voxels are NaN or infinite: fill them before, with what they mean")
    return Volume(array, grid.affine, grid.modality, path, grid.frame, grid.series)


def read_mask(path: Path | str, like: Volume, label: str | int | None = None) -> NDArray[np.bool_]:
    """Mask (z, y, x) on the grid of `like`, put there by position (nearest neighbour), never by index.

    `label`: of a label map the numbers to take (with | between), of a SEG its segments and of an RTSTRUCT its
    structures, by name or number. None takes everything that is not 0 of a label map, and the only segment or structure
    of a DICOM file. A mask that is empty, lacks the label, misses the volume, lies in another frame of reference or
    holds other than whole labels raises UnreadableError.
    """
    path = Path(path)
    text = None if label is None else str(label)
    with _naming(path):
        dataset = _dicom_mask(path)
        if dataset is not None and str(dataset.get("Modality", "")) == "RTSTRUCT":
            contours = _parsed(read_contours, dataset, text)
            _check_frame(contours.frame, contours.series, like)
            mask = draw(contours.polygons, like.array.shape, like.affine)
        else:
            grid = _label_grid(path, text) if dataset is None else _parsed(read_seg, dataset, text)
            _check_frame(grid.frame, frozenset([grid.series]), like)
            grid = to_ras(grid)
            if same_grid(VoxelGrid(like.array, like.affine), grid):
                mask = np.ascontiguousarray(grid.array)
            else:
                mask = resample_nearest(grid.array, grid.affine, like.array.shape, like.affine)
        if not mask.any():
            raise UnreadableError(f"the mask lies wholly outside the volume {like.path.name}")
    return mask


def _label_grid(path: Path, text: str | None) -> VoxelGrid:
    """The voxels of a label map that have one of the asked labels, bool (k, j, i)."""
    grid = _read_any(path)
    labels = np.asarray(grid.array)
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise UnreadableError("the mask holds NaN or infinite voxels")
        whole = np.rint(labels)
        if np.abs(labels - whole).max() > 0.01:
            raise UnreadableError("the mask holds fractions, not whole labels: threshold it first")
        labels = whole
    if labels.min() < 0 or (labels.max() > MOST_LABELS and len(np.unique(labels)) > MOST_LABELS):
        raise UnreadableError(f"holds negative values or more than {MOST_LABELS} labels: an image, not a mask?")
    if text is None or text.strip() == "*":
        chosen = labels != 0
        if not chosen.any():
            raise UnreadableError("the mask is empty")
    else:
        there = [(int(n), "") for n in np.unique(labels[labels != 0])]
        if not there:
            raise UnreadableError("the mask is empty")
        chosen = np.isin(labels, choose_labels(text, there, "label"))
    return VoxelGrid(chosen, grid.affine)


def _check_frame(frame: str, series: frozenset[str], like: Volume) -> None:
    """Positions compare within one frame of reference; some writers make one up, but name the series they drew on."""
    if frame and like.frame and frame != like.frame and not (like.series and like.series in series):
        raise UnreadableError(
            f"is in another frame of reference than the volume {like.path.name}, and was drawn on another series: its "
            "positions mean nothing there"
        )


def _dicom_mask(path: Path) -> FileDataset | None:
    """The SEG or RTSTRUCT that a path means: itself, or the only one in a folder; None for another kind of file."""
    if not path.is_dir():
        dataset = read_header(path) if path.is_file() else None
        if dataset is None:
            return None
        modality = str(dataset.get("Modality", "") or "")
        if modality not in ("SEG", "RTSTRUCT"):
            raise UnreadableError(f"is DICOM of modality {modality or 'unknown'}, no mask: give a SEG or an RTSTRUCT")
        return read_header(path, pixels=True)
    found = [file for file in sorted(path.rglob("*")) if file.is_file() and _is_mask(file)]
    if len(found) != 1:
        raise UnreadableError(f"holds {len(found) or 'no'} SEG or RTSTRUCT files: name the one that is the mask")
    return read_header(found[0], pixels=True)


def _is_mask(file: Path) -> bool:
    dataset = read_header(file)
    return dataset is not None and str(dataset.get("Modality", "")) in ("SEG", "RTSTRUCT")


def _parsed(read: Callable[[FileDataset, str | None], T], dataset: FileDataset, text: str | None) -> T:
    try:
        return read(dataset, text)
    except UnreadableError:
        raise
    except Exception as error:  # pydicom converts a damaged element when it is asked for, with any error
        raise UnreadableError(f"is damaged ({one_line(error)})") from error


def crop_volume(
    volume: Volume,
    mask: NDArray[np.bool_] | None,
    spacing: tuple[float, float, float],
    size: tuple[int, int, int],
) -> NDArray[np.float32]:
    """Block (d, h, w) = `size` in voxels of `spacing` (x, y, z) mm, linearly interpolated along the volume's own axes,
    centred on the middle of the mask's bounding box (the volume's middle without a mask); outside the volume it is
    filled with the volume's minimum. Raises UnreadableError for an empty mask."""
    if mask is None:
        centre = tuple((n - 1) / 2 for n in volume.array.shape)
    else:
        if mask.shape != volume.array.shape:
            raise ValueError(f"mask {mask.shape} is not on the volume's grid {volume.array.shape}")
        centre = tuple((first + last) / 2 for first, last in bounding_box(mask))
    return crop_at(volume.array, volume.spacing, centre, spacing, size, volume.lowest)


def bounding_box(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of the True voxels along z, y, x; UnreadableError where there is none."""
    spans = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if not len(spans[0]):
        raise UnreadableError("the mask is empty")
    return [(int(span[0]), int(span[-1])) for span in spans]


def crop_at(
    array: NDArray[np.generic],
    own: tuple[float, float, float],
    centre: tuple[float, ...],
    spacing: tuple[float, float, float],
    size: tuple[int, int, int],
    fill: float,
) -> NDArray[np.float32]:
    """Block (d, h, w) of an array (z, y, x) of voxels of `own` (x, y, z) mm around the fractional index `centre`
    (z, y, x), linearly interpolated at voxels of `spacing` (x, y, z) mm; `fill` where the array ends."""
    steps = [target / mine for target, mine in zip(spacing[::-1], own[::-1], strict=True)]
    out = array
    outside = []
    for axis in range(3):
        at = centre[axis] + (np.arange(size[axis]) - (size[axis] - 1) / 2) * steps[axis]
        out, beyond = _interpolate(out, axis, at)
        outside.append(beyond)
    block = np.ascontiguousarray(out, dtype=np.float32)
    block[outside[0]] = fill
    block[:, outside[1]] = fill
    block[:, :, outside[2]] = fill
    return block


def _interpolate(
    array: NDArray[Any], axis: int, at: NDArray[np.floating[Any]]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """`array` at the fractional indices `at` of one axis, and which of them lie outside its voxels' extent."""
    count = array.shape[axis]
    at = np.round(at, 6)
    inside = np.clip(at, 0, count - 1)
    low = np.floor(inside).astype(np.intp)
    high = np.minimum(low + 1, count - 1)
    shape = [1, 1, 1]
    shape[axis] = len(at)
    weight = (inside - low).astype(np.float32).reshape(shape)
    below = np.take(array, low, axis=axis)
    if weight.any():
        below = below * (1 - weight) + np.take(array, high, axis=axis) * weight
    return below, (at < -0.5) | (at > count - 0.5)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Any error of a file that may be gzipped as an UnreadableError with the file's name in front."""
    with naming(path):
        try:
            yield
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UnreadableError(f"its gzip stream is truncated or damaged ({one_line(error)})") from error


def _read_any(path: Path) -> VoxelGrid:
    """The voxels of any file or folder in storage order: by content, whatever its name."""
    if not path.exists():
        raise UnreadableError("no such file or folder")
    if path.is_dir():
        return read_series(path)
    with path.open("rb") as file:
        head = file.read(2048)
    if not head:
        raise UnreadableError("is empty (zero bytes)")
    if head[:2] == b"\x1f\x8b":
        with gzip.open(path, "rb") as unzipped:
            head = unzipped.read(2048)
        if looks_like_dicom(head) or not is_nifti(head):
            raise UnreadableError("is a gzip file that holds no NIfTI: unzip it first")
    if is_nifti(head):
        return read_nifti(path)
    if head[:4] == b"NRRD":
        return read_itk(path, "NrrdImageIO")
    if looks_like_dicom(head):
        return read_series(path)
    if re.match(rb"\s*(ObjectType|Comment|NDims)\s*=", head):
        return read_itk(path, "MetaImageIO")
    web = "an HTML page (a failed download?)" if b"<html" in head.lower() else "an unknown format"
    raise UnreadableError(f"is {web}, not NIfTI, NRRD, MetaImage or DICOM")
