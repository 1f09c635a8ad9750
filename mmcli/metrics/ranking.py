"""One pass over the patients in the order of a score, from which AUC, average precision and the like are read.

The score's order is the same in every resample: it is sorted once, and a resample is a running sum of its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmcli.metrics.metric import Floats, Ints, divide, shared

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Order:
    """Items to be found ("wanted", m of them, highest score first) among others.

    `who` (m,) is each one's patient, `ties_end` (m,) how many of the wanted score at least as high. `others` has for
    each group of the others: their patients (r,), highest first; and how many of them score higher (m,), and at least
    as high (m,), as each of the wanted.
    """

    who: Ints
    ties_end: Ints
    others: list[tuple[Ints, Ints, Ints]]


@dataclass(frozen=True)
class Ranked:
    """What an order says in each of B resamples.

    `in_order` (B, groups): weight of the pairs, one of the wanted and one of the group, that the score puts in the
    right order, a tie counting one half. `wanted` (B, m): their weights; `found` and `false` (B, m): weight of the
    wanted, and of all others, whose score is at least as high.
    """

    in_order: Floats
    wanted: Floats
    found: Floats
    false: Floats

    def auc(self, weight_of_others: Floats) -> Floats:
        """Share (B,) of all pairs that are in order; NaN where there is no pair."""
        return divide(self.in_order.sum(axis=1), self.wanted.sum(axis=1) * weight_of_others)

    def average_precision(self) -> Floats:
        """Mean (B,) over the wanted of the precision at their score; NaN where none has weight."""
        # Somebody of no weight whom nobody of weight outscores: any number will do.
        reached = self.found + self.false
        precision = np.divide(self.found, reached, out=np.zeros_like(reached), where=reached > 0)
        return divide(np.einsum("bi,bi->b", self.wanted, precision), self.wanted.sum(axis=1))


def order(score: Floats, who: Ints, others: Sequence[tuple[Floats, Ints]]) -> Order:
    """The order of the wanted (scores (m,), patients (m,)) among groups of others (scores (r,), patients (r,))."""
    by_score = np.argsort(-score, kind="stable")
    wanted = -score[by_score]
    groups = []
    for other, theirs in others:
        sort = np.argsort(-other, kind="stable")
        scores = -other[sort]
        groups.append((theirs[sort], np.searchsorted(scores, wanted, "left"), np.searchsorted(scores, wanted, "right")))
    return Order(who[by_score], np.searchsorted(wanted, wanted, "right"), groups)


def ranked(by: Order, w: Floats) -> Ranked:
    """The sums of an order in the resamples `w` (B, n)."""
    wanted = w[:, by.who]
    false = np.zeros_like(wanted)
    in_order = np.empty((len(w), len(by.others)))
    for g, (who, higher, at_least) in enumerate(by.others):
        # running[:, i] is the weight of the i highest of the group.
        running = _running(w[:, who])
        beyond = np.take(running, at_least, axis=1)
        false += beyond
        if not np.array_equal(higher, at_least):
            beyond = (beyond + np.take(running, higher, axis=1)) / 2
        in_order[:, g] = wanted.sum(axis=1) * running[:, -1] - np.einsum("bi,bi->b", wanted, beyond)
    return Ranked(in_order, wanted, np.take(_running(wanted), by.ties_end, axis=1), false)


def _running(weights: Floats) -> Floats:
    """Sums (B, m + 1) of the first 0, 1, ... m columns."""
    sums = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


@shared
def class_weights(y: Ints, p: Floats, w: Floats) -> Floats:
    """The weight (B, K) of each class's patients."""
    return w @ np.eye(p.shape[1])[y]


@shared
def order_of_class(y: Ints, p: Floats, k: int) -> Order:
    """The patients of class `k` among those of each other class, by the probability of class `k`."""
    members = [np.flatnonzero(y == j) for j in range(p.shape[1])]
    rest = [(p[who, k], who) for j, who in enumerate(members) if j != k]
    return order(p[members[k], k], members[k], rest)


@shared
def ranked_class(y: Ints, p: Floats, w: Floats, k: int) -> Ranked:
    """How the probability of class `k` ranks its patients; groups: the other classes in their order."""
    return ranked(order_of_class(y, p, k), w)


@shared
def order_of_all(y: Ints, p: Floats) -> Order:
    """Every patient's probability of the own class, among all probabilities of classes that are not the own."""
    n, classes = p.shape
    own = np.eye(classes, dtype=bool)[y]
    who = np.broadcast_to(np.arange(n)[:, None], p.shape)
    return order(p[own], who[own], [(p[~own], who[~own])])


@shared
def ranked_all(y: Ints, p: Floats, w: Floats) -> Ranked:
    """How the probabilities rank all (patient, class) together, the true ones against the others."""
    return ranked(order_of_all(y, p), w)
