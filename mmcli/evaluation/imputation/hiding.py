"""Which observed cells are hidden from an imputer: a fifth of them, in one of three ways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
SHARE = 0.2
WAYS = {"random": "at random", "value": "by the cell's own value", "column": "by another column"}


def hide(
    values: Floats, way: str, generator: np.random.Generator, *, hideable: Bools | None = None, driver: int = -1
) -> Bools:
    """The hidden ones (n, f) among the observed cells of `values` (n, f), NaN where not observed.

    "random": each with probability .2. "value": with probability .42 u^1.1, where u is the cell's rank in its column
    between 0 and 1, so that 39 % of the top tenth go and 2 % of the bottom one (missing not at random). "column": the
    same, with the rank of the patient's cell in column `driver`, which is never hidden itself (missing at random,
    given that column); .2 where the patient lacks it. All three hide a fifth of a column on average. `hideable` (f,)
    spares columns.
    """
    observed = ~np.isnan(values)
    chance = np.full(values.shape, SHARE)
    if way == "value":
        for j in range(values.shape[1]):
            chance[observed[:, j], j] = _rising(values[observed[:, j], j])
    elif way == "column":
        seen = observed[:, driver]
        chance[seen] = _rising(values[seen, driver])[:, None]
        chance[:, driver] = 0
    elif way != "random":
        raise ValueError(f"no way to hide cells: {way!r}")
    hidden: Bools = (generator.random(values.shape) < chance) & observed
    return hidden if hideable is None else hidden & hideable


def choose_driver(values: Floats, kinds: Sequence[str]) -> int:
    """The column by which others are hidden: the most observed one that has an order and is not constant, the first
    of equals; -1 where there is none, or no other column."""
    best, most = -1, 0
    for j, kind in enumerate(kinds):
        seen = values[~np.isnan(values[:, j]), j]
        if kind != "categorical" and len(seen) > most and seen.min() < seen.max():
            best, most = j, len(seen)
    return best if len(kinds) > 1 else -1


def _rising(seen: Floats) -> Floats:
    chance: Floats = 2.1 * SHARE * ((rankdata(seen) - 0.5) / len(seen)) ** 1.1
    return chance
