"""Precision: the share of those called a class who have it; of two classes, the positive and negative predictive value.

Unlike sensitivity and specificity it depends on how frequent the classes are among the patients.
"""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints, Metric, counts, decide, divide, mean_of_defined


def by_class(y: Ints, p: Floats, w: Floats) -> Floats:
    """Precision (B, K) of each class; NaN for one that nobody is called."""
    of = counts(y, p, w)
    return divide(of.right, of.predicted)


def precision(y: Ints, p: Floats, w: Floats) -> Floats:
    """Precision (B,) of the last of two classes; scikit-learn's `precision_score(zero_division=nan)`."""
    return by_class(y, p, w)[:, -1]


def npv(y: Ints, p: Floats, w: Floats) -> Floats:
    """Share (B,) of those called the first of two classes who have it; NaN where nobody is called so."""
    return by_class(y, p, w)[:, 0]


def precision_macro(y: Ints, p: Floats, w: Floats) -> Floats:
    """Mean (B,) of the precisions of the classes that somebody has or is called.

    A class that has patients and is never called counts as 0, or a model would gain by never naming it: scikit-learn's
    `precision_score(average="macro", zero_division=0)`.
    """
    of = counts(y, p, w)
    missed = (of.predicted == 0) & (of.labelled > 0)
    return mean_of_defined(np.where(missed, 0.0, by_class(y, p, w)))


def called_rightly(y: Ints, p: Floats) -> tuple[int, int]:
    """(positive patients among those called positive, those called positive)."""
    called = decide(p) == 1
    return int((y[called] == 1).sum()), int(called.sum())


def cleared_rightly(y: Ints, p: Floats) -> tuple[int, int]:
    """(negative patients among those called negative, those called negative)."""
    called = decide(p) == 0
    return int((y[called] == 0).sum()), int(called.sum())


PRECISION = Metric("precision", "Precision", "decisions", precision, two_classes_only=True, proportion=called_rightly)
NPV = Metric("npv", "Negative predictive value", "decisions", npv, two_classes_only=True, proportion=cleared_rightly)
PRECISION_MACRO = Metric("precision_macro", "Macro precision", "decisions", precision_macro)
