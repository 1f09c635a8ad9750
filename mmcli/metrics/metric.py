"""What a metric is, and the few sums that most of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Function = Callable[[Ints, Floats, Floats], Floats]
Result = TypeVar("Result")

# Weights are taken in blocks of rows that stay in a processor's cache: several times faster than all at once.
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Metric:
    """One figure of merit.

    `function(y, p, w)` takes the labels `y` (n,) as class indices, the probabilities `p` (n, K) and the weights `w`
    (B, n), one row a resample: how often each patient counts in it (any numbers >= 0). It returns (B,) values, NaN
    where the metric is undefined in that resample. Of two classes, the last is the positive one.

    `about` says which question it answers; "decisions" depends on `p` by the likeliest class alone. `ideal` is the
    best value of a metric that has its best neither at the top nor at the bottom. `proportion(y, p)` gives
    (successes, trials) of a metric that is a share of patients, for limits by formula.

    A metric exists for two classes only, for more than two only (one that for two says what another one says), or for
    ordered classes only.
    """

    name: str
    title: str
    about: Literal["ranking", "decisions", "calibration"]
    function: Function
    higher_is_better: bool = True
    ideal: float | None = None
    two_classes_only: bool = False
    more_than_two: bool = False
    ordinal_only: bool = False
    proportion: Callable[[Ints, Floats], tuple[int, int]] | None = None

    def __call__(self, y: Ints, p: Floats, w: Floats) -> Floats:
        """Values (B,) of the resamples `w` (B, n); NaN where undefined."""
        return self.function(y, p, w)

    def of(self, y: Ints, p: Floats) -> float:
        """The value where every patient counts once; NaN where undefined."""
        return float(self.function(y, p, np.ones((1, len(y))))[0]) if len(y) else float("nan")

    def applies(self, n_classes: int, ordinal: bool = False) -> bool:
        """Whether the metric is to be shown for this number of classes, ordered or not."""
        if self.ordinal_only and not ordinal:
            return False
        return not self.more_than_two if n_classes == 2 else not self.two_classes_only

    def badness(self, value: float) -> float:
        """How bad a value is, on a scale of this metric's own: the higher, the worse; NaN for NaN."""
        if self.ideal is not None:
            return abs(value - self.ideal)
        return -value if self.higher_is_better else value

    def better(self, a: float, b: float) -> bool:
        """Whether the value `a` is better than `b`; False where one of them is NaN."""
        return self.badness(a) < self.badness(b)


_known: ContextVar[dict[tuple[Any, ...], tuple[Any, tuple[Any, ...]]] | None] = ContextVar("known", default=None)


def shared(function: Callable[..., Result]) -> Callable[..., Result]:
    """What several metrics need, computed once for the same arrays within one `in_blocks`; elsewhere, every time.

    Arrays are told apart by identity, other arguments by value.
    """

    @wraps(function)
    def once(*arguments: Any) -> Result:
        known = _known.get()
        if known is None:
            return function(*arguments)
        key = (function, *(id(a) if isinstance(a, np.ndarray) else a for a in arguments))
        if key not in known:
            # The arguments are kept so that no later array can have their identity.
            known[key] = function(*arguments), arguments
        result: Result = known[key][0]
        return result

    return once


def values_of(metrics: Iterable[Metric], y: Ints, p: Floats, w: Floats, decisions: Floats | None = None) -> Floats:
    """Values (M, B) of the metrics in the resamples `w` (B, n), what they have in common computed once.

    `decisions` (n, K) is what metrics about decisions see, where that is not `p`. Beside `w` and the result it takes
    memory for a few dozen times `BLOCK_BYTES`, or a few dozen rows of `w` times the number of classes where that is
    more.
    """
    metrics = list(metrics)
    functions = [m.function for m in metrics]
    if decisions is None:
        return np.array(in_blocks(functions, y, p, w)).reshape(len(metrics), len(w))
    values = np.empty((len(metrics), len(w)))
    of_decisions = np.array([m.about == "decisions" for m in metrics], dtype=bool)
    for seen, chosen in ((p, np.flatnonzero(~of_decisions)), (decisions, np.flatnonzero(of_decisions))):
        if len(chosen):
            values[chosen] = in_blocks([functions[i] for i in chosen], y, seen, w)
    return values


def in_blocks(functions: Sequence[Function], y: Ints, p: Floats, w: Floats) -> list[Floats]:
    """Each function's values for `w` (B, n), taken in blocks of rows and with what is `shared` computed once."""
    rows = max(1, BLOCK_BYTES // (8 * max(len(y), 1)))
    found: list[list[Floats]] = [[] for _ in functions]
    known: dict[tuple[Any, ...], tuple[Any, tuple[Any, ...]]] = {}
    token = _known.set(known)
    try:
        for start in range(0, max(len(w), 1), rows):
            block = w[start : start + rows]
            for values, function in zip(found, functions, strict=True):
                values.append(function(y, p, block))
            for key in [key for key in known if id(block) in key]:
                del known[key]
    finally:
        _known.reset(token)
    return [np.concatenate(values) for values in found]


def decide(p: Floats) -> Ints:
    """The predicted class (n,) of the probabilities (n, K): the likeliest, the first of equals."""
    classes: Ints = np.argmax(p, axis=1).astype(np.int64)
    return classes


@shared
def confusion(y: Ints, p: Floats, w: Floats) -> Floats:
    """Weighted confusion matrices (B, K, K): [b, i, j] is the weight of class i's patients predicted as class j."""
    n, classes = p.shape
    cells = np.zeros((n, classes * classes))
    cells[np.arange(n), y * classes + decide(p)] = 1.0
    return (w @ cells).reshape(len(w), classes, classes)


@dataclass(frozen=True)
class Counts:
    """Of each class against the rest, (B, K): the weight of the patients who ..."""

    right: Floats  # have it and are predicted to
    labelled: Floats  # have it
    predicted: Floats  # are predicted to have it
    total: Floats  # (B, 1): are there


def counts(y: Ints, p: Floats, w: Floats) -> Counts:
    """The margins and the diagonal of the confusion matrices."""
    matrix = confusion(y, p, w)
    labelled = matrix.sum(axis=2)
    return Counts(np.einsum("bkk->bk", matrix), labelled, matrix.sum(axis=1), labelled.sum(axis=1, keepdims=True))


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient, NaN where the denominator is zero."""
    quotient = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient


def mean_of_defined(values: Floats) -> Floats:
    """Mean (B,) over the classes of `values` (B, K) that are not NaN; NaN where none is."""
    defined = ~np.isnan(values)
    return divide(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64))


def mean_by_weight(values: Floats, weights: Floats) -> Floats:
    """Mean (B,) over the classes of `values` (B, K) under `weights` (B, K).

    A class of no weight is left out, defined or not; NaN where one with weight is undefined or none has weight.
    """
    return divide(np.where(weights > 0, values * weights, 0.0).sum(axis=1), weights.sum(axis=1))


def weighted_mean(values: Floats, w: Floats) -> Floats:
    """Mean (B,) of `values` (n,) under the weights `w` (B, n); NaN where nobody was drawn."""
    return divide(w @ values, w.sum(axis=1))
