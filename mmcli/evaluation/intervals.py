"""Confidence intervals, and the p-values that belong to them, from the values that a metric takes over the resamples.

The kinds:

- percentile: the central share of the resampled values (Efron 1979).
- basic: the same, mirrored at the estimate (Davison and Hinkley 1997, 5.2.1). Nothing is clipped: the limits of a
  metric between 0 and 1 may lie outside.
- bca: percentile at other levels, which correct for bias and for a spread that changes with the value (Efron 1987).
  The bias correction counts ties one half; the acceleration is the skewness of the jackknife's values over six.
- expanded: BCa at levels further out, since a bootstrap of few patients is too narrow. As Hesterberg (2015, "What
  teachers should know about the bootstrap", The American Statistician 69) expands percentile intervals, the normal
  quantile makes way for that of a t distribution times sqrt((df + 1) / df). Its degrees of freedom are those with
  which the jackknife knows the figure's variance (Satterthwaite 1946): about n where all n patients carry the figure,
  about ten where ten patients of a rare class do.

Where bias correction or acceleration does not exist (all resamples on one side of the estimate; leaving out any
patient changes nothing, or makes the metric undefined), bca and expanded are the percentile interval, whose `kind`
says so. None of them knows what the sample does not show: of a class whose patients were all decided rightly, every
resample has all right. `proportions.wilson` and `wilson_mean` have limits for that.

Percentile, basic and BCa intervals equal those of `scipy.stats.bootstrap` at equal resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from mmcli.metrics.metric import Floats

KINDS = ("percentile", "basic", "bca", "expanded")
JACKKNIFED = ("bca", "expanded")
"""Kinds that need the jackknife's values."""
ROUNDING = 1e-12
"""Values that differ by less are the same, e.g. 0.3 - 0.2 and 0.2 - 0.1."""


@dataclass(frozen=True)
class Interval:
    """Limits, in how many resamples the metric was undefined, and the kind, which is what a kind fell back to.

    The limits are NaN where the estimate or all resamples are undefined.
    """

    low: float
    high: float
    undefined: int
    kind: str


@dataclass(frozen=True)
class _Levels:
    """The level of the resampled values at which a limit with the tail probability `tail` lies.

    In normal quantiles: z -> z0 + (z0 + z) / (1 - a (z0 + z)). Percentile intervals have z0 = a = 0. With `df`, z is
    the quantile of t times sqrt((df + 1) / df).
    """

    kind: str
    z0: float = 0.0
    acceleration: float = 0.0
    df: float = np.inf

    def of(self, tail: float) -> float:
        z = self.z0 + self._quantile(tail)
        if self.acceleration * z >= 1:  # past the pole; a level grows with its tail, so this is its end
            return 1.0 if self.acceleration > 0 else 0.0
        return float(ndtr(self.z0 + z / (1 - self.acceleration * z)))

    def tail(self, level: float) -> float:
        """The inverse of `of`."""
        w = float(ndtri(level)) - self.z0
        if np.isinf(w):
            return level
        if self.acceleration * w <= -1:
            return 0.0 if self.acceleration > 0 else 1.0
        z = w / (1 + self.acceleration * w) - self.z0
        return float(ndtr(z)) if np.isinf(self.df) else float(stdtr(self.df, z / np.sqrt((self.df + 1) / self.df)))

    def _quantile(self, tail: float) -> float:
        if np.isinf(self.df):
            return float(ndtri(tail))
        return float(stdtrit(self.df, tail) * np.sqrt((self.df + 1) / self.df))


def interval(kind: str, estimate: float, values: Floats, left_out: Floats | None, confidence: float) -> Interval:
    """Limits of the kind `kind` around `estimate` with the given `confidence`.

    values: (B,) the metric over the resamples, NaN where undefined: those are counted and left out.
    left_out: (J,) the metric over `resampling.jackknife`'s rows; the kinds in JACKKNIFED need it, others take None.
    """
    defined = _defined(estimate, values)
    undefined = len(values) - len(defined)
    levels = _levels(kind, estimate, defined, left_out)
    if np.isnan(estimate) or not len(defined):
        return Interval(float("nan"), float("nan"), undefined, levels.kind)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [levels.of(tail), levels.of(1 - tail)])
    if kind == "basic":
        low, high = 2 * estimate - high, 2 * estimate - low
    return Interval(float(low), float(high), undefined, levels.kind)


