"""Confidence intervals from the values that a metric takes over the resamples.

An interval's kind is a function of this module. One that needs more than the resamples (the jackknife of BCa) gets it
from the same metrics: leaving patient i out is the row of weights that is 0 at i and 1 elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmcli.metrics.metric import Floats


@dataclass(frozen=True)
class Interval:
    """Limits, and in how many resamples the metric was undefined; the limits are NaN where it always was."""

    low: float
    high: float
    undefined: int


def percentile(values: Floats, confidence: float) -> Interval:
    """The central `confidence` share of the defined values among `values` (B,) (Efron 1979)."""
    defined = values[~np.isnan(values)]
    undefined = len(values) - len(defined)
    if not len(defined):
        return Interval(float("nan"), float("nan"), undefined)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high), undefined)
