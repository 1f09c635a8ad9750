"""Area under the receiver operating characteristic.

The AUC of a class is the weighted share of pairs, one patient of the class and one of the rest, that the class's
probability puts in the right order, a tie counting one half (Mann and Whitney 1947; Hanley and McNeil 1982).
"""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints, Metric, divide, mean_by_weight
from mmcli.metrics.ranking import Bools, class_weights, order, ranked, ranked_all, ranked_class


def auc(y: Ints, p: Floats, w: Floats) -> Floats:
    """Two classes: the AUC (B,) of the last class's probability. More: the mean over the classes of one against the
    rest.

    Undefined in a resample that lacks one of the classes, as in scikit-learn, whose
    `roc_auc_score(y, p, sample_weight=w, multi_class="ovr", average="macro")` it equals.
    """
    if p.shape[1] == 2:
        return one_against_rest(y, p, w, 1)
    mean: Floats = by_class(y, p, w).mean(axis=1)
    return mean


def auc_ovo(y: Ints, p: Floats, w: Floats) -> Floats:
    """Mean (B,) over all pairs of classes (j, k) of the AUC of j's probability and of k's, among their patients alone.

    Hand and Till, Machine Learning 45 (2001) 171-186, equation 7: unlike one against the rest it does not depend on
    how frequent the classes are. Undefined in a resample that lacks a class. scikit-learn's
    `roc_auc_score(multi_class="ovo", average="macro")`.
    """
    classes = p.shape[1]
    weight = class_weights(y, p, w)
    pairs = []
    for k in range(classes):
        others = np.arange(classes) != k
        pairs.append(divide(ranked_class(y, p, w, k).in_order, weight[:, [k]] * weight[:, others]))
    mean: Floats = np.concatenate(pairs, axis=1).mean(axis=1)
    return mean


def auc_weighted(y: Ints, p: Floats, w: Floats) -> Floats:
    """Mean (B,) over the classes of one against the rest, each with its share of the patients as weight.

    A class without patients has no weight and leaves the mean. scikit-learn's
    `roc_auc_score(multi_class="ovr", average="weighted")` where all classes are there.
    """
    return mean_by_weight(by_class(y, p, w), class_weights(y, p, w))


def auc_micro(y: Ints, p: Floats, w: Floats) -> Floats:
    """AUC (B,) over all (patient, class) pairs together: true ones against the others.

    scikit-learn's `roc_auc_score(multi_class="ovr", average="micro")`. It rewards knowing which classes are frequent.
    """
    return ranked_all(y, p, w).auc((p.shape[1] - 1) * w.sum(axis=1))


def by_class(y: Ints, p: Floats, w: Floats) -> Floats:
    """AUC (B, K) of each class against the rest; NaN where the class or the rest has no patients."""
    return np.stack([one_against_rest(y, p, w, k) for k in range(p.shape[1])], axis=1)


def one_against_rest(y: Ints, p: Floats, w: Floats, k: int) -> Floats:
    """AUC (B,) of class `k` against the rest."""
    others = np.delete(class_weights(y, p, w), k, axis=1)
    return ranked_class(y, p, w, k).auc(others.sum(axis=1))


def pairs_in_order(positive: Bools, score: Floats, w: Floats) -> Floats:
    """AUC (B,) of any `score` (n,) for `positive` (n,) against the rest under the weights `w` (B, n)."""
    wanted, rest = np.flatnonzero(positive), np.flatnonzero(~positive)
    return ranked(order(score[wanted], wanted, [(score[rest], rest)]), w).auc(w[:, rest].sum(axis=1))


def auc_of_each(y: Ints, p: Floats) -> Floats:
    """AUC (P,) of P sets of patients at once, to the bit what `AUC.of` says of each: labels y (P, n), below 0 for whom
    it is not to count, and probabilities p (P, n, K). NaN where a class is missing."""
    known, classes = y >= 0, p.shape[2]
    areas = [_each_against_rest(y == k, known, p[:, :, k]) for k in ([1] if classes == 2 else range(classes))]
    mean: Floats = np.stack(areas, axis=1).mean(axis=1)
    return mean


def _each_against_rest(wanted: Bools, known: Bools, score: Floats) -> Floats:
    """AUC (P,) of one class, from the ranks (P, n) of its patients: twice a rank is a whole number, ties or not."""
    n = score.shape[1]
    score = np.where(known, score, np.inf)  # ranks behind everybody
    order = np.argsort(score, axis=1)
    ranked = np.take_along_axis(score, order, axis=1)
    starts = np.ones(score.shape, dtype=bool)
    starts[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    ends = np.ones(score.shape, dtype=bool)
    ends[:, :-1] = starts[:, 1:]
    first = np.maximum.accumulate(np.where(starts, np.arange(n), 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, np.arange(n), n)[:, ::-1], axis=1)[:, ::-1]
    found = np.take_along_axis(wanted, order, axis=1)
    m, others = wanted.sum(axis=1), (known & ~wanted).sum(axis=1)
    twice = np.where(found, first + last + 2, 0).sum(axis=1) - m * (m + 1)
    return divide(twice / 2, (m * others).astype(np.float64))


AUC = Metric("auc", "AUC", "ranking", auc)
AUC_OVO = Metric("auc_ovo", "One-vs-one AUC", "ranking", auc_ovo, more_than_two=True)
AUC_WEIGHTED = Metric("auc_weighted", "Weighted AUC", "ranking", auc_weighted, more_than_two=True)
AUC_MICRO = Metric("auc_micro", "Micro AUC", "ranking", auc_micro, more_than_two=True)
