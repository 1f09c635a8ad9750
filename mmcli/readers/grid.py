"""A voxel array with its place in the patient: what every volume format is turned into first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcli.errors import UnreadableError

MAX_VOXELS = 1_000_000_000  # 4 GB as float32; a whole-body CT of 512 x 512 x 2 000 has half of it

Affine = NDArray[np.float64]
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS world millimetres <-> LPS world millimetres


@dataclass(frozen=True)
class VoxelGrid:
    """`array` (k, j, i), the slowest axis first, and `affine` (4, 4): voxel (i, j, k) -> RAS world in mm.

    DICOM says besides its modality, its frame of reference (whose positions compare) and its series, as UIDs.
    """

    array: NDArray[Any]
    affine: Affine
    modality: str | None = None
    frame: str = ""
    series: str = ""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel sizes along i, j, k in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse what is no volume of a sane size; `shape` may be of any number of axes."""
    if len(shape) != 3:
        raise UnreadableError(f"has {len(shape)} axes {shape}, not 3: give one volume a file")
    if min(shape) < 1:
        raise UnreadableError(f"has an axis of length zero: {shape}")
    if int(np.prod([int(n) for n in shape], dtype=object)) > MAX_VOXELS:
        raise UnreadableError(f"declares {shape} voxels, more than the limit of {MAX_VOXELS:,}")


def check_affine(affine: Affine) -> None:
    """Refuse voxel sizes that are no sizes and axes that are not at right angles (as after a gantry tilt)."""
    axes = affine[:3, :3]
    sizes = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all() or (sizes <= 0).any():
        raise UnreadableError("its voxel size or position is zero or not a finite number")
    cosines = (axes / sizes).T @ (axes / sizes)
    if np.abs(cosines - np.eye(3)).max() > 0.01:
        raise UnreadableError(
            "its axes are not at right angles (a gantry tilt or a shear): resample it to a straight grid first"
        )


def nearest_axes(affine: Affine) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Which of i, j, k runs along x, y and z (right, anterior, superior), and with which sign (+1 or -1)."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    order = max(permutations(range(3)), key=lambda p: sum(abs(axes[world, p[world]]) for world in range(3)))
    signs = np.array([1.0 if axes[world, order[world]] >= 0 else -1.0 for world in range(3)])
    return (order[0], order[1], order[2]), signs


def to_ras(grid: VoxelGrid) -> VoxelGrid:
    """The same voxels, axes permuted and flipped (never resampled): i, j, k grow to right, anterior, superior."""
    order, signs = nearest_axes(grid.affine)
    turn = np.zeros((4, 4))
    turn[3, 3] = 1.0
    array = grid.array.transpose([2 - order[2], 2 - order[1], 2 - order[0]])
    for world in range(3):
        turn[order[world], world] = signs[world]
        if signs[world] < 0:
            turn[order[world], 3] = array.shape[2 - world] - 1
            array = np.flip(array, axis=2 - world)
    return replace(grid, array=array, affine=grid.affine @ turn)


def same_grid(a: VoxelGrid, b: VoxelGrid, tolerance: float = 1e-2) -> bool:
    """Whether two grids have one shape and no corner lies further apart than `tolerance` voxels."""
    if a.array.shape != b.array.shape:
        return False
    far = np.array(a.array.shape[::-1], dtype=np.float64) - 1
    corners = np.array([[x, y, z, 1.0] for x in (0.0, far[0]) for y in (0.0, far[1]) for z in (0.0, far[2])]).T
    apart = np.linalg.norm(((a.affine - b.affine) @ corners)[:3], axis=0)
    return bool(apart.max() <= tolerance * min(a.spacing))


def choose_labels(text: str | None, there: Sequence[tuple[int, str]], what: str) -> list[int]:
    """Numbers of the segments or structures that `text` asks for, of those that are `there` as (number, name).

    `text`: names or numbers with | between, or * for all; a name is matched exactly, else whatever its case, and takes
    all that bear it. None takes the only one there is. UnreadableError lists what is there.
    """
    shown = ", ".join(f"{name} ({number})" if name else str(number) for number, name in there[:12])
    shown += f" and {len(there) - 12} more" if len(there) > 12 else ""
    if not there:
        raise UnreadableError(f"holds no {what}")
    if text is None:
        if len(there) > 1:
            raise UnreadableError(
                f"holds {len(there)} {what}s: name one with #NAME behind the path; there are: {shown}"
            )
        return [there[0][0]]
    if text.strip() == "*":
        return [number for number, _ in there]
    chosen: list[int] = []
    for part in (p.strip() for p in text.split("|")):
        found = [n for n, name in there if name == part] or [
            n for n, name in there if name.strip().casefold() == part.casefold()
        ]
        found = found or [n for n, _ in there if str(n) == part]
        if not found:
            raise UnreadableError(f"has no {what} {part!r}; there are: {shown}")
        chosen += found
    return sorted(set(chosen))
