"""Table columns as normal scores and standardised indicators, and back: what Gaussian models of mixed tables see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from mmcli.imputers.marginals import Marginals

Floats = NDArray[np.float64]
KNOTS = 256
LEVELS = (np.arange(KNOTS) + 0.5) / KNOTS
# A predictive normal is read off at these points (in sd), and summed with these weights.
NODES = np.linspace(-3.5, 3.5, 41)
WEIGHTS = np.exp(-(NODES**2) / 2) / np.exp(-(NODES**2) / 2).sum()


@dataclass(frozen=True)
class Scored:
    """A table column among the score columns `span`. `levels` are the codes of an ordinal or categorical column that
    training patients have; `edges` the normal scores between an ordinal column's levels; `categorical` whether its
    scores are indicators (one for two categories, else one each)."""

    column: int
    span: slice
    levels: NDArray[np.int64]
    edges: Floats
    categorical: bool


class Scores:
    """Columns mapped to scores of training mean 0 and variance 1.

    A number becomes the normal score of its mid-rank among 256 training quantiles (Hazen), linear between them; an
    ordinal level the mean of a standard normal between the quantiles that bound the level's share; a category an
    indicator. Columns that are constant, that fewer than `min_observed` training patients have, that have more
    than `max_levels` categories, or numbers beyond 1e150 take no part.
    """

    def __init__(self, marginals: Marginals, kinds: Sequence[str], min_observed: int, max_levels: int) -> None:
        self.marginals, self.variables, self.size = marginals, list[Scored](), 0
        for j, kind in enumerate(kinds):
            levels = marginals.levels(j)
            usable = np.isfinite(marginals.sd[j]) and 1e-150 < marginals.sd[j] < 1e150
            if not usable or marginals.count[j] < min_observed or (kind == "categorical" and len(levels) > max_levels):
                continue
            q = len(levels) if kind == "categorical" and len(levels) > 2 else 1
            edges = ndtri(np.clip(np.concatenate([[0], np.cumsum(marginals.shares[j, levels])]), 0, 1))
            self.variables.append(Scored(j, slice(self.size, self.size + q), levels, edges, kind == "categorical"))
            self.size += q
        self.knots = np.zeros((KNOTS, len(kinds)))
        self.centre, self.scale = np.zeros(self.size), np.ones(self.size)

    def fit(self, values: Floats) -> None:
        """Learn quantiles, centre and scale from training rows (n, f)."""
        for v in self.variables:
            if not len(v.levels):
                seen = values[~np.isnan(values[:, v.column]), v.column]
                self.knots[:, v.column] = np.quantile(seen, LEVELS, method="hazen")
        scores = self.encode(values)
        self.centre = np.nanmean(scores, 0)
        self.scale = np.maximum(np.nanstd(scores, 0), 1e-6)

    def encode(self, values: Floats) -> Floats:
        """(n, d) scores of table rows (n, f); NaN stays NaN, and a category that no training patient has is NaN."""
        scores = np.full((len(values), self.size), np.nan)
        for v in self.variables:
            cells = values[:, v.column]
            known = np.isin(cells, v.levels) if v.categorical else ~np.isnan(cells)
            scores[known, v.span] = self._raw_scores(v, cells[known])
        standard: Floats = (scores - self.centre) / self.scale
        return standard

    def _raw_scores(self, v: Scored, cells: Floats) -> Floats:
        """(n, q) scores before centring of observed cells (n,)."""
        if v.categorical:
            own = v.levels[-1:] if len(v.levels) == 2 else v.levels
            indicators: Floats = (cells[:, None] == own).astype(np.float64)
            return indicators
        if len(v.levels):
            nearest = np.abs(cells[:, None] - v.levels).argmin(1)
            density = np.exp(-(v.edges**2) / 2) / np.sqrt(2 * np.pi)
            middle: Floats = (density[:-1] - density[1:]) / self.marginals.shares[v.column, v.levels]
            return np.asarray(middle[nearest, None], np.float64)
        knots = self.knots[:, v.column]
        first, last = np.searchsorted(knots, cells, "left"), np.searchsorted(knots, cells, "right")
        between = np.interp(cells, knots, LEVELS)
        level = np.where(last > first, (first + last) / (2 * KNOTS), between)
        normal: Floats = ndtri(np.clip(level, LEVELS[0], LEVELS[-1]))[:, None]
        return normal

    def quantile(self, v: Scored, score: Floats) -> Floats:
        """Numbers (...) of a numeric column at scores (...) (as `encode` gives them)."""
        level = ndtr(score * self.scale[v.span.start] + self.centre[v.span.start])
        number: Floats = np.interp(level, LEVELS, self.knots[:, v.column])
        return number

    def level_at(self, v: Scored, score: Floats) -> NDArray[np.int64]:
        """Levels (...) of an ordinal column at scores (...)."""
        raw = score * self.scale[v.span.start] + self.centre[v.span.start]
        levels: NDArray[np.int64] = v.levels[np.searchsorted(v.edges[1:-1], raw)]
        return levels

    def shares(self, v: Scored, score: Floats) -> Floats:
        """Shares (..., L) of a categorical column's levels from scores (..., q): cut to .1 % at least, sum 1."""
        shares = score * self.scale[v.span] + self.centre[v.span]
        if len(v.levels) == 2:
            shares = np.concatenate([1 - shares, shares], -1)
        shares = np.maximum(shares, 1e-3)
        normed: Floats = shares / shares.sum(-1, keepdims=True)
        return normed

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `fit` learned."""
        return {"knots": self.knots, "centre": self.centre, "scale": self.scale}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        self.knots, self.centre, self.scale = arrays["knots"], arrays["centre"], arrays["scale"]
