"""What is fitted to the data before any network sees them: on training patients alone.

Both fitted things are plain arrays with a JSON head, so that a part carries them and `predict` uses them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcli.store import Table
from mmcli.store.parts import ColumnKind

Floats = NDArray[np.float64]
CLIP = 6.0


@dataclass(frozen=True)
class LatentScaler:
    """Standardises latents per dimension: mean and 1/sd (dim,) over the training patients' instances.

    A dimension that is constant there becomes 0.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def fit(cls, sums: Floats, squares: Floats, counts: NDArray[np.int64]) -> LatentScaler:
        """From the training patients' sums (n, dim), sums of squares (n, dim) and counts (n,) of instances."""
        count = max(int(counts.sum()), 1)
        mean = sums.sum(0) / count
        return cls(mean.astype(np.float32), _inverse(squares.sum(0) / count - mean**2, mean))


def _inverse(variance: Floats, mean: Floats) -> NDArray[np.float32]:
    """1/sd, 0 where the spread is nothing but rounding."""
    real = variance > 1e-10 * np.maximum(mean**2, 1e-12)
    return np.where(real, 1 / np.sqrt(np.where(real, variance, 1)), 0).astype(np.float32)


def _unit(values: Floats) -> float:
    """A power of two of the order of the values, so that no square of them is too large or too small for a number;
    dividing by it rounds nothing."""
    largest = float(np.abs(values).max(initial=0.0))
    return 2.0 ** np.clip(np.floor(np.log2(largest)), -1000, 1000) if largest else 1.0


@dataclass(frozen=True)
class TableEncoder:
    """Turns a table's cells into numbers of the order of one.

    Numeric and ordinal columns: (value - mean) / sd by the observed training cells, cut off at 6 sd; 0 if constant
    there. Categorical ones: a column `name=category` for each category that training patients have, 1 or 0 minus its
    share of them. A hole gets 0, the training mean. A category that training did not have counts as not observed, and
    so does a column without any observed training cell. `categories` are by name: a new table's own codes do not
    matter.
    """

    columns: list[str]
    kinds: list[ColumnKind]
    categories: dict[str, list[str]]
    encoded: list[str]
    mean: Floats
    scale: Floats

    @classmethod
    def fit(cls, table: Table, rows: NDArray[np.int64]) -> TableEncoder:
        """Fit on the observed cells of the training rows."""
        encoded: list[str] = []
        means: list[float] = []
        scales: list[float] = []
        for j, (column, kind) in enumerate(zip(table.columns, table.kinds, strict=True)):
            seen = table.values[rows, j][table.observed[rows, j]]
            if kind == "categorical":
                for code, category in enumerate(table.categories[column]):
                    if share := float((seen == code).mean()) if len(seen) else 0.0:
                        encoded.append(f"{column}={category}")
                        means.append(share)
                        scales.append(1.0)
                continue
            unit = _unit(seen)
            mean, variance = ((seen / unit).mean(), (seen / unit).var()) if len(seen) else (0.0, 0.0)
            encoded.append(column)
            means.append(float(mean) * unit)
            scales.append(float(_inverse(np.array([variance]), np.array([mean]))[0]) / unit)
        return cls(list(table.columns), list(table.kinds), dict(table.categories), encoded,
                   np.array(means), np.array(scales))  # fmt: skip

    def encode(self, table: Table, draws: Floats | None = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(values, observed), each float32 (n, len(encoded)). `draws` (m, n, f) are the table's values with an
        imputer's answers in the holes, NaN where it has none: each draw is encoded, and the mean taken."""
        draws = table.values[None] if draws is None else draws
        known = {name: i for i, name in enumerate(self.encoded)}
        n = len(table.present)
        values = np.zeros((n, len(self.encoded)))
        observed = np.zeros((n, len(self.encoded)), np.float32)
        for column, kind in zip(self.columns, self.kinds, strict=True):
            j = table.columns.index(column)
            if kind != "categorical":
                i = known[column]
                z = np.clip((draws[:, :, j] - self.mean[i]) * self.scale[i], -CLIP, CLIP)
                values[:, i] = np.where(np.isfinite(z), z, 0).mean(0)
                observed[:, i] = table.observed[:, j]
                continue
            names = table.categories.get(column, [])
            target = np.array([known.get(f"{column}={name}", -1) for name in names] + [-1])
            codes = draws[:, :, j]
            whole = np.where(np.isfinite(codes), np.rint(codes), len(names)).astype(int).clip(0, len(names))
            slots = target[whole]  # (m, n): encoded column, -1 = not known here
            for name in self.categories[column]:
                if (i := known.get(f"{column}={name}", -1)) >= 0:
                    values[:, i] = np.where(slots >= 0, (slots == i) - self.mean[i], 0).mean(0)
                    observed[:, i] = table.observed[:, j] & (slots >= 0).any(0)
        values[~table.present] = 0
        observed[~table.present] = 0
        return values.astype(np.float32), observed

    def recoded(self, table: Table) -> Table:
        """The table with the columns and codes of training: what training has no code for is not observed."""
        values = np.full((len(table.present), len(self.columns)), np.nan)
        for j, column in enumerate(self.columns):
            old = table.values[:, table.columns.index(column)]
            if self.kinds[j] == "numeric":
                values[:, j] = old
                continue
            # A column that nobody has may have come as of another kind, without categories.
            code = {name: float(i) for i, name in enumerate(self.categories[column])}
            codes = np.array([code.get(name, np.nan) for name in table.categories.get(column, [])] + [np.nan])
            values[:, j] = codes[np.where(np.isnan(old), len(codes) - 1, old).astype(int)]
        kinds: list[ColumnKind] = list(self.kinds)
        observed = ~np.isnan(values)
        return Table(list(self.columns), kinds, self.categories, table.present, values, observed, table.units)

    def unknown(self, table: Table) -> list[str]:
        """`column=category` of this table's observed cells that training never had."""
        found = []
        for column, kind in zip(self.columns, self.kinds, strict=True):
            if kind != "categorical":
                continue
            j = table.columns.index(column)
            codes = np.unique(table.values[table.observed[:, j], j]).astype(int)
            names = [f"{column}={table.categories[column][code]}" for code in codes]
            found += [name for name in names if name not in self.encoded]
        return found

    def head(self) -> dict[str, Any]:
        """What of it is no array, for JSON."""
        return {"columns": self.columns, "kinds": self.kinds, "categories": self.categories, "encoded": self.encoded}
