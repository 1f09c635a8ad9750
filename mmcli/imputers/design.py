"""Table columns as regressions see them: standardised numbers and indicators, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmcli.imputers.marginals import Marginals

Floats = NDArray[np.float64]
FARTHEST = 1e6


@dataclass(frozen=True)
class Variable:
    """A table column among the design columns `span`. `levels` are the codes of its indicators, none where the column
    (numeric, ordinal) is one number; `low` and `high` (q,) bound each design column."""

    column: int
    span: slice
    levels: NDArray[np.int64]
    low: Floats
    high: Floats


class Design:
    """The columns that take part in regressions, standardised by the training patients' mean and sd (over n).

    A numeric or ordinal column is one design column; a categorical one is an indicator for each category that a
    training patient has. Columns that are constant, that fewer than `min_observed` training patients have, or that
    have more than `max_levels` categories take no part.
    """

    def __init__(self, marginals: Marginals, kinds: Sequence[str], min_observed: int, max_levels: int) -> None:
        self.variables: list[Variable] = []
        means: list[float] = []
        sds: list[float] = []
        for j, kind in enumerate(kinds):
            levels = marginals.levels(j) if kind == "categorical" else np.zeros(0, np.int64)
            usable = np.isfinite(marginals.sd[j]) and marginals.sd[j] > 1e-150 and marginals.sd[j] < 1e150
            if not usable or marginals.count[j] < min_observed or len(levels) > max_levels:
                continue
            if len(levels):
                mean = marginals.shares[j, levels]
                sd, low, high = np.sqrt(mean * (1 - mean)), np.zeros_like(mean), np.ones_like(mean)
            else:
                mean, sd = marginals.mean[[j]], marginals.sd[[j]]
                low, high = marginals.quantiles[0, [j]], marginals.quantiles[-1, [j]]
            span = slice(len(means), len(means) + len(mean))
            self.variables.append(Variable(j, span, levels, (low - mean) / sd, (high - mean) / sd))
            means += mean.tolist()
            sds += sd.tolist()
        self.mean, self.sd = np.array(means), np.array(sds)

    def encode(self, values: Floats) -> Floats:
        """(n, d) of table rows (n, f): NaN stays NaN; a category that no training patient has is NaN too. A number
        farther than a million sd from the mean counts as that far, so that nothing overflows."""
        encoded = np.full((len(values), len(self.mean)), np.nan)
        for v in self.variables:
            cells = values[:, v.column]
            known = np.isin(cells, v.levels) if len(v.levels) else ~np.isnan(cells)
            raw = (cells[:, None] == v.levels).astype(np.float64) if len(v.levels) else cells[:, None]
            standard = np.clip(self.standard(v, raw), -FARTHEST, FARTHEST)
            encoded[:, v.span] = np.where(known[:, None], standard, np.nan)
        return encoded

    def shares(self, variable: Variable, encoded: Floats) -> Floats:
        """(..., q) predicted indicators as shares: between 0 and 1, summing to 1."""
        raw = np.clip(encoded * self.sd[variable.span] + self.mean[variable.span], 0, 1)
        total = raw.sum(-1, keepdims=True)
        shares: Floats = np.where(total > 0, raw / np.where(total > 0, total, 1), self.mean[variable.span])
        return shares

    def standard(self, variable: Variable, raw: Floats) -> Floats:
        """Cells or indicators (..., q) as design columns."""
        standard: Floats = (raw - self.mean[variable.span]) / self.sd[variable.span]
        return standard

    def decode(self, variable: Variable, encoded: Floats) -> Floats:
        """(...) table cells of design columns (..., q): the likeliest category, or the number."""
        if len(variable.levels):
            return self._category(variable, encoded)
        cells: Floats = encoded[..., 0] * self.sd[variable.span][0] + self.mean[variable.span][0]
        return cells

    def _category(self, variable: Variable, encoded: Floats) -> Floats:
        codes: Floats = variable.levels[self.shares(variable, encoded).argmax(-1)].astype(np.float64)
        return codes
