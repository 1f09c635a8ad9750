"""Pixels at another size: the mean over each new pixel's area when shrinking, linear interpolation when enlarging."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse

Pixels = NDArray[np.uint8]


def resize(pixels: Pixels, box: tuple[float, float, float, float], size: tuple[int, int]) -> Pixels:
    """`box` (left, top, right, bottom; fractions allowed) of `pixels` as uint8 (h, w, 3), `size` = (w, h): the
    exact mean over each output pixel's area when shrinking, linear interpolation when enlarging."""
    left, top, right, bottom = box
    w, h = size
    ratio_x, ratio_y = (right - left) / w, (bottom - top) / h
    whole = all(abs(v - round(v)) < 1e-6 for v in (left, top, ratio_x, ratio_y)) and min(ratio_x, ratio_y) > 0.5
    if whole:
        x0, y0, fx, fy = round(left), round(top), round(ratio_x), round(ratio_y)
        part = pixels[y0 : y0 + h * fy, x0 : x0 + w * fx]
        if fx == fy == 1:
            return np.ascontiguousarray(part)
        return _halved(part) if fx == fy == 2 else np.asarray(Image.fromarray(part).reduce((fx, fy)))
    height, width = pixels.shape[:2]
    rows = _weights(height, round(top, 4), round(bottom, 4), h)
    columns = _weights(width, round(left, 4), round(right, 4), w)
    tall = rows @ pixels.reshape(height, -1).astype(np.float32)
    wide = columns @ _turned(tall, 12).reshape(width, -1)
    wide += 0.5  # so that the cut to whole numbers rounds
    out: Pixels = _turned(wide.astype(np.uint8), 3).reshape(h, w, 3)
    return out


def _halved(pixels: Pixels) -> Pixels:
    """(2 h, 2 w, 3) -> (h, w, 3): the mean of each 2 x 2 pixels, halves rounded up as Pillow's `reduce` does."""
    height, width = pixels.shape[0] // 2, pixels.shape[1]
    lines = np.ascontiguousarray(pixels).reshape(2 * height, 3 * width)
    tall = np.add(lines[0::2], lines[1::2], dtype=np.uint16)
    means = np.empty((height, 3 * width), np.uint8)
    # the sum with the next pixel for every pixel, of which every other one is wanted: long runs are faster than steps
    both = tall[:, :-3] + tall[:, 3:]
    both += 2
    both >>= 2
    means[:, :-3] = both
    return np.ascontiguousarray(means.view("V3")[:, ::2]).view(np.uint8).reshape(height, width // 2, 3)


def _turned(lines: NDArray[Any], size: int) -> NDArray[Any]:
    """(a, b * 3) -> (b, a * 3): pixels of `size` bytes change places whole, several times faster than by channel."""
    turned = np.ascontiguousarray(lines.view(f"V{size}").T)
    return turned.view(lines.dtype)


@lru_cache(maxsize=256)
def _weights(count: int, start: float, stop: float, size: int) -> sparse.csr_array:
    """(size, count): how much each of `count` input pixels counts in each of `size` output pixels along one axis."""
    step = (stop - start) / size
    if step < 1:
        at = np.clip(start + (np.arange(size) + 0.5) * step - 0.5, 0, count - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, count - 1)
        rows = np.tile(np.arange(size), 2)
        values = np.concatenate([1 - (at - low), at - low])
        return sparse.csr_array((values.astype(np.float32), (rows, np.concatenate([low, high]))), (size, count))
    edges = np.minimum(start + np.arange(size + 1) * step, count)
    taps = math.ceil(step) + 2
    first = np.floor(edges[:-1]).astype(int)
    columns = first[:, None] + np.arange(taps)
    covered = np.minimum(columns + 1, edges[1:, None]) - np.maximum(columns, edges[:-1, None])
    covered = np.clip(covered, 0, None) / (edges[1:] - edges[:-1])[:, None]
    rows = np.repeat(np.arange(size), taps)
    keep = covered.ravel() > 0
    values = covered.ravel()[keep].astype(np.float32)
    return sparse.csr_array((values, (rows[keep], columns.ravel()[keep])), (size, count))


def on_white(rgba: Pixels) -> Pixels:
    """uint8 (h, w, 4) laid on white as (h, w, 3); opaque pixels stay exactly as they are."""
    alpha = rgba[:, :, 3]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[:, :, :3])
    share = alpha[:, :, None].astype(np.float32) / 255
    return np.rint(rgba[:, :, :3] * share + 255 * (1 - share)).astype(np.uint8)
