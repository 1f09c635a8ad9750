"""Volumes (CT, MR, PET ...) and their masks: NIfTI, NRRD, MetaImage, DICOM series.

Every volume is handed out in one orientation: array (z, y, x) whose indices grow to superior, anterior, right.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from mmcli.errors import UnreadableError
from mmcli.readers.dicom import looks_like_dicom, read_series
from mmcli.readers.grid import (
    LPS,
    MAX_VOXELS,
    Affine,
    VoxelGrid,
    check_affine,
    check_shape,
    one_line,
    same_grid,
    to_ras,
)
from mmcli.readers.nifti import is_nifti, read_nifti

EXTENSIONS = (".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")

sitk.ProcessObject.SetGlobalWarningDisplay(False)


@dataclass(frozen=True)
class Volume:
    """One volume: `array` float32 (z, y, x), indices growing to superior, anterior, right; `affine` (4, 4) takes
    (x, y, z) indices to RAS world mm (nibabel's convention); `modality` as DICOM has it ("CT", "MR", "PT"), else None.
    """

    array: NDArray[np.float32]
    affine: Affine
    modality: str | None
    path: Path

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size (x, y, z) in mm."""
        return VoxelGrid(self.array, self.affine).spacing

    @property
    def origin(self) -> tuple[float, float, float]:
        """RAS world position of voxel (0, 0, 0) in mm."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    @property
    def image(self) -> sitk.Image:
        """The volume as a SimpleITK image (a copy), in SimpleITK's LPS world."""
        return _to_sitk(self.array, self.affine)


def read_volume(path: Path | str) -> Volume:
    """Volume of a file or of a DICOM series' folder.

    Refused with UnreadableError: truncated or contradictory files, NaN or infinite voxels, missing, doubled or
    unevenly placed slices, several series or volumes, tilted axes, an unknown orientation, colour and complex voxels.
    """
    path = Path(path)
    grid = to_ras(_read_grid(path))
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(grid.array, dtype=np.float32)
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise UnreadableError(f"{path.name}: {bad:,} voxels are NaN or infinite: fill them before, with what they mean")
    return Volume(array, grid.affine, grid.modality, path)


def read_mask(path: Path | str, like: Volume, label: int | None = None) -> NDArray[np.bool_]:
    """Mask (z, y, x) on the grid of `like`, put there by position (nearest neighbour), never by index.

    `label`: the label to take, None takes everything that is not 0. A mask that is empty, lacks the label, misses the
    volume or holds other than whole labels raises UnreadableError.
    """
    path = Path(path)
    grid = to_ras(_read_grid(path, mask=True))
    labels = np.asarray(grid.array)
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise UnreadableError(f"{path.name}: the mask holds NaN or infinite voxels")
        whole = np.rint(labels)
        if np.abs(labels - whole).max() > 0.01:
            raise UnreadableError(f"{path.name}: the mask holds fractions, not whole labels: threshold it first")
        labels = whole
    chosen = labels != 0 if label is None else labels == label
    if not chosen.any():
        raise UnreadableError(f"{path.name}: the mask is empty" + ("" if label is None else f" at label {label}"))
    target = VoxelGrid(like.array, like.affine)
    if not same_grid(target, grid):
        chosen = _resample_nearest(np.ascontiguousarray(chosen), grid.affine, like)
        if not chosen.any():
            raise UnreadableError(f"{path.name}: the mask lies wholly outside the volume {like.path.name}")
    return np.ascontiguousarray(chosen, dtype=np.bool_)


def crop_volume(
    volume: Volume,
    mask: NDArray[np.bool_] | None,
    spacing: tuple[float, float, float],
    size: tuple[int, int, int],
) -> NDArray[np.float32]:
    """Block (d, h, w) = `size` in voxels of `spacing` (x, y, z) mm, linearly interpolated along the volume's own axes,
    centred on the middle of the mask's bounding box (the volume's middle without a mask); outside the volume it is
    filled with the volume's minimum. Raises UnreadableError for an empty mask."""
    array = volume.array
    if mask is None:
        centre = [(n - 1) / 2 for n in array.shape]
    else:
        if mask.shape != array.shape:
            raise ValueError(f"mask {mask.shape} is not on the volume's grid {array.shape}")
        spans = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
        if not len(spans[0]):
            raise UnreadableError("the mask is empty")
        centre = [(int(span[0]) + int(span[-1])) / 2 for span in spans]
    fill = array.min()
    steps = [target / own for target, own in zip(spacing[::-1], volume.spacing[::-1], strict=True)]
    out = array
    outside = []
    for axis in range(3):
        out, beyond = _interpolate(
            out, axis, centre[axis] + (np.arange(size[axis]) - (size[axis] - 1) / 2) * steps[axis]
        )
        outside.append(beyond)
    out = np.ascontiguousarray(out, dtype=np.float32)
    out[outside[0]] = fill
    out[:, outside[1]] = fill
    out[:, :, outside[2]] = fill
    return out


def _interpolate(
    array: NDArray[np.float32], axis: int, at: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
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


def _read_grid(path: Path, mask: bool = False) -> VoxelGrid:
    """The voxels in storage order; any error of a file with the file's name in front."""
    try:
        return _read_any(path, mask)
    except UnreadableError as error:
        text = str(error)
        raise UnreadableError(text if text.startswith(path.name) else f"{path.name}: {text}") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableError(f"{path.name}: its gzip stream is truncated or damaged ({one_line(error)})") from error
    except OSError as error:
        raise UnreadableError(f"{path.name}: cannot be read ({one_line(error)})") from error


def _read_any(path: Path, mask: bool) -> VoxelGrid:
    if not path.exists():
        raise UnreadableError("no such file or folder")
    if path.is_dir():
        if mask:
            raise UnreadableError("a DICOM mask is not read: convert it to NIfTI, NRRD or MetaImage")
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
        return _read_itk(path, "NrrdImageIO")
    if looks_like_dicom(head):
        if mask:
            raise UnreadableError("a DICOM mask is not read: convert it to NIfTI, NRRD or MetaImage")
        return read_series(path)
    if re.match(rb"\s*(ObjectType|Comment|NDims)\s*=", head):
        return _read_itk(path, "MetaImageIO")
    web = "an HTML page (a failed download?)" if b"<html" in head.lower() else "an unknown format"
    raise UnreadableError(f"is {web}, not NIfTI, NRRD, MetaImage or DICOM")


def _read_itk(path: Path, reader_name: str) -> VoxelGrid:
    """NRRD and MetaImage through ITK, once the header's own words are checked where ITK keeps silent."""
    with path.open("rb") as file:
        text = file.read(65_536).decode("latin-1")
    if reader_name == "NrrdImageIO":
        text = re.split(r"\r?\n\r?\n", text)[0]
        if re.search(r"^space directions:.*none", text, re.M | re.I):
            raise UnreadableError("its space directions leave an axis without size and direction (none)")
        known = re.search(r"^(space directions|spacings):(?!.*nan)", text, re.M | re.I)
        data = re.search(r"^data ?file:\s*(\S.*?)\s*$", text, re.M | re.I)
    else:
        text = re.split(r"ElementDataFile\s*=\s*LOCAL", text)[0]
        known = re.search(r"^\s*Element(Spacing|Size)\s*=", text, re.M)
        data = re.search(r"^\s*ElementDataFile\s*=\s*(\S.*?)\s*$", text, re.M)
        _check_meta_length(path, text, data[1] if data else None)
    if data and not re.search(r"^LIST|%", data[1]) and not (path.parent / data[1]).is_file():
        raise UnreadableError(f"is a detached header whose data file {data[1]} is not there")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(reader_name)
    try:
        reader.ReadImageInformation()
        shape = tuple(int(n) for n in reader.GetSize()[::-1])
        check_shape(shape)
        if reader.GetNumberOfComponents() != 1:
            raise UnreadableError("has several values a voxel (colour or vectors): only scalar volumes are read")
        if not known:
            raise UnreadableError("does not say its voxel size: write the spacing into its header")
        image = reader.Execute()
    except RuntimeError as error:
        encoding = re.search(r"^encoding:\s*(bz\S*)", text, re.M | re.I)
        why = f"its {encoding[1]} encoding is not read: save it as gzip" if encoding else "damaged or too short"
        raise UnreadableError(f"the {reader_name[:-7]} file cannot be read: {why}") from error
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    check_affine(affine)
    return VoxelGrid(sitk.GetArrayFromImage(image), LPS @ affine)


META_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}


META_NUMBERS = {"DimSize": 3, "ElementSpacing": 3, "ElementSize": 3, "Offset": 3, "Position": 3, "Origin": 3,
                "CenterOfRotation": 3, "TransformMatrix": 9, "Rotation": 9, "Orientation": 9}  # fmt: skip


def _check_meta_length(path: Path, text: str, data: str | None) -> None:
    """Refuse a MetaImage whose header is damaged, on which ITK may crash the whole process, or that has fewer bytes of
    voxels than it says, of which ITK writes to stderr on its own."""
    words: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if line.strip() and not (equals and line.isascii() and line.replace("\t", " ").isprintable()):
            raise UnreadableError("has a damaged MetaImage header")
        words[key.strip()] = value.strip()

    def word(name: str) -> str:
        return words.get(name, "")

    number = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
    for name, count in META_NUMBERS.items():
        values = word(name).split()
        given = name in words and word("NDims") == "3"
        if given and (len(values) != count or not all(re.fullmatch(number, v) for v in values)):
            raise UnreadableError(f"has a damaged MetaImage header ({name} = {word(name)[:60]})")
    kind = word("ElementType").removeprefix("MET_").removesuffix("_ARRAY").removeprefix("U")
    if not re.fullmatch(r"\d", word("NDims")) or "DimSize" not in words or kind not in META_BYTES:
        raise UnreadableError("has a damaged MetaImage header (NDims, DimSize or ElementType)")
    if not re.fullmatch(r"\d+( +\d+)*", word("DimSize")):
        raise UnreadableError("has a damaged MetaImage header (DimSize)")
    expected = META_BYTES[kind] * int(np.prod([int(n) for n in word("DimSize").split()], dtype=object))
    expected *= int(word("ElementNumberOfChannels") or 1) if word("ElementNumberOfChannels").isdigit() else 1
    file, start = path, 0
    if data is None:  # the voxels follow the header, after ElementDataFile = LOCAL
        with path.open("rb") as opened:
            local = re.search(rb"ElementDataFile\s*=\s*LOCAL\s*?\r?\n", opened.read(65_536))
        start = local.end() if local else 0
    elif (path.parent / data).is_file():
        file = path.parent / data
    else:
        return
    there = file.stat().st_size - start
    if word("CompressedData").lower() == "true":
        if expected > 8 * MAX_VOXELS:
            raise UnreadableError(f"declares {expected:,} bytes of voxels, more than the limit")
        # ITK inflates without a bound into a buffer of the declared size
        with file.open("rb") as opened:
            opened.seek(start)
            there = len(zlib.decompressobj().decompress(opened.read(), expected + 1))
        if there > expected:
            raise UnreadableError("holds more voxels than its header says: header and data disagree")
    if there < expected:
        raise UnreadableError(f"is truncated: {there:,} of {expected:,} bytes of voxels are there")


def _geometry(affine: Affine) -> tuple[list[float], list[float], list[float]]:
    """(spacing, origin, direction) of a RAS affine as SimpleITK wants them, in its LPS world."""
    lps = LPS @ affine
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    # ITK refuses directions that rounding in a header left a little off right angles
    u, _, vt = np.linalg.svd(lps[:3, :3] / sizes)
    return sizes.tolist(), lps[:3, 3].tolist(), (u @ vt).ravel().tolist()


def _to_sitk(array: NDArray[np.generic], affine: Affine) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    spacing, origin, direction = _geometry(affine)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    return image


def _resample_nearest(mask: NDArray[np.bool_], affine: Affine, like: Volume) -> NDArray[np.bool_]:
    resample = sitk.ResampleImageFilter()
    spacing, origin, direction = _geometry(like.affine)
    resample.SetSize([int(n) for n in like.array.shape[::-1]])
    resample.SetOutputSpacing(spacing)
    resample.SetOutputOrigin(origin)
    resample.SetOutputDirection(direction)
    resample.SetInterpolator(sitk.sitkNearestNeighbor)
    resample.SetDefaultPixelValue(0)
    out: NDArray[np.uint8] = sitk.GetArrayFromImage(resample.Execute(_to_sitk(mask.astype(np.uint8), affine)))
    return out.astype(np.bool_)
