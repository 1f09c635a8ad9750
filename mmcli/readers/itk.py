"""NRRD and MetaImage through ITK, once the header's own words are checked where ITK keeps silent or crashes."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from mmcli.errors import UnreadableError
from mmcli.readers.grid import LPS, MAX_VOXELS, Affine, VoxelGrid, check_affine, check_shape

sitk.ProcessObject.SetGlobalWarningDisplay(False)

META_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
META_NUMBERS = {"DimSize": 3, "ElementSpacing": 3, "ElementSize": 3, "Offset": 3, "Position": 3, "Origin": 3,
                "CenterOfRotation": 3, "TransformMatrix": 9, "Rotation": 9, "Orientation": 9}  # fmt: skip


def read_itk(path: Path, reader_name: str) -> VoxelGrid:
    """The voxels of a NRRD or MetaImage file; `reader_name` is ITK's name of the format."""
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


def to_sitk(array: NDArray[np.generic], affine: Affine) -> sitk.Image:
    """An array (z, y, x) as a SimpleITK image (a copy)."""
    image = sitk.GetImageFromArray(array)
    spacing, origin, direction = _geometry(affine)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    return image


def resample_nearest(
    mask: NDArray[np.bool_], affine: Affine, shape: tuple[int, ...], onto: Affine
) -> NDArray[np.bool_]:
    """A mask (z, y, x) on the grid of `shape` at the affine `onto`: each voxel takes its nearest one, False outside."""
    resample = sitk.ResampleImageFilter()
    spacing, origin, direction = _geometry(onto)
    resample.SetSize([int(n) for n in shape[::-1]])
    resample.SetOutputSpacing(spacing)
    resample.SetOutputOrigin(origin)
    resample.SetOutputDirection(direction)
    resample.SetInterpolator(sitk.sitkNearestNeighbor)
    resample.SetDefaultPixelValue(0)
    out: NDArray[np.uint8] = sitk.GetArrayFromImage(resample.Execute(to_sitk(mask.astype(np.uint8), affine)))
    return out.astype(np.bool_)