def p_value(kind: str, estimate: float, values: Floats, left_out: Floats | None) -> float:
    """Two-sided p of the hypothesis that the figure (a difference) is 0: the interval at 1 - p has its limit at 0.

    The interval with confidence 1 - a leaves 0 out exactly if p < a, for every a > 2 / (B + 1) of B defined
    resamples. Finer than that, B resamples do not see: p is never less than 2 / (B + 1), which is what (b + 1) / (B +
    1) in each tail (Davison and Hinkley 1997, 4.2.5) gives where no resample is on the other side of 0; an interval
    at such a level ends at the least or greatest of the resamples, and may leave 0 out all the same. NaN where the
    interval is.
    """
    defined = _defined(estimate, values)
    if np.isnan(estimate) or not len(defined):
        return float("nan")
    levels = _levels(kind, estimate, defined, left_out)
    first, last = _level_of(np.sort(defined), 2 * estimate if kind == "basic" else 0.0)
    p = 2 * min(levels.tail(last), 1 - levels.tail(first))
    return max(min(p, 1.0), min(2 / (len(defined) + 1), 1.0))


def _defined(estimate: float, values: Floats) -> Floats:
    """The values that are not NaN; those that are the estimate, twice it, or 0 up to rounding are so exactly."""
    defined: Floats = values[~np.isnan(values)]
    for exact in (0.0, 2 * estimate, estimate):
        defined = np.where(np.abs(defined - exact) <= ROUNDING * max(1.0, abs(estimate)), exact, defined)
    return defined


def _levels(kind: str, estimate: float, defined: Floats, left_out: Floats | None) -> _Levels:
    if kind not in KINDS:
        raise ValueError(f"no interval of the kind {kind!r}: {', '.join(KINDS)}")
    if kind not in JACKKNIFED:
        return _Levels(kind)
    if left_out is None:
        raise ValueError(f"an interval of the kind {kind} needs the jackknife's values")
    z0, (a, df) = _bias(estimate, defined), _acceleration(left_out)
    if not (np.isfinite(z0) and np.isfinite(a)):
        return _Levels("percentile")
    return _Levels(kind, z0, a, df if kind == "expanded" else np.inf)


def _bias(estimate: float, defined: Floats) -> float:
    """Normal quantile of the share of the values below the estimate; infinite where all are on one side."""
    if not len(defined):
        return float("nan")
    return float(ndtri(((defined < estimate).mean() + (defined <= estimate).mean()) / 2))


def _acceleration(left_out: Floats) -> tuple[float, float]:
    """Acceleration, and degrees of freedom of the variance; NaN if the jackknife is constant or somewhere undefined.

    With d the deviations of the jackknife's values from their mean, the acceleration is sum d^3 / (6 (sum d^2)^1.5)
    (Efron 1987, 6.6 and 7). The variance is sum d^2 up to a factor, its own variance sum d^4 - (sum d^2)^2 / J, and
    a variance V of chi-squared form has 2 V^2 / Var(V) degrees of freedom (Satterthwaite 1946); at most J - 1.
    """
    if not len(left_out) or np.isnan(left_out).any():
        return float("nan"), float("nan")
    d = left_out.mean() - left_out
    if np.abs(d).max() <= ROUNDING * max(1.0, float(np.abs(left_out).max())):
        return float("nan"), float("nan")
    d /= np.abs(d).max()
    variance = (d**2).sum()
    of_variance = (d**4).sum() - variance**2 / len(d)
    df = len(d) - 1.0
    if of_variance * df > 2 * variance**2:
        df = float(2 * variance**2 / of_variance)
    return float((d**3).sum() / (6 * variance**1.5)), df


def _level_of(ordered: Floats, x: float) -> tuple[float, float]:
    """First and last level at which the linear quantile function of `ordered` (B,) takes the value `x`.

    Below all values both are 0, above all both are 1.
    """
    last = len(ordered) - 1
    below, up_to = np.searchsorted(ordered, x, "left"), np.searchsorted(ordered, x, "right")
    if up_to == 0:
        return 0.0, 0.0
    if below > last:
        return 1.0, 1.0
    if below < up_to:
        return (float(below / last), float((up_to - 1) / last)) if last else (0.0, 1.0)
    step = (x - ordered[below - 1]) / (ordered[below] - ordered[below - 1])
    level = float((below - 1 + step) / last)
    return level, level
