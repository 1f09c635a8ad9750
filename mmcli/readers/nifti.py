"""NIfTI-1 and NIfTI-2, single files and .hdr/.img pairs, gzipped or not, read from the standard's own header fields.

Written here because the libraries keep silent where a patient's file must be refused: SimpleITK fills a truncated
file with zeros and turns NaN into 0, and takes the qform where nibabel takes the sform.
Source: nifti1.h and nifti2.h of the NIfTI data format working group.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mmcli.errors import UnreadableError
from mmcli.readers.grid import Affine, VoxelGrid, check_affine, check_shape, nearest_axes

DTYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
OTHER_TYPES = {1: "1-bit", 32: "complex", 1792: "complex", 2048: "complex", 128: "RGB", 2304: "RGBA", 1536: "float128"}
MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # xyzt_units: unknown, metre, mm, µm


@dataclass(frozen=True)
class Header:
    """The fields that say what the voxels are and where they lie; `order` is "<" or ">"."""

    order: str
    magic: bytes
    dim: tuple[int, ...]
    datatype: int
    pixdim: tuple[float, ...]
    offset: int
    slope: float
    intercept: float
    units: int
    qform_code: int
    sform_code: int
    quatern: tuple[float, ...]
    srow: tuple[float, ...]


def is_nifti(head: bytes) -> bool:
    """Whether a file's first bytes (decompressed) are a NIfTI or Analyze header."""
    return head[:4] in {struct.pack(o + "i", n) for o in "<>" for n in (348, 540)}


def parse_header(raw: bytes) -> Header:
    """Header of the first 540 bytes (348 for NIfTI-1); UnreadableError for Analyze 7.5 and short headers."""
    if not is_nifti(raw):
        raise UnreadableError("is not a NIfTI file")
    order = "<" if struct.unpack("<i", raw[:4])[0] in (348, 540) else ">"
    size = struct.unpack(order + "i", raw[:4])[0]
    if len(raw) < size:
        raise UnreadableError(f"is truncated: {len(raw)} bytes, shorter than its own header")

    def field(code: str, at: int) -> Any:
        values = struct.unpack_from(order + code, raw, at)
        return values if len(values) > 1 else values[0]

    if size == 348:
        magic = raw[344:348]
        if magic not in (b"n+1\0", b"ni1\0"):
            raise UnreadableError("is an Analyze 7.5 file, which does not say left from right: convert it to NIfTI")
        if order == "<" and struct.unpack_from("<h", raw, 40)[0] > 7:
            raise UnreadableError("has a NIfTI header of mixed byte order")
        return Header(order, magic, field("8h", 40), field("h", 70), field("8f", 76), int(field("f", 108)),
                      field("f", 112), field("f", 116), field("B", 123), field("h", 252), field("h", 254),
                      field("6f", 256), field("12f", 280))  # fmt: skip
    if raw[4:8] not in (b"n+2\0", b"ni2\0"):
        raise UnreadableError("has a damaged NIfTI-2 header (wrong magic)")
    return Header(order, raw[4:8], field("8q", 16), field("h", 12), field("8d", 104), int(field("q", 168)),
                  field("d", 176), field("d", 184), field("i", 500), field("i", 344), field("i", 348),
                  field("6d", 352), field("12d", 400))  # fmt: skip


def affine_of(header: Header) -> Affine:
    """Voxel (i, j, k) -> RAS mm: the sform where there is one, else the qform; both must agree on size and axes."""
    scale = MILLIMETRES.get(header.units & 7, 1.0)
    sform = qform = None
    if header.sform_code > 0:
        sform = np.vstack([np.array(header.srow, dtype=np.float64).reshape(3, 4), [0, 0, 0, 1]])
    if header.qform_code > 0 and all(size > 0 for size in header.pixdim[1:4]):
        qform = _qform(header)
    if sform is None and qform is None:
        raise UnreadableError(
            "has neither sform nor qform, so left and right are unknown: set the orientation in its header"
        )
    affine = sform if sform is not None else qform
    assert affine is not None
    affine[:3] *= scale
    check_affine(affine)
    if sform is not None and qform is not None:
        qform[:3] *= scale
        check_affine(qform)
        sizes = [np.linalg.norm(a[:3, :3], axis=0) for a in (sform, qform)]
        s_axes, q_axes = nearest_axes(sform), nearest_axes(qform)
        if np.abs(sizes[0] / sizes[1] - 1).max() > 0.01 or s_axes[0] != q_axes[0] or (s_axes[1] != q_axes[1]).any():
            raise UnreadableError(
                "its sform and qform contradict each other in voxel size or orientation "
                f"({_sizes(sizes[0])} and {_sizes(sizes[1])} mm): correct its header"
            )
    return affine


