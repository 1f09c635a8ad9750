"""F1: the harmonic mean of precision and recall, macro and micro."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.accuracy import accuracy
from mmcli.metrics.metric import Floats, Ints, Metric, confusion, divide, mean_of_defined


def f1_macro(y: Ints, p: Floats, w: Floats) -> Floats:
    """Mean (B,) over the classes of 2 TP / (2 TP + FP + FN).

    A class that is neither anybody's label nor predicted for anybody in the resample has no F1 and leaves the mean;
    one that is only predicted, or never predicted, has 0. That is what scikit-learn's `f1_score(average="macro")`
    gives on the drawn rows.
    """
    matrix = confusion(y, p, w)
    right = np.einsum("bkk->bk", matrix)
    return mean_of_defined(divide(2 * right, matrix.sum(axis=1) + matrix.sum(axis=2)))


F1_MACRO = Metric("f1_macro", "Macro F1", "decisions", f1_macro)
# Pooled over the classes, each wrong decision is one FP and one FN: for one label a patient, micro F1 is accuracy.
F1_MICRO = Metric("f1_micro", "Micro F1", "decisions", accuracy)
