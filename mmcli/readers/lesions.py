"""What of a volume an encoder sees: the connected lesions of a mask, or sequences of whole axial slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmcli.errors import UnreadableError
from mmcli.readers.volume import Volume, bounding_box, crop_at

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Lesion:
    """A part of a mask: `mask` (d, h, w) is True on it within its bounding box, whose first voxel is `corner` (z, y, x)
    of the volume."""

    corner: Size
    mask: NDArray[np.bool_]

    @property
    def centre(self) -> tuple[float, float, float]:
        """Middle (z, y, x) of its bounding box, as a fractional index of the volume."""
        z, y, x = (first + (n - 1) / 2 for first, n in zip(self.corner, self.mask.shape, strict=True))
        return z, y, x

    @property
    def last(self) -> Size:
        """Its bounding box's last voxel (z, y, x)."""
        z, y, x = (first + n - 1 for first, n in zip(self.corner, self.mask.shape, strict=True))
        return z, y, x

    def voxels(self) -> int:
        """How many voxels it has."""
        return int(np.count_nonzero(self.mask))


def whole(mask: NDArray[np.bool_]) -> Lesion:
    """All of a mask as one lesion, however many parts it has."""
    spans = bounding_box(mask)
    box = tuple(slice(first, last + 1) for first, last in spans)
    return Lesion((spans[0][0], spans[1][0], spans[2][0]), mask[box])


def lesions(mask: NDArray[np.bool_]) -> list[Lesion]:
    """The mask's connected parts (voxels that touch in any of 26 directions), the largest first; of equal ones, the
    first along z, y, x."""
    outer = whole(mask)
    labels, _ = ndimage.label(outer.mask, structure=np.ones((3, 3, 3), dtype=np.int8))
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        z, y, x = (first + own.start for first, own in zip(outer.corner, box, strict=True))
        found.append(Lesion((z, y, x), labels[box] == number))
    return sorted(found, key=lambda lesion: (-lesion.voxels(), lesion.corner))


def crop_lesion(
    volume: Volume, lesion: Lesion, spacing: tuple[float, float, float], size: Size, blank: float | None
) -> NDArray[np.float32]:
    """Block (d, h, w) of voxels of `spacing` (x, y, z) mm around a lesion's middle; `blank` is put in place of what
    lies outside the lesion, None keeps it."""
    block = crop_at(volume.array, volume.spacing, lesion.centre, spacing, size, volume.lowest)
    if blank is not None:
        middle = tuple((n - 1) / 2 for n in lesion.mask.shape)
        padded = np.pad(lesion.mask, 1).astype(np.float32)
        inside = crop_at(padded, volume.spacing, tuple(m + 1 for m in middle), spacing, size, 0.0)
        block[inside < 0.5] = blank
    return block


def sequences(depth: int, frames: int, drop: tuple[float, float]) -> list[tuple[int, int]]:
    """First and last slice (counted from the feet) of sequences of `frames` slices side by side, of a volume of `depth`
    slices without the shares `drop` at the end of the head and of the feet. What is left over after the last whole
    sequence is left out in equal parts at both ends (MHD-Net, section IV.A.1: 24 frames, 20 % and 30 %)."""
    head, feet = (int(depth * share + 1e-9) for share in drop)
    kept = depth - head - feet
    count = kept // frames
    if count < 1:
        raise UnreadableError(
            f"has {depth} slices, of which --frames-drop leaves {max(kept, 0)}: a sequence has {frames}"
        )
    start = feet + (kept - count * frames) // 2
    return [(start + i * frames, start + (i + 1) * frames - 1) for i in range(count)]


def crop_frames(volume: Volume, first: int, last: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Slices `first` to `last` whole and undistorted at (h, w) pixels: the longer side fills them, and what is left is
    the volume's minimum."""
    _, height, width = volume.array.shape
    x, y, z = volume.spacing
    pixel = max(height * y / size[0], width * x / size[1])
    centre = ((first + last) / 2, (height - 1) / 2, (width - 1) / 2)
    block = (last - first + 1, *size)
    return crop_at(volume.array, volume.spacing, centre, (pixel, pixel, z), block, volume.lowest)
