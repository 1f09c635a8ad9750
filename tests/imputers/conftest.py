"""A made table with every kind of column and holes, and every imputer by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from mmcli.imputers.imputer import Columns

KINDS = ["numeric", "numeric", "numeric", "ordinal", "categorical"]
CATEGORIES = {"grade": ["G1", "G2", "G3", "G4"], "site": ["a", "b", "c"]}


@dataclass
class Made:
    """Values (n, 5) with NaN, their columns, and an id a patient."""

    values: NDArray[np.float64]
    columns: Columns
    ids: list[str]


def make_table(n: int = 60, seed: int = 0, holes: float = 0.3) -> Made:
    """Three numbers (one skewed), a grade 0 ... 2 of 4 (nobody has G4) and a site, all of one common factor."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=n)
    a = factor + 0.3 * rng.normal(size=n)
    b = np.exp(factor + 0.3 * rng.normal(size=n)) * 1000
    c = 5 - 2 * factor + rng.normal(size=n)
    grade = np.digitize(factor + 0.3 * rng.normal(size=n), [-0.5, 0.5])
    site = np.digitize(factor + 0.5 * rng.normal(size=n), [-0.7, 0.7])
    values = np.stack([a, b, c, grade, site], 1).astype(np.float64)
    values[rng.random(values.shape) < holes] = np.nan
    return Made(values, Columns(["a", "b", "c", "grade", "site"], list(KINDS), CATEGORIES), [f"P{i}" for i in range(n)])


@pytest.fixture
def made() -> Made:
    return make_table()
