"""`knn`: from the most similar training patients who have the cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mmcli.imputers.design import Design, Variable
from mmcli.imputers.imputer import Answer, Floats, Imputer, ImputerSettings
from mmcli.imputers.noise import patient_keys, uniforms

CHUNK = 2_000_000


class KnnSettings(ImputerSettings):
    """Options of `knn`."""

    neighbours: int = Field(5, ge=1, description="Most similar training patients that a cell is taken from.")


class KnnImputer(Imputer):
    """The nearest training patients who have the cell: their mean, median or most frequent code, or one of them drawn.

    Troyanskaya et al., Missing value estimation methods for DNA microarrays, Bioinformatics 17(6), 2001. Distances are
    those of scikit-learn's KNNImputer: Euclidean over the columns that both patients have, scaled up to all columns;
    numbers and ordinal levels standardised, categories as indicators. A patient who shares no column with any donor
    is filled as by `mean`. Equally distant donors: the earlier in training.

    The fitted state holds the training rows.
    """

    name: ClassVar[str] = "knn"
    source: ClassVar[str] = "Troyanskaya et al. 2001, doi:10.1093/bioinformatics/17.6.520"
    Settings: ClassVar[type[ImputerSettings]] = KnnSettings

    def _fit(self, values: Floats) -> None:
        self._make_design()
        self.rows = values
        self.encoded = self.design.encode(values)

    def _make_design(self) -> None:
        self.design = Design(self.marginals, self.columns.kinds, 1, np.iinfo(np.int64).max)

    def _propose(self, values: Floats, ids: list[str], draws: int, answer: Answer) -> Floats:
        n, f = values.shape
        noise = uniforms(patient_keys(self.seed, ids), 0, draws * f).reshape(n, draws, f)
        if answer == "draw":
            proposed = self.marginals.draw(noise)
        else:
            proposed = np.tile(self.marginals.point(self.columns.kinds, answer), (n, 1, 1))
        encoded = self.design.encode(values)
        holes = np.isnan(values)
        step = max(1, CHUNK // max(1, self.encoded.size))
        for first in range(0, n, step):
            some = slice(first, first + step)
            distance = self._distances(encoded[some])
            for v in self.design.variables:
                donors = np.flatnonzero(~np.isnan(self.rows[:, v.column]))
                wanting = np.flatnonzero(holes[some, v.column])
                reach = distance[np.ix_(wanting, donors)]
                nearest = np.argsort(reach, 1, kind="stable")[:, : self.settings.neighbours]
                usable = np.isfinite(np.take_along_axis(reach, nearest, 1))
                cells = self.rows[donors, v.column][nearest]
                for i, own, ok in zip(wanting.tolist(), cells, usable, strict=True):
                    if ok.any():
                        at = first + i
                        proposed[at, :, v.column] = self._answer(v, own[ok], answer, noise[at, :, v.column])
        filled: Floats = proposed.swapaxes(0, 1)
        return filled

    def _distances(self, encoded: Floats) -> Floats:
        """(n, N) squared distance to each training row; infinite where no column is shared."""
        gap: Floats = encoded[:, None] - self.encoded
        shared = ~np.isnan(gap)
        count = shared.sum(-1)
        total = np.where(shared, gap, 0)
        total = (total * total).sum(-1)
        distances: Floats = np.where(count > 0, total / np.maximum(count, 1) * encoded.shape[1], np.inf)
        return distances

    def _answer(self, v: Variable, cells: Floats, answer: Answer, noise: Floats) -> Floats:
        """(m,) of the donors' cells (k,)."""
        if answer == "draw":
            return cells[np.minimum((noise * len(cells)).astype(np.int64), len(cells) - 1)]
        if len(v.levels):
            return np.full(1, np.bincount(cells.astype(np.int64)).argmax(), np.float64)
        return np.full(1, np.median(cells) if answer == "median" else np.mean(cells))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"cells": np.nan_to_num(self.rows), "seen": ~np.isnan(self.rows)}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._make_design()
        self.rows = np.where(arrays["seen"], arrays["cells"], np.nan)
        self.encoded = self.design.encode(self.rows)
