"""Sensitivity: the share of a class's patients that are found."""

from __future__ import annotations

from mmcli.metrics.metric import Floats, Ints, Metric, counts, decide, divide, mean_of_defined


def by_class(y: Ints, p: Floats, w: Floats) -> Floats:
    """Sensitivity (B, K) of each class; NaN for one without patients in the resample."""
    of = counts(y, p, w)
    return divide(of.right, of.labelled)


def sensitivity(y: Ints, p: Floats, w: Floats) -> Floats:
    """Sensitivity (B,) of the last of two classes, the positive one; scikit-learn's `recall_score`."""
    return by_class(y, p, w)[:, -1]


def sensitivity_macro(y: Ints, p: Floats, w: Floats) -> Floats:
    """Mean (B,) of the sensitivities of the classes that have patients.

    scikit-learn's `recall_score(average="macro", zero_division=nan)`; the same number as balanced accuracy.
    """
    return mean_of_defined(by_class(y, p, w))


def found(y: Ints, p: Floats) -> tuple[int, int]:
    """(positive patients who are called so, positive patients)."""
    return int((decide(p)[y == 1] == 1).sum()), int((y == 1).sum())


SENSITIVITY = Metric("sensitivity", "Sensitivity", "decisions", sensitivity, two_classes_only=True, proportion=found)
SENSITIVITY_MACRO = Metric("sensitivity_macro", "Macro sensitivity", "decisions", sensitivity_macro, more_than_two=True)
