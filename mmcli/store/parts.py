"""What a feature store holds, in memory: patients, tables, bags. Nothing here knows HDF5."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["slide", "volume", "image", "table"]
ColumnKind = Literal["numeric", "ordinal", "categorical"]

ARRAYS = ("features", "coords", "pixels", "pixels_sha256", "source")
MAPS = "maps/"
MAP_AXES = ("c", "t", "h", "w")

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
    codes into `categories[column]`. `present` (n,) is False for a patient without the table at all. `about` has what
    else is known of columns: limits, outside (cells beyond them), made (how the column was made).
    """

    columns: list[str]
    kinds: list[ColumnKind]
    categories: dict[str, list[str]]
    present: NDArray[np.bool_]
    values: NDArray[np.float64]
    observed: NDArray[np.bool_]
    units: dict[str, str] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)

    def dictionary(self) -> list[dict[str, Any]]:
        """The data dictionary, a line a column: name, kind, unit, categories, what `about` knows, and of the patients
        who have the table how many cells are observed and how many missing, and the share of the latter."""
        patients = int(self.present.sum())
        counts = self.observed[self.present].sum(axis=0).tolist()
        return [
            {
                "name": name, "kind": kind, "unit": self.units.get(name, ""),
                "categories": self.categories.get(name, []), **self.about.get(name, {}),
                "observed": seen, "missing": patients - seen,
                "missing_share": round((patients - seen) / patients, 6) if patients else 0.0,
            }
            for name, kind, seen in zip(self.columns, self.kinds, counts, strict=True)
        ]  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One file of one patient: where it lies and what it is. `mpp` in µm per pixel (0 where unknown),
    `spacing` (x, y, z) in mm (0 where unknown); `about` is JSON: what an imported file said of itself."""

    path: str
    size: int
    fingerprint: str
    mpp: float = 0.0
    mpp_source: str = ""
    spacing: tuple[float, float, float] = (0.0, 0.0, 0.0)
    about: str = ""


@dataclass(frozen=True)
class Instances:
    """One patient's bag in one modality, as a stage makes it: N instances, any of the arrays may be absent.

    features (N, dim) float16|float32; coords (N, k); pixels (N, ...); pixels_sha256 (N, 32) uint8 of the pixels that
    an encoder saw, where a store keeps them; source (N,) index into `sources`; maps: stage -> (N, c, t, h, w) float16.
    """

    count: int
    features: NDArray[Any] | None = None
    coords: NDArray[Any] | None = None
    pixels: NDArray[Any] | None = None
    source: NDArray[np.int32] | None = None
    sources: tuple[Source, ...] = ()
    pixels_sha256: NDArray[np.uint8] | None = None
    maps: Mapping[str, NDArray[np.float16]] = field(default_factory=dict)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What there is, by the names that the arrays have in a store (a stage's maps are "maps/<stage>")."""
        there = {name: array for name in ARRAYS if (array := getattr(self, name)) is not None}
        return there | {MAPS + stage: array for stage, array in sorted(self.maps.items())}

    @classmethod
    def of(cls, count: int, arrays: Mapping[str, NDArray[Any]], sources: tuple[Source, ...]) -> Instances:
        """The other way round."""
        maps = {name.removeprefix(MAPS): array for name, array in arrays.items() if name.startswith(MAPS)}
        plain = {name: array for name, array in arrays.items() if not name.startswith(MAPS)}
        return cls(count, **plain, sources=sources, maps=maps)


def in_order(names: Iterable[str]) -> list[str]:
    """A bag's arrays in the one order in which they are written and hashed: the known ones, then maps by name."""
    there = set(names)
    return [name for name in ARRAYS if name in there] + sorted(name for name in there if name.startswith(MAPS))
