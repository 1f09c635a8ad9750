"""Moran's I and Geary's C against the sums over all pairs, written out."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from mmcli.readers.spatial import moran_and_geary


@pytest.mark.parametrize("seed", range(4))
def test_sums_over_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, 3).tolist())
    mask = rng.random(shape) < 0.6
    mask.flat[[0, -1]] = True
    spacing = (0.7, 1.5, 3.0)
    values = rng.normal(1000, 30, shape).astype(np.float32)
    own = values[mask].astype(float) - values[mask].astype(float).mean()
    places = np.argwhere(mask) * np.array(spacing[::-1])
    weights = products = differences = 0.0
    for a, b in combinations(range(len(own)), 2):
        weight = 1 / float(np.linalg.norm(places[a] - places[b]))
        weights += weight
        products += weight * own[a] * own[b]
        differences += weight * (own[a] - own[b]) ** 2
    square, count = float((own**2).sum()), len(own)
    moran, geary = moran_and_geary(values, mask, spacing)
    assert moran == pytest.approx(count * products / (weights * square), abs=1e-5)
    assert geary == pytest.approx((count - 1) * differences / (2 * weights * square), abs=1e-5)


def test_what_has_none() -> None:
    values, mask = np.full((3, 3, 3), 7, np.float32), np.zeros((3, 3, 3), bool)
    mask[1, 1, 1] = True
    assert all(map(math.isnan, moran_and_geary(values, mask, (1, 1, 1))))
    mask[1, 1] = True
    assert moran_and_geary(values, mask, (1, 1, 1)) == (1.0, 1.0)
