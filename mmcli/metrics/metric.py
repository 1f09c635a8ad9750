"""What a metric is, and the few sums that most of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Function = Callable[[Ints, Floats, Floats], Floats]


@dataclass(frozen=True)
class Metric:
    """One figure of merit.

    `function(y, p, w)` takes the labels `y` (n,) as class indices, the probabilities `p` (n, K) and the weights `w`
    (B, n), one row a resample: how often each patient counts in it. It returns (B,) values, NaN where the metric is
    undefined in that resample. `about` says which question it answers.
    """

    name: str
    title: str
    about: Literal["ranking", "decisions", "calibration"]
    function: Function
    higher_is_better: bool = True
    two_classes_only: bool = False

    def __call__(self, y: Ints, p: Floats, w: Floats) -> Floats:
        """Values (B,) of the resamples `w` (B, n); NaN where undefined."""
        return self.function(y, p, w)

    def of(self, y: Ints, p: Floats) -> float:
        """The value where every patient counts once; NaN where undefined."""
        return float(self.function(y, p, np.ones((1, len(y))))[0]) if len(y) else float("nan")

    def applies(self, n_classes: int) -> bool:
        """Whether the metric is defined for this number of classes."""
        return n_classes == 2 or not self.two_classes_only


def decide(p: Floats) -> Ints:
    """The predicted class (n,) of the probabilities (n, K): the likeliest, the first of equals."""
    classes: Ints = np.argmax(p, axis=1).astype(np.int64)
    return classes


def confusion(y: Ints, p: Floats, w: Floats) -> Floats:
    """Weighted confusion matrices (B, K, K): [b, i, j] is the weight of class i's patients predicted as class j."""
    n, classes = p.shape
    cells = np.zeros((n, classes * classes))
    cells[np.arange(n), y * classes + decide(p)] = 1.0
    return (w @ cells).reshape(len(w), classes, classes)


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient, NaN where the denominator is zero."""
    quotient = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient


def mean_of_defined(values: Floats) -> Floats:
    """Mean (B,) over the classes of `values` (B, K) that are not NaN; NaN where none is."""
    defined = ~np.isnan(values)
    return divide(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64))


def weighted_mean(values: Floats, w: Floats) -> Floats:
    """Mean (B,) of `values` (n,) under the weights `w` (B, n); NaN where nobody was drawn."""
    return divide(w @ values, w.sum(axis=1))
