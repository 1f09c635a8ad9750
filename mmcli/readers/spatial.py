"""Moran's I and Geary's C of a mask's intensities (IBSI N365 and NPT7), exact over all pairs of voxels.

MIRP estimates both from random samples of voxels where the mask has a thousand or more, and its seed depends on where
a temporary file lay: another number every time. The sums over pairs are convolutions with 1 / distance, so that a
Fourier transform gives them for any mask in a moment.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft


def moran_and_geary(
    values: NDArray[np.float32], mask: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> tuple[float, float]:
    """Both of the `values` (z, y, x) inside `mask`, weighted by 1 / distance in mm; `spacing` (x, y, z) in mm.

    NaN for a single voxel; 1 where all values are the same, as MIRP has it.
    """
    count = int(np.count_nonzero(mask))
    if count < 2:
        return math.nan, math.nan
    where = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(slice(int(at[0]), int(at[-1]) + 1) for at in where)
    inside = mask[box]
    held = values[box].astype(np.float64)
    deviation = np.where(inside, held - held[inside].mean(), 0.0)
    square = float((deviation[inside] ** 2).sum())
    if square == 0:
        return 1.0, 1.0
    deviation /= math.sqrt(square / count)  # neither changes with the unit; single precision then holds both
    shape = tuple(fft.next_fast_len(2 * n - 1, real=True) for n in inside.shape)
    weights = fft.rfftn(_weights(inside.shape, shape, spacing))

    def around(field: NDArray[Any]) -> NDArray[np.float32]:
        """At each voxel the sum of a field over all others, by weight."""
        spread = fft.irfftn(fft.rfftn(field.astype(np.float32), shape) * weights, shape)
        return np.asarray(spread[tuple(slice(n) for n in inside.shape)])

    neighbours = around(inside)[inside]
    own = deviation[inside]
    total = float(neighbours.sum(dtype=np.float64))
    products = float((own * around(deviation)[inside]).sum())
    differences = 2 * (float((own**2 * neighbours).sum()) - products)
    return products / total, (count - 1) * differences / (2 * total * count)


def _weights(box: tuple[int, ...], shape: tuple[int, ...], spacing: tuple[float, float, float]) -> NDArray[np.float32]:
    """1 / distance from the first voxel, negative steps at the far ends; 0 at the voxel itself."""
    squares = np.zeros((1, 1, 1))
    for axis, (length, padded, step) in enumerate(zip(box, shape, reversed(spacing), strict=True)):
        ahead = np.arange(padded)
        steps = np.where(ahead < length, ahead, ahead - padded) * step
        squares = squares + (steps**2).reshape([-1 if i == axis else 1 for i in range(3)])
    squares[0, 0, 0] = np.inf
    return (1 / np.sqrt(squares)).astype(np.float32)
