"""The receiver operating characteristic as a curve."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints


def roc_curve(positive: np.ndarray, score: Floats) -> tuple[Floats, Floats]:
    """False and true positive rates, from (0, 0) to (1, 1), a corner for each distinct score (n,)."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    true = np.cumsum(positive[order])[last]
    false = 1 + last - true
    return np.append(0.0, false / max(false[-1], 1)), np.append(0.0, true / max(true[-1], 1))


def macro_roc(y: Ints, p: Floats) -> tuple[Floats, Floats] | None:
    """The curve of the last of two classes; of more, the mean of the curves of each class against the rest.

    The mean is taken at every false positive rate at which a curve has a corner, so that the area under it is the
    macro AUC. None where a class has no patients.
    """
    classes = p.shape[1]
    if len(np.unique(y)) < classes:
        return None
    if classes == 2:
        return roc_curve(y == 1, p[:, 1])
    curves = [roc_curve(y == k, p[:, k]) for k in range(classes)]
    grid = np.unique(np.concatenate([false for false, _ in curves]))
    # Just before and at each rate: where a curve is steep, the mean of the steps is a step too.
    before = np.mean([_at(grid, *curve, side="left") for curve in curves], axis=0)
    after = np.mean([_at(grid, *curve, side="right") for curve in curves], axis=0)
    return np.append(0.0, np.repeat(grid, 2)), np.append(0.0, np.stack([before, after], axis=1).ravel())


def _at(grid: Floats, false: Floats, true: Floats, side: str) -> Floats:
    """Height of a curve at each rate of the grid: the lower ("left") or upper ("right") end where it is steep."""
    distinct, first = np.unique(false, return_index=True)
    last = np.append(first[1:], len(false)) - 1
    low, high = true[first], true[last]
    i = np.searchsorted(distinct, grid, side="right") - 1
    here = distinct[i] == grid
    j = np.minimum(i + 1, len(distinct) - 1)
    width = np.where(here, 1.0, distinct[j] - distinct[i])
    between = high[i] + (low[j] - high[i]) * (grid - distinct[i]) / width
    return np.where(here, low[i] if side == "left" else high[i], between)
