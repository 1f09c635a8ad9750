"""What several tests of readers compare with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray


def _slow_mean(
    pixels: NDArray[np.uint8], box: tuple[float, float, float, float], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Mean over each output pixel's area, pixel by pixel with its covered share."""
    left, top, right, bottom = box
    out = np.empty((size[1], size[0], 3))
    for v in range(size[1]):
        for u in range(size[0]):
            x0, x1 = left + u * (right - left) / size[0], left + (u + 1) * (right - left) / size[0]
            y0, y1 = top + v * (bottom - top) / size[1], top + (v + 1) * (bottom - top) / size[1]
            total, area = np.zeros(3), 0.0
            for y in range(int(np.floor(y0)), int(np.ceil(y1))):
                for x in range(int(np.floor(x0)), int(np.ceil(x1))):
                    share = (min(x + 1, x1) - max(x, x0)) * (min(y + 1, y1) - max(y, y0))
                    total, area = total + share * pixels[y, x], area + share
            out[v, u] = total / area
    return out


@pytest.fixture(scope="session")
def slow_mean() -> Callable[..., NDArray[np.float64]]:
    """Mean over each output pixel's area, pixel by pixel with its covered share."""
    return _slow_mean