def _sizes(sizes: NDArray[np.float64]) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)


def _qform(header: Header) -> Affine:
    """Rotation of the quaternion (b, c, d), its third column times qfac = pixdim[0] (nifti1.h, method 2)."""
    b, c, d = header.quatern[:3]
    a = np.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    zooms = np.array(header.pixdim[1:4], dtype=np.float64)
    zooms[2] *= -1.0 if header.pixdim[0] < 0 else 1.0
    affine = np.eye(4)
    affine[:3, :3] = rotation * zooms
    affine[:3, 3] = header.quatern[3:]
    return affine


def read_nifti(path: Path) -> VoxelGrid:
    """Voxels as stored times slope plus intercept, float32 unless no scaling is asked; UnreadableError when the data
    are shorter or longer than the header says, or are not one 3-D scalar volume."""
    with _open(path) as file:
        head = _take(file, 540)
    try:
        header = parse_header(head)
    except (ValueError, OverflowError, struct.error) as error:
        raise UnreadableError(f"has a damaged NIfTI header ({error})") from error
    if not 0 <= header.offset < 2**28:
        raise UnreadableError(f"has a damaged NIfTI header: its voxels begin at byte {header.offset}")
    dims = header.dim[1 : 1 + max(0, min(7, header.dim[0]))]
    if any(n < 1 for n in dims):
        raise UnreadableError(f"has an axis of length zero: {tuple(dims)}")
    if len(dims) > 3 and any(n != 1 for n in dims[3:]):
        raise UnreadableError(f"holds {int(np.prod(dims[3:]))} volumes {tuple(dims)}: give one volume a file")
    if len(dims) < 3:
        raise UnreadableError(f"is a 2-D picture of {' x '.join(map(str, dims))}, not a volume")
    shape = (dims[2], dims[1], dims[0])
    check_shape(shape)
    if header.datatype not in DTYPES:
        kind = OTHER_TYPES.get(header.datatype, f"of unknown type {header.datatype}")
        raise UnreadableError(f"its voxels are {kind}: only scalar integer and float volumes are read")
    affine = affine_of(header)
    dtype = np.dtype(header.order + DTYPES[header.datatype])
    count = shape[0] * shape[1] * shape[2]
    image = path if header.magic[1:2] == b"+" else _image_beside(path)
    array = np.frombuffer(_voxels(image, header, count, dtype.itemsize, shape), dtype).reshape(shape)
    slope, intercept = header.slope, header.intercept
    # nifti1.h: a slope of 0 says that there is no scaling, whatever the intercept
    if np.isfinite(slope) and slope != 0 and np.isfinite(intercept) and (slope, intercept) != (1.0, 0.0):
        array = array.astype(np.float64) * slope + intercept
    return VoxelGrid(array, affine)


def _voxels(image: Path, header: Header, count: int, itemsize: int, shape: tuple[int, ...]) -> bytes:
    slab = shape[1] * shape[2] * itemsize
    with _open(image) as file:
        skipped = len(_take(file, header.offset))
        data = _take(file, count * itemsize)
        if skipped < header.offset or len(data) < count * itemsize:
            raise UnreadableError(f"is truncated: {len(data):,} of {count * itemsize:,} bytes of voxels are there")
        # reading on to the end also checks a gzip stream's sum; what a writer pads is less than a slice
        rest = _take(file, slab)
        if len(rest) >= slab:
            raise UnreadableError(f"holds more voxels than its header says {shape[::-1]}: header and data disagree")
    return data


def _image_beside(path: Path) -> Path:
    stem = path.name[: -len(".hdr.gz")] if path.name.endswith(".hdr.gz") else path.name.removesuffix(".hdr")
    for name in (f"{stem}.img", f"{stem}.img.gz"):
        if name != path.name and path.with_name(name).is_file():
            return path.with_name(name)
    raise UnreadableError(f"is a detached header whose {stem}.img is not there")


def _open(path: Path) -> BinaryIO:
    # by content, never by name: both a gzipped x.nii and a plain x.nii.gz occur
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")  # type: ignore[return-value]


def _take(file: BinaryIO, count: int) -> bytes:
    try:
        return file.read(count)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableError(f"its gzip stream is truncated or damaged ({error})") from error
