"""From a predictive normal on scores to table cells: means, medians, draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from mmcli.imputers.imputer import Answer
from mmcli.imputers.scores import NODES, WEIGHTS, Scored, Scores
from mmcli.imputers.selection import graded

Floats = NDArray[np.float64]


def points(scores: Scores, mean: Floats, sd: Floats, slopes: Floats, answer: Answer, trim: float) -> dict[int, Floats]:
    """Column -> (n,) cells, from the normal of `mean` and `sd` (n, d) on scores, reweighted by `slopes` (f,).

    Numeric columns: the mean of the distribution of the number itself without its outer `trim` on both sides, or its
    median. Ordinal columns: the median level. Categorical ones: the likeliest.
    """
    cells: dict[int, Floats] = {}
    for v in scores.variables:
        if v.categorical:
            cells[v.column] = v.levels[scores.shares(v, mean[:, v.span]).argmax(-1)].astype(np.float64)
        elif len(v.levels):
            cells[v.column] = scores.level_at(v, mean[:, v.span.start]).astype(np.float64)
        else:
            at, weights = _nodes(scores, v, mean[:, v.span.start], sd[:, v.span.start], slopes[v.column])
            upper = np.cumsum(weights, 1)
            if answer == "median":
                cells[v.column] = scores.quantile(v, _invert(upper - weights / 2, at, np.full((len(at), 1), 0.5))[:, 0])
            else:
                kept = np.minimum(upper, 1 - trim) - np.maximum(upper - weights, trim)
                kept = np.maximum(kept, 0)
                cells[v.column] = (scores.quantile(v, at) * kept).sum(1) / kept.sum(1)
    return cells


def draw(scores: Scores, mean: Floats, sd: Floats, slopes: Floats, covariance: Floats, noise: Floats) -> Floats:
    """(n, m, V) cells of the V scored columns: draws from the same distributions.

    The holes of a row are correlated as `covariance` (n, d, d) says; `noise` (n, m, d) uniform in (0, 1). The order of
    the columns is that of `scores.variables`.
    """
    noise = _correlated(covariance, noise)
    drawn = np.empty((*noise.shape[:2], len(scores.variables)))
    for i, v in enumerate(scores.variables):
        uniform = noise[:, :, v.span.start]
        if v.categorical:
            reached = np.cumsum(scores.shares(v, mean[:, v.span]), -1)[:, None] > uniform[..., None]
            chosen = np.where(reached.any(-1), reached.argmax(-1), len(v.levels) - 1)
            drawn[..., i] = v.levels[chosen]
            continue
        at, weights = _nodes(scores, v, mean[:, v.span.start], sd[:, v.span.start], slopes[v.column])
        score = _invert(np.cumsum(weights, 1) - weights / 2, at, uniform)
        drawn[..., i] = scores.level_at(v, score) if len(v.levels) else scores.quantile(v, score)
    return drawn


def _nodes(scores: Scores, v: Scored, mean: Floats, sd: Floats, slope: float) -> tuple[Floats, Floats]:
    """(n, Q) scores at which the predictive distribution is read, and (n, Q) their weights, sum 1."""
    at = mean[:, None] + sd[:, None] * NODES
    weights = np.broadcast_to(WEIGHTS, at.shape)
    if slope:
        weights = weights * np.exp(slope * graded(scores, v, at))
        weights = weights / weights.sum(1, keepdims=True)
    return at, weights


def _invert(level: Floats, at: Floats, uniform: Floats) -> Floats:
    """(n, m) scores whose cumulative weight is `uniform` (n, m), linear between `level` (n, Q) at `at` (n, Q)."""
    above = np.clip((level[:, None] < uniform[..., None]).sum(-1), 1, at.shape[1] - 1)
    rows = np.arange(len(at))[:, None]
    low, high = level[rows, above - 1], level[rows, above]
    share = np.clip((uniform - low) / np.maximum(high - low, 1e-300), 0, 1)
    inverted: Floats = at[rows, above - 1] + share * (at[rows, above] - at[rows, above - 1])
    return inverted


def _correlated(covariance: Floats, noise: Floats) -> Floats:
    """Uniform numbers (n, m, d) whose normal scores have the holes' correlation; independent elsewhere."""
    own = np.diagonal(covariance, axis1=1, axis2=2)
    holes = own > 1e-9
    sd = np.where(holes, np.sqrt(np.maximum(own, 1e-9)), 1)
    correlation = covariance / (sd[:, :, None] * sd[:, None, :])
    diagonal = np.arange(own.shape[1])
    correlation[:, diagonal, diagonal] = 1
    # Holes that are copies of each other leave a singular matrix: a thousandth of independence keeps it regular.
    correlation = 0.999 * correlation + 0.001 * np.eye(own.shape[1])
    factor = np.linalg.cholesky(correlation)
    normal = (ndtri(noise)[:, :, None, :] * factor[:, None]).sum(-1)
    uniform: Floats = np.clip(ndtr(normal), 1e-12, 1 - 1e-12)
    return uniform
