"""F1: the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), and its averages over classes."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.accuracy import accuracy
from mmcli.metrics.metric import Floats, Ints, Metric, counts, divide, mean_by_weight, mean_of_defined
from mmcli.metrics.precision import precision_macro
from mmcli.metrics.sensitivity import sensitivity_macro


def by_class(y: Ints, p: Floats, w: Floats) -> Floats:
    """F1 (B, K) of each class; NaN for one that is neither anybody's label nor predicted for anybody."""
    of = counts(y, p, w)
    return divide(2 * of.right, of.labelled + of.predicted)


def f1(y: Ints, p: Floats, w: Floats) -> Floats:
    """F1 (B,) of the last of two classes; scikit-learn's `f1_score(zero_division=nan)`."""
    return by_class(y, p, w)[:, -1]


def f1_macro(y: Ints, p: Floats, w: Floats) -> Floats:
    """Mean (B,) over the classes of their F1.

    A class that is neither anybody's label nor predicted for anybody in the resample has no F1 and leaves the mean;
    one that is only predicted, or never predicted, has 0. That is what scikit-learn's `f1_score(average="macro")`
    gives on the drawn rows.
    """
    return mean_of_defined(by_class(y, p, w))


def f1_weighted(y: Ints, p: Floats, w: Floats) -> Floats:
    """Mean (B,) of the classes' F1, each with its share of the patients; scikit-learn's "weighted"."""
    return mean_by_weight(by_class(y, p, w), counts(y, p, w).labelled)


def f1_of_macro(y: Ints, p: Floats, w: Floats) -> Floats:
    """Harmonic mean (B,) of the macro precision and the macro sensitivity, 0 where both are 0.

    MHD-Net's table II defines F1 so, and its results are that; its text speaks of the mean of the classes' F1. The two
    differ, and where every class has patients this one is never the smaller (Opitz and Burst, Macro F1 and Macro F1,
    arXiv 1911.03347).
    """
    precision, recall = precision_macro(y, p, w), sensitivity_macro(y, p, w)
    both = precision + recall
    return np.where(both == 0, 0.0, divide(2 * precision * recall, both))


F1 = Metric("f1", "F1", "decisions", f1, two_classes_only=True)
F1_MACRO = Metric("f1_macro", "Macro F1", "decisions", f1_macro)
# Pooled over the classes, each wrong decision is one FP and one FN: for one label a patient, micro F1 is accuracy.
F1_MICRO = Metric("f1_micro", "Micro F1", "decisions", accuracy, more_than_two=True)
F1_WEIGHTED = Metric("f1_weighted", "Weighted F1", "decisions", f1_weighted)
F1_OF_MACRO = Metric("f1_of_macro", "F1 of macro averages", "decisions", f1_of_macro)
