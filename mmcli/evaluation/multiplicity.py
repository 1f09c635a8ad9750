"""p values of a family of tests, adjusted for how many they are. NaN stays NaN and does not count as a test."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints


def holm(p: Floats) -> Floats:
    """Adjusted p (n,) that bound the chance of any false finding (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    order, ascending = _ascending(p)
    n = len(order)
    return _back(p, order, np.maximum.accumulate(ascending * np.arange(n, 0, -1)))


def benjamini_hochberg(p: Floats) -> Floats:
    """Adjusted p (n,) that bound the expected share of false ones among the findings.

    For independent or positively dependent tests (Benjamini and Hochberg, Journal of the Royal Statistical Society B
    57, 1995).
    """
    order, ascending = _ascending(p)
    n = len(order)
    return _back(p, order, np.minimum.accumulate((ascending * n / np.arange(1, n + 1))[::-1])[::-1])


def _ascending(p: Floats) -> tuple[Ints, Floats]:
    """Where the defined values are in `p`, lowest first, and the values."""
    order = np.argsort(p, kind="stable")[: int((~np.isnan(p)).sum())]
    return order, p[order]


def _back(p: Floats, order: Ints, adjusted: Floats) -> Floats:
    values = np.full(len(p), np.nan)
    values[order] = np.minimum(adjusted, 1.0)
    return values
