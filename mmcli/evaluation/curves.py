"""The curves that figures show, as numbers: ROC, precision-recall, calibration and decision curves, and their bands.

Rows of the arrays are patients: labels y (n,), probabilities p (n, K), resample weights w (B, n). Of two classes, a
curve is that of the last, the positive one; of more, the mean of the curves of each class against the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmcli.metrics.ece import BINS
from mmcli.metrics.metric import Floats, Ints, divide

# Division, not linspace: a rate of k/200 is met exactly by a count of k in 200.
GRID: Floats = np.arange(201) / 200
Positive = npt.NDArray[np.bool_]
CurveAt = Callable[[Positive, Floats, Floats, Floats], Floats]
Weights = npt.NDArray[Any] | Iterable[npt.NDArray[Any]]


def roc_curve(positive: np.ndarray, score: Floats) -> tuple[Floats, Floats]:
    """False and true positive rates, from (0, 0) to (1, 1), a corner for each distinct score (n,)."""
    order, last = _ranked(score)
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


def precision_recall_curve(positive: np.ndarray, score: Floats) -> tuple[Floats, Floats]:
    """Recall, ascending from 0, and precision: (0, 1), then a point for each distinct score (n,), highest first.

    The points are scikit-learn's in the opposite order. There must be a positive patient.
    """
    order, last = _ranked(score)
    true = np.cumsum(positive[order])[last]
    return np.append(0.0, true / true[-1]), np.append(1.0, true / (1 + last))


def macro_precision_recall(y: Ints, p: Floats) -> tuple[Floats, Floats] | None:
    """Corners (recall, precision) of the step curve whose area is the (macro) average precision.

    Precision i holds from recall i-1, which it excludes, to recall i: what one gets to reach a recall, never a line
    between two points, which no threshold reaches (Davis and Goadrich, ICML 2006). Of more than two classes, the mean
    of the classes' curves at each recall. None where a class has no patients.
    """
    classes = p.shape[1]
    if len(np.unique(y)) < classes:
        return None
    curves = [precision_recall_curve(y == k, p[:, k]) for k in ([1] if classes == 2 else range(classes))]
    grid = np.unique(np.concatenate([recall[recall > 0] for recall, _ in curves]))
    mean = np.mean([precision[np.searchsorted(recall, grid)] for recall, precision in curves], axis=0)
    return np.append(0.0, grid), np.append(mean[0], mean)


@dataclass(frozen=True)
class Band:
    """Pointwise limits `low`, `high` (G,) of a curve at `x` (G,): the central `confidence` of the resamples' curves.

    `undefined` of the `resamples` lacked a class; the limits are over the others.
    """

    x: Floats
    low: Floats
    high: Floats
    confidence: float
    resamples: int
    undefined: int


def roc_band(y: Ints, p: Floats, weights: Weights, confidence: float = 0.95, grid: Floats = GRID) -> Band | None:
    """Limits of the true positive rate at each false positive rate of `grid` (G,).

    `weights` is one array (B, n) or chunks (b, n) of one, of which one at a time is held; B x G numbers are kept.
    None where a class has no patients, or every resample lacks one.
    """
    return _band(roc_at, y, p, weights, confidence, grid)


def precision_recall_band(
    y: Ints, p: Floats, weights: Weights, confidence: float = 0.95, grid: Floats = GRID
) -> Band | None:
    """Limits of the precision at each recall of `grid` (G,); otherwise as `roc_band`."""
    return _band(precision_at, y, p, weights, confidence, grid)


def roc_at(positive: Positive, score: Floats, w: Floats, grid: Floats) -> Floats:
    """True positive rates (B, G) of the curves under the weights w (B, n); rows of NaN where a class is not drawn.

    Where a curve is steep the upper end counts: the most that is found at that false positive rate.
    """
    true, false = _cumulated(positive, score, w)
    heights = np.full((len(w), len(grid)), np.nan)
    for b in np.flatnonzero((true[:, -1] > 0) & (false[:, -1] > 0)):
        heights[b] = np.interp(grid, false[b] / false[b, -1], true[b] / true[b, -1])
    return heights


def precision_at(positive: Positive, score: Floats, w: Floats, grid: Floats) -> Floats:
    """Precision (B, G) at each recall under the weights w (B, n); rows of NaN where a class is not drawn.

    It is that of the highest threshold that reaches the recall; at recall 0, that finds anybody at all.
    """
    true, false = _cumulated(positive, score, w)
    heights = np.full((len(w), len(grid)), np.nan)
    above = np.maximum(grid, np.finfo(np.float64).tiny)
    for b in np.flatnonzero((true[:, -1] > 0) & (false[:, -1] > 0)):
        i = np.searchsorted(true[b] / true[b, -1], above)
        heights[b] = true[b, i] / (true[b, i] + false[b, i])
    return heights


@dataclass(frozen=True)
class Reliability:
    """Bins (m/10, (m+1)/10] of a probability, those of the calibration error.

    n, hits (10,): patients of each bin, and those of them of whom it was true; mean (10,): their mean probability, NaN
    in an empty bin.
    """

    n: Ints
    hits: Ints
    mean: Floats

    @property
    def share(self) -> Floats:
        """How often it was true (10,), NaN in an empty bin."""
        return divide(self.hits.astype(np.float64), self.n.astype(np.float64))


def reliability(true: np.ndarray, probability: Floats) -> Reliability:
    """Bins of what was said to be true with a `probability` (n,) and was or was not `true` (n,)."""
    bins = np.clip(np.ceil(probability * BINS).astype(np.int64) - 1, 0, BINS - 1)
    n = np.bincount(bins, minlength=BINS).astype(np.int64)
    hits = np.bincount(bins[np.asarray(true, dtype=bool)], minlength=BINS).astype(np.int64)
    sums = np.bincount(bins, probability, BINS).astype(np.float64)
    return Reliability(n, hits, divide(sums, n.astype(np.float64)))


def net_benefit(positive: np.ndarray, score: Floats, thresholds: Floats) -> Floats:
    """TP/n - FP/n * t/(1-t) at each threshold t in [0, 1) (T,), where score >= t is treated.

    Vickers and Elkin, Decision curve analysis, Medical Decision Making 26, 2006.
    """
    sick, well = np.sort(score[positive]), np.sort(score[~positive])
    true = len(sick) - np.searchsorted(sick, thresholds)
    false = len(well) - np.searchsorted(well, thresholds)
    benefit: Floats = (true - false * thresholds / (1 - thresholds)) / len(score)
    return benefit


def _ranked(score: Floats) -> tuple[Ints, Ints]:
    """Order (n,) of the scores, highest first, and the place in it of the last of each distinct score."""
    order = np.argsort(-score, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)


def _cumulated(positive: Positive, score: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Weights of the positive and of the other patients (B, 1 + m) at or above each of the m scores, after a 0."""
    order, last = _ranked(score)
    drawn = np.asarray(w, dtype=np.float64)[:, order]
    everybody, true = np.zeros((2, len(w), len(last) + 1))
    everybody[:, 1:] = np.cumsum(drawn, axis=1)[:, last]
    drawn *= positive[order]
    true[:, 1:] = np.cumsum(drawn, axis=1)[:, last]
    return true, everybody - true


def _band(at: CurveAt, y: Ints, p: Floats, weights: Weights, confidence: float, grid: Floats) -> Band | None:
    classes = p.shape[1]
    if len(np.unique(y)) < classes:
        return None
    which = [1] if classes == 2 else range(classes)
    chunks = [weights] if isinstance(weights, np.ndarray) else weights
    curves = np.concatenate([np.mean([at(y == k, p[:, k], w, grid) for k in which], axis=0) for w in chunks])
    defined = curves[~np.isnan(curves).any(axis=1)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return Band(grid, low, high, confidence, len(curves), len(curves) - len(defined))


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
