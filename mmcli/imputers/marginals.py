"""What the training patients' columns look like, each on its own: ranges, levels, shares, quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
POINTS = 101


@dataclass(frozen=True)
class Marginals:
    """Each of f columns on its own, from observed training cells alone.

    count (f,) observed cells; mean and sd (f,) (sd over n); quantiles (101, f) at 0, 1 ... 100 %, so that the first
    and last row are the range; shares (f, L) of the codes 0 ... L-1, all zero for a numeric column. A few hundred
    numbers a column: no patient's row can be read from it. Where count is 0, everything is 0 (a coded column: code 0).
    """

    count: NDArray[np.int64]
    mean: Floats
    sd: Floats
    quantiles: Floats
    shares: Floats

    @classmethod
    def fit(cls, values: Floats, levels: Sequence[int]) -> Marginals:
        """From `values` (n, f) with NaN; `levels` (f) codes a column, 0 for numeric."""
        f = values.shape[1]
        count = np.zeros(f, np.int64)
        mean, sd, quantiles = np.zeros(f), np.zeros(f), np.zeros((POINTS, f))
        shares = np.zeros((f, max([1, *levels])))
        for j in range(f):
            seen = values[~np.isnan(values[:, j]), j]
            count[j] = len(seen)
            if levels[j]:
                codes = _codes(seen, levels[j])
                shares[j] = np.bincount(codes, minlength=shares.shape[1]) / len(seen) if len(seen) else 0
                shares[j, 0] += not len(seen)
            if len(seen):
                quantiles[:, j] = np.quantile(seen, np.linspace(0, 1, POINTS))
                mean[j], sd[j] = _moments(seen)
        return cls(count, mean, sd, quantiles, shares)

    @property
    def coded(self) -> NDArray[np.bool_]:
        """(f,) which columns hold codes."""
        coded: NDArray[np.bool_] = self.shares.max(axis=1) > 0
        return coded

    def levels(self, column: int) -> NDArray[np.int64]:
        """The codes that training patients have, ascending."""
        return np.flatnonzero(self.shares[column])

    def point(self, kinds: Sequence[str], answer: str) -> Floats:
        """(f,): the mean or median of a numeric column; of an ordinal one the mean of its codes (snapped to the
        nearest level later) or the median level; of a categorical one the most frequent category, or the first of
        several."""
        middle = np.where(self.coded, self._coded_at(np.array(0.5)), self.quantiles[POINTS // 2])
        centre = middle if answer == "median" else self.mean
        return np.where([k == "categorical" for k in kinds], self.shares.argmax(1), centre).astype(np.float64)

    def draw(self, uniforms: Floats) -> Floats:
        """(..., f) values at the quantiles `uniforms` (..., f) in (0, 1): a draw from each column's distribution.
        Between the 101 stored quantiles of a numeric column it is linear."""
        grid = np.linspace(0, 1, POINTS)
        drawn = np.stack(
            [np.interp(uniforms[..., j], grid, self.quantiles[:, j]) for j in range(len(self.mean))], axis=-1
        )
        return np.where(self.coded, self._coded_at(uniforms), drawn)

    def _coded_at(self, uniforms: Floats) -> Floats:
        """(..., f) the first code whose cumulative share reaches `uniforms`, never one without a share."""
        reached = np.cumsum(self.shares, 1) >= uniforms[..., None] - 1e-12
        reached &= self.shares > 0
        last = self.shares.shape[1] - 1 - (self.shares[:, ::-1] > 0).argmax(1)
        codes: Floats = np.where(reached.any(-1), reached.argmax(-1), last).astype(np.float64)
        return codes

    def snap(self, proposed: Floats) -> Floats:
        """Proposed cells (..., f) brought into the training patients' range, or to their nearest level (the lower one
        of two that are equally near)."""
        snapped = np.clip(proposed, self.quantiles[0], self.quantiles[-1])
        for j in np.flatnonzero(self.coded):
            levels = self.levels(int(j)).astype(np.float64)
            between = (levels[1:] + levels[:-1]) / 2
            snapped[..., j] = levels[np.searchsorted(between, proposed[..., j], side="left")]
        return snapped


def _codes(seen: Floats, levels: int) -> NDArray[np.int64]:
    codes = seen.astype(np.int64)
    if (codes != seen).any() or (codes < 0).any() or (codes >= levels).any():
        raise ValueError(f"codes outside 0 ... {levels - 1}")
    return codes


def _moments(seen: Floats) -> tuple[float, float]:
    """Mean and sd; the mean never leaves the range by rounding, and both are finite for numbers near the largest."""
    low, high = seen.min(), seen.max()
    scale = max(abs(low), abs(high), 1e-300)
    scaled = seen / scale
    mean = float(np.clip(scaled.mean() * scale, low, high))
    return mean, 0.0 if low == high else float(min(scaled.std() * scale, np.finfo(np.float64).max))
