"""Specificity: the share of the patients of other classes that are not taken for this one."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints, Metric, counts, decide, divide, mean_of_defined


def by_class(y: Ints, p: Floats, w: Floats) -> Floats:
    """Specificity (B, K), one class against the rest; NaN for a class that all patients of the resample have."""
    of = counts(y, p, w)
    # Not the total minus the class: of weights that are no counts, the difference may be 1e-16 where it should be 0.
    others = of.labelled @ (1 - np.eye(p.shape[1]))
    return divide(others - (of.predicted - of.right), others)


def specificity(y: Ints, p: Floats, w: Floats) -> Floats:
    """Specificity (B,) of two classes: the share of the first class's patients that are called so."""
    of = counts(y, p, w)
    return divide(of.right[:, 0], of.labelled[:, 0])


def specificity_macro(y: Ints, p: Floats, w: Floats) -> Floats:
    """Mean (B,) of the specificities of the classes for which there are patients of another class.

    It is high for almost any model, since most patients belong to the rest of most classes. Read it beside the macro
    sensitivity, never alone.
    """
    return mean_of_defined(by_class(y, p, w))


def left_alone(y: Ints, p: Floats) -> tuple[int, int]:
    """(negative patients who are called so, negative patients)."""
    return int((decide(p)[y == 0] == 0).sum()), int((y == 0).sum())


SPECIFICITY = Metric(
    "specificity", "Specificity", "decisions", specificity, two_classes_only=True, proportion=left_alone
)
SPECIFICITY_MACRO = Metric("specificity_macro", "Macro specificity", "decisions", specificity_macro, more_than_two=True)
