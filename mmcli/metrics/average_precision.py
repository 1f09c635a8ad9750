"""Average precision: the precision at the score of each patient of the class, on average.

It is the area under the precision-recall curve as steps, without interpolation (Davis and Goadrich 2006 say why). A
score that knows nothing reaches the share of the class, so values of cohorts with other shares do not compare.
"""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints, Metric, mean_by_weight
from mmcli.metrics.ranking import class_weights, ranked_all, ranked_class


def average_precision(y: Ints, p: Floats, w: Floats) -> Floats:
    """Two classes: average precision (B,) of the last class. More: the mean over the classes of one against the rest.

    Undefined in a resample that lacks a class (of two: the positive one). Else scikit-learn's
    `average_precision_score`, macro over the columns for more than two classes.
    """
    if p.shape[1] == 2:
        return ranked_class(y, p, w, 1).average_precision()
    mean: Floats = by_class(y, p, w).mean(axis=1)
    return mean


def average_precision_weighted(y: Ints, p: Floats, w: Floats) -> Floats:
    """Mean (B,) over the classes, each with its share of the patients as weight; scikit-learn's "weighted"."""
    return mean_by_weight(by_class(y, p, w), class_weights(y, p, w))


def average_precision_micro(y: Ints, p: Floats, w: Floats) -> Floats:
    """Average precision (B,) over all (patient, class) pairs together; scikit-learn's "micro"."""
    return ranked_all(y, p, w).average_precision()


def by_class(y: Ints, p: Floats, w: Floats) -> Floats:
    """Average precision (B, K) of each class against the rest; NaN for one without patients."""
    return np.stack([ranked_class(y, p, w, k).average_precision() for k in range(p.shape[1])], axis=1)


AVERAGE_PRECISION = Metric("average_precision", "Average precision", "ranking", average_precision)
AVERAGE_PRECISION_WEIGHTED = Metric(
    "average_precision_weighted", "Weighted average precision", "ranking", average_precision_weighted,
    more_than_two=True,
)  # fmt: skip
AVERAGE_PRECISION_MICRO = Metric(
    "average_precision_micro", "Micro average precision", "ranking", average_precision_micro, more_than_two=True
)
