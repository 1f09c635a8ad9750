"""What a feature store holds, in memory: patients, tables, bags. Nothing here knows HDF5."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["slide", "volume", "image", "table"]
ColumnKind = Literal["numeric", "ordinal", "categorical"]

UNUSED, TRAIN, VALIDATION, TEST = 0, 1, 2, 3
ROLES = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


@dataclass(frozen=True)
class Label:
    """One task's label: `values` (n,) int64 are indices into `classes`, -1 where the patient has none."""

    values: NDArray[np.int64]
    classes: list[str]
    ordinal: bool = False


@dataclass(frozen=True)
class Patients:
    """The rows of a store. `folds[set]` is int8 (n, K): each patient's role in each of K folds."""

    ids: list[str]
    group: list[str] | None = None
    labels: dict[str, Label] = field(default_factory=dict)
    folds: dict[str, NDArray[np.int8]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Table:
    """A clinical table over all patients of the store.

    `values` (n, f) float64 is NaN exactly where `observed` (n, f) is False; categorical and ordinal columns hold
    codes into `categories[column]`. `present` (n,) is False for a patient without the table at all.
    """

    columns: list[str]
    kinds: list[ColumnKind]
    categories: dict[str, list[str]]
    present: NDArray[np.bool_]
    values: NDArray[np.float64]
    observed: NDArray[np.bool_]
    units: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """One file of one patient: where it lies and what it is. `mpp` in µm per pixel (0 where unknown),
    `spacing` (x, y, z) in mm (0 where unknown)."""

    path: str
    size: int
    fingerprint: str
    mpp: float = 0.0
    mpp_source: str = ""
    spacing: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Instances:
    """One patient's bag in one modality, as a stage makes it: N instances, any of the arrays may be absent.

    features (N, dim) float16|float32; coords (N, k); pixels (N, ...); source (N,) index into `sources`.
    """

    count: int
    features: NDArray[Any] | None = None
    coords: NDArray[Any] | None = None
    pixels: NDArray[Any] | None = None
    source: NDArray[np.int32] | None = None
    sources: tuple[Source, ...] = ()
