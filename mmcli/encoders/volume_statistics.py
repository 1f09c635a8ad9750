"""Intensity statistics of a volume crop: 48 numbers, no weights, each of which can be worked out by hand.

Intensities are in [0, 1], 0 and 1 being the ends of the intensity window; standard deviations are the population's.
- moments (4): mean, sd, skewness m3 / m2^1.5, excess kurtosis m4 / m2^2 - 3 (0 where the crop is constant);
- percentiles (11): 0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100, as numpy.percentile;
- histogram (16): shares of 16 equal bins of [0, 1], 1 belonging to the last;
- gradient (6): mean squared difference of neighbours along z, y, x, at full and at half resolution (boxes of 2x2x2);
- above (9): volume fraction above 0.1, 0.2, ... 0.9;
- centre (2): mean and sd of the central half along each axis (from n//4 to n - n//4), where the lesion lies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcli.encoders.base import VOLUME, StatisticsEncoder
from mmcli.errors import RequestError

Array = NDArray[np.float64]

PERCENTILES = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100)
BINS = 16
THRESHOLDS = tuple(i / 10 for i in range(1, 10))
COLUMNS: tuple[str, ...] = (
    "mean", "sd", "skewness", "kurtosis",
    *(f"p{p}" for p in PERCENTILES),
    *(f"bin{i}" for i in range(BINS)),
    *(f"gradient{scale}_{axis}" for scale in (1, 2) for axis in "zyx"),
    *(f"above_{t}" for t in THRESHOLDS),
    "centre_mean", "centre_sd",
)  # fmt: skip
SMALLEST = 4


class IntensityStatistics(StatisticsEncoder):
    """48 intensity statistics of a volume of any size from 4 voxels a side; no resizing."""

    kinds = VOLUME
    columns = COLUMNS
    dim = len(COLUMNS)
    summary = "intensity and gradient statistics, no network: a baseline that always runs"

    def features(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        if min(pixels.shape[1:]) < SMALLEST:
            size = " x ".join(map(str, pixels.shape[1:]))
            raise RequestError(f"encoder {self.name} takes crops of at least {SMALLEST} voxels a side, not {size}")
        return np.stack([volume_statistics(volume) for volume in pixels]).astype(np.float32)


def volume_statistics(volume: NDArray[np.float32]) -> Array:
    """The 48 statistics of one (d, h, w) crop in [0, 1], in the order of COLUMNS; all NaN if a voxel is not finite."""
    v = volume.astype(np.float64)
    if not np.isfinite(v).all():
        return np.full(len(COLUMNS), np.nan)
    bins = np.bincount(np.clip(v * BINS, 0, BINS - 1).astype(np.int64).ravel(), minlength=BINS) / v.size
    centre = v[tuple(slice(n // 4, n - n // 4) for n in v.shape)]
    return np.concatenate([
        _moments(v),
        np.percentile(v, PERCENTILES),
        bins,
        _gradients(v),
        _gradients(_halved(v)),
        [(v > t).mean() for t in THRESHOLDS],
        [centre.mean(), centre.std()],
    ])  # fmt: skip


def _moments(v: Array) -> list[float]:
    mean = float(v.mean())
    centred = v - mean
    if v.max() == v.min():
        return [mean, 0.0, 0.0, 0.0]
    square = centred**2
    m2 = float(square.mean())
    m3, m4 = float((square * centred).mean()), float((square**2).mean())
    return [mean, m2**0.5, m3 / m2**1.5, m4 / m2**2 - 3]


def _gradients(v: Array) -> list[float]:
    return [float((np.diff(v, axis=axis) ** 2).mean()) for axis in range(3)]


def _halved(v: Array) -> Array:
    d, h, w = (n // 2 for n in v.shape)
    boxes = v[: 2 * d, : 2 * h, : 2 * w].reshape(d, 2, h, 2, w, 2)
    return np.asarray(boxes.mean(axis=(1, 3, 5)))
