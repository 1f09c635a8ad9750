"""Colour and texture statistics of an image: 64 numbers, no weights, each of which can be worked out by hand.

With R, G, B in [0, 1], luma Y = 0.299 R + 0.587 G + 0.114 B and standard deviations of the population:
- rgb (21): of each channel mean, sd, and percentiles 5, 25, 50, 75, 95 (linear interpolation, as numpy.percentile);
- hsv (6): mean and sd of saturation and of value; mean of S cos(2 pi H) and of S sin(2 pi H), since hue is an angle;
- od (9): optical density -ln((v + 1) / 256) of the 8-bit values (Beer-Lambert, what stains add up in): mean and sd of
  each channel, then the correlations RG, RB, GB (0 where a channel is constant);
- gradient (6): of Y averaged over boxes of 1, 2, 4 pixels: mean of gx^2 + gy^2, and sd of its root; gx, gy by central
  differences inside (numpy.gradient's interior), in units of a luma range of 1 a box;
- lbp (10): histogram of rotation-invariant uniform local binary patterns (Ojala et al., 2002) of Y in steps of 1/255000
  on the 8 neighbours of each inner pixel: with at most two changes around the circle the number of neighbours >= the
  centre (0..8), else 9;
- cooccurrence (8): Haralick's contrast, homogeneity 1/(1+(i-j)^2), energy (sum of p^2) and correlation of 8 grey levels
  (floor(8 Y), at most 7), symmetric, of the right and of the lower neighbour;
- share (3): of pixels with S > 0.07 (tissue-like), V < 0.2 (dark), and V > 0.8 with S < 0.07 (blank);
- entropy (1): of the 8 grey levels, in bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcli.encoders.base import TWO_D, StatisticsEncoder
from mmcli.errors import RequestError

Array = NDArray[np.float64]

PERCENTILES = (5, 25, 50, 75, 95)
COLUMNS: tuple[str, ...] = (
    *(f"{c}_{s}" for c in "rgb" for s in ("mean", "sd", *(f"p{p}" for p in PERCENTILES))),
    "s_mean", "s_sd", "v_mean", "v_sd", "hue_cos", "hue_sin",
    *(f"od_{c}_{s}" for c in "rgb" for s in ("mean", "sd")), "od_rg", "od_rb", "od_gb",
    *(f"gradient{scale}_{s}" for scale in (1, 2, 4) for s in ("energy", "sd")),
    *(f"lbp{i}" for i in range(10)),
    *(f"{axis}_{s}" for axis in ("right", "below") for s in ("contrast", "homogeneity", "energy", "correlation")),
    "share_coloured", "share_dark", "share_blank", "entropy",
)  # fmt: skip
# luma in 1/255000: whole numbers, so that equal greys compare equal whatever the order of a sum
_LUMA = np.array([299, 587, 114], np.int32)
_OD = -np.log((np.arange(256) + 1) / 256)
_CIRCLE = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
_CODES = np.arange(256)
_BITS = (_CODES[:, None] >> np.arange(8)) & 1
_UNIFORM = np.where((np.roll(_BITS, 1, axis=1) != _BITS).sum(axis=1) <= 2, _BITS.sum(axis=1), 9)
SMALLEST = 12


class ImageStatistics(StatisticsEncoder):
    """64 colour and texture statistics of an image of any size from 12 pixels a side; no resizing."""

    kinds = TWO_D
    columns = COLUMNS
    dim = len(COLUMNS)
    summary = "colour and texture statistics, no network: a baseline that always runs"

    def features(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        if min(pixels.shape[1:3]) < SMALLEST:
            size = " x ".join(map(str, pixels.shape[1:3]))
            raise RequestError(f"encoder {self.name} takes images of at least {SMALLEST} pixels a side, not {size}")
        return np.stack([image_statistics(image) for image in pixels]).astype(np.float32)


def image_statistics(image: NDArray[np.uint8]) -> Array:
    """The 64 statistics of one uint8 (h, w, 3) image, in the order of COLUMNS."""
    counts = [np.bincount(image[..., c].ravel(), minlength=256) for c in range(3)]
    luma = image.astype(np.int32) @ _LUMA  # (h, w), 0..255000
    saturation, value, cos, sin = _hsv(image)
    levels = np.minimum(luma * 8 // 255000, 7)
    shares = np.bincount(levels.ravel(), minlength=8) / levels.size
    return np.concatenate([
        *(_channel(c) for c in counts),
        [saturation.mean(), saturation.std(), value.mean(), value.std(), cos, sin],
        _optical_density(image, counts),
        *(_gradient(luma / 255000, scale) for scale in (1, 2, 4)),
        _local_binary_patterns(luma),
        _cooccurrence(levels[:, :-1], levels[:, 1:]),
        _cooccurrence(levels[:-1], levels[1:]),
        [(saturation > 0.07).mean(), (value < 0.2).mean(), ((value > 0.8) & (saturation < 0.07)).mean()],
        [-float(np.sum(shares * np.log2(np.where(shares > 0, shares, 1))))],
    ])  # fmt: skip


def _channel(counts: NDArray[np.int64]) -> Array:
    """Mean, sd and percentiles of 8-bit values in [0, 1], from their histogram (exact, and without sorting)."""
    grey, total = np.arange(256) / 255, int(counts.sum())
    mean = float(counts @ grey) / total
    sd = np.sqrt(float(counts @ (grey - mean) ** 2) / total)
    at = np.array(PERCENTILES) / 100 * (total - 1)
    below = np.floor(at).astype(np.int64)
    cumulative = np.cumsum(counts)
    low = grey[np.searchsorted(cumulative, below, side="right")]
    high = grey[np.searchsorted(cumulative, np.minimum(below + 1, total - 1), side="right")]
    return np.concatenate([[mean, sd], low + (at - below) * (high - low)])


def _hsv(image: NDArray[np.uint8]) -> tuple[Array, Array, float, float]:
    """Saturation and value (h, w), and the means of S cos(2 pi H) and S sin(2 pi H)."""
    rgb = image.astype(np.float64) / 255
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    value = rgb.max(axis=-1)
    spread = value - rgb.min(axis=-1)
    divisor = np.where(spread > 0, spread, 1)
    sextant = np.where(
        value == r, (g - b) / divisor, np.where(value == g, 2 + (b - r) / divisor, 4 + (r - g) / divisor)
    )
    saturation = spread / np.where(value > 0, value, 1)
    angle = sextant * (np.pi / 3)
    return saturation, value, float((saturation * np.cos(angle)).mean()), float((saturation * np.sin(angle)).mean())


def _optical_density(image: NDArray[np.uint8], counts: list[NDArray[np.int64]]) -> Array:
    total = int(counts[0].sum())
    means = [float(c @ _OD) / total for c in counts]
    sds = [float(np.sqrt(c @ (_OD - m) ** 2 / total)) for c, m in zip(counts, means, strict=True)]
    centred = [(_OD - m)[image[..., c]].ravel() for c, m in enumerate(means)]
    pairs = ((0, 1), (0, 2), (1, 2))
    constant = [np.count_nonzero(c) == 1 for c in counts]
    correlations = [
        0.0 if constant[i] or constant[j] else float(centred[i] @ centred[j]) / total / (sds[i] * sds[j])
        for i, j in pairs
    ]
    return np.array([v for pair in zip(means, sds, strict=True) for v in pair] + correlations)


def _gradient(luma: Array, scale: int) -> list[float]:
    h, w = luma.shape[0] // scale, luma.shape[1] // scale
    boxes = luma[: h * scale, : w * scale].reshape(h, scale, w, scale).mean(axis=(1, 3))
    across = (boxes[1:-1, 2:] - boxes[1:-1, :-2]) / 2
    down = (boxes[2:, 1:-1] - boxes[:-2, 1:-1]) / 2
    energy = across**2 + down**2
    return [float(energy.mean()), float(np.sqrt(energy).std())]


def _local_binary_patterns(luma: NDArray[np.int32]) -> Array:
    h, w = luma.shape
    centre = luma[1:-1, 1:-1]
    code = np.zeros(centre.shape, np.uint8)
    for bit, (dy, dx) in enumerate(_CIRCLE):
        code |= (luma[1 + dy : h - 1 + dy, 1 + dx : w - 1 + dx] >= centre).astype(np.uint8) << np.uint8(bit)
    patterns = np.bincount(code.ravel(), minlength=256)
    return np.bincount(_UNIFORM, weights=patterns, minlength=10) / centre.size


def _cooccurrence(first: NDArray[np.int32], second: NDArray[np.int32]) -> list[float]:
    pairs = np.bincount((first * 8 + second).ravel(), minlength=64).reshape(8, 8)
    p = (pairs + pairs.T) / (2 * first.size)
    i, j = np.indices((8, 8))
    mean = float((p * i).sum())
    variance = float((p * (i - mean) ** 2).sum())
    covariance = float((p * (i - mean) * (j - mean)).sum())
    return [
        float((p * (i - j) ** 2).sum()),
        float((p / (1 + (i - j) ** 2)).sum()),
        float((p**2).sum()),
        covariance / variance if np.count_nonzero(p.sum(axis=0)) > 1 else 1.0,
    ]
