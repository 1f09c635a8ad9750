"""Hide observed cells, impute, and measure: what one method reaches on one table, split and way of hiding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance
from tables import RealTable

from mmcli.evaluation.imputation.hiding import hide as hide_cells

Floats = NDArray[np.float64]
WAYS = {"a": "at random", "b": "by own value"}


@dataclass(frozen=True)
class Hidden:
    """One split with cells hidden: training and test rows as the imputer sees them, and what was hidden in test."""

    train: Floats
    test: Floats
    truth: Floats
    hidden: NDArray[np.bool_]
    test_rows: NDArray[np.int64]
    train_label: NDArray[np.int64]
    test_label: NDArray[np.int64]


def hide(table: RealTable, way: str, seed: int) -> Hidden:
    """70/30 by label; a fifth of the observed cells of each column hidden in both parts.

    Way "a": at random. Way "b": with probability .42 u^1.1, u the cell's rank in its column between 0 and 1 (39 % of
    the top tenth, 2 % of the bottom one).
    """
    rng = np.random.default_rng(seed)
    train = np.zeros(len(table.label), bool)
    for label in np.unique(table.label):
        rows = np.flatnonzero(table.label == label)
        train[rng.permutation(rows)[: round(0.7 * len(rows))]] = True
    values = table.values
    hidden = hide_cells(values, "value" if way == "b" else "random", rng, hideable=table.hideable)
    holed = np.where(hidden, np.nan, values)
    rows = np.flatnonzero(~train)
    return Hidden(
        holed[train], holed[~train], values[~train], hidden[~train], rows, table.label[train], table.label[~train]
    )


def score(split: Hidden, kinds: list[str], filled: Floats) -> dict[str, float]:
    """RMSE, MAE and W1 (mean over numeric columns, in units of the training sd) and balanced accuracy (mean over
    coded columns of the mean recall of the categories) on hidden test cells; columns with fewer than five left out."""
    per: dict[str, list[float]] = {"rmse": [], "mae": [], "w1": [], "balanced": []}
    for j, kind in enumerate(kinds):
        cells = split.hidden[:, j]
        if cells.sum() < 5:
            continue
        truth, got = split.truth[cells, j], filled[cells, j]
        if kind == "numeric":
            sd = np.nanstd(split.train[:, j])
            if sd == 0:
                continue
            per["rmse"].append(float(np.sqrt(np.mean((got - truth) ** 2)) / sd))
            per["mae"].append(float(np.mean(np.abs(got - truth)) / sd))
            per["w1"].append(float(wasserstein_distance(got, truth) / sd))
        else:
            per["balanced"].append(float(np.mean([(got[truth == c] == c).mean() for c in np.unique(truth)])))
    return {name: float(np.mean(v)) if v else np.nan for name, v in per.items()}
