"""A normal distribution with holes: expectation-maximisation, and any row's conditional distribution.

Little and Rubin, Statistical Analysis with Missing Data, 2nd ed. 2002, section 11.2, with a prior of `shrink` rows of
uncorrelated scores (the posterior mode under an inverse Wishart), which holds small tables.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BLOCK = 4_000_000  # numbers in the largest array of one step
TOLERANCE = 1e-2


def fit_correlation(scores: Floats, shrink: float, steps: int) -> Floats:
    """(d, d) correlation matrix of rows `scores` (n, d) of variance 1 with NaN; at most `steps` rounds, fewer when no
    entry moves by more than .01."""
    scores = scores[~np.isnan(scores).all(1)]
    n, d = scores.shape
    matrix: Floats = np.eye(d)
    for step in range(steps if n and d else 0):
        total, inverse = shrink * np.eye(d), precision(matrix)
        for rows, holes in _groups(scores):
            expected, block = _fill(inverse, scores[rows], holes)
            total += expected.T @ expected
            for one, where in zip(block, holes, strict=True):
                total[np.ix_(where, where)] += one
        new = total / (n + shrink)
        sd = np.sqrt(np.diag(new))
        new /= sd[:, None] * sd
        moved = np.abs(new - matrix).max()
        matrix = new
        if step and moved < TOLERANCE:
            break
    return matrix


def precision(matrix: Floats) -> Floats:
    """Inverse of a correlation matrix with a millionth of noise: two columns may be copies of each other."""
    inverse: Floats = np.linalg.inv(matrix + 1e-6 * np.eye(len(matrix))).astype(np.float64)
    return inverse


def conditional(inverse: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Rows (n, d) with their holes at the conditional mean, and the holes' conditional covariance (n, d, d), zero for
    observed cells; `inverse` is the precision. Row by row: a row's bits do not depend on the others."""
    n, d = scores.shape
    expected, covariance = np.empty((n, d)), np.zeros((n, d, d))
    for rows, holes in _groups(scores):
        expected[rows], block = _fill(inverse, scores[rows], holes)
        covariance[rows[:, None, None], holes[:, :, None], holes[:, None, :]] = block
    return expected, covariance


def predict_each(inverse: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """(n, d) mean and (n, d) variance of every cell given the row's other observed cells: an observed cell too is
    predicted without itself."""
    mean, variance = np.empty_like(scores), np.empty_like(scores)
    diagonal = np.diag(inverse)
    for rows, holes in _groups(scores):
        expected, block = _fill(inverse, scores[rows], holes)
        across = inverse[holes]  # (g, k, d)
        # Of the observed cells' own precision matrix: its diagonal, and its product with the cells.
        own = np.maximum(diagonal - (across * (block @ across)).sum(1), 1e-12)
        product = (inverse * expected[:, None, :]).sum(-1)
        mean[rows], variance[rows] = expected - product / own, 1 / own
        mean[rows[:, None], holes] = np.take_along_axis(expected, holes, 1)
        variance[rows[:, None], holes] = np.diagonal(block, axis1=1, axis2=2)
    return mean, variance


def _fill(inverse: Floats, scores: Floats, holes: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Rows (g, d) that lack the cells `holes` (g, k), at their conditional mean; covariance (g, k, k) of the holes.

    With the precision K, the holes m have covariance inverse(K_mm) and mean -inverse(K_mm) K_mo z_o.
    """
    known = np.where(np.isnan(scores), 0, scores)
    block: Floats = np.linalg.inv(inverse[holes[:, :, None], holes[:, None, :]]).astype(np.float64)
    pull = (inverse[holes] * known[:, None, :]).sum(-1)
    np.put_along_axis(known, holes, -(block * pull[:, None, :]).sum(-1), 1)
    return known, block


def _groups(scores: Floats) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows (g,) with equally many holes, and their holes (g, k), in groups of bounded size."""
    missing = np.isnan(scores)
    count = missing.sum(1)
    for k in np.unique(count):
        rows = np.flatnonzero(count == k)
        step = max(1, BLOCK // max(1, scores.shape[1] * int(k)))
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            yield some, np.nonzero(missing[some])[1].reshape(len(some), k)
