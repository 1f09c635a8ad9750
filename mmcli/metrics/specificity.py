"""Specificity: the share of the patients of other classes that are not taken for this one."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints, Metric, confusion, divide, mean_of_defined


def by_class(y: Ints, p: Floats, w: Floats) -> Floats:
    """Specificity (B, K), one class against the rest; NaN for a class that all patients of the resample have."""
    matrix = confusion(y, p, w)
    total = matrix.sum(axis=(1, 2))[:, None]
    others = total - matrix.sum(axis=2)
    wrongly = matrix.sum(axis=1) - np.einsum("bkk->bk", matrix)
    return divide(others - wrongly, others)


def specificity(y: Ints, p: Floats, w: Floats) -> Floats:
    """Specificity (B,) of two classes: the share of the first class's patients that are called so."""
    return by_class(y, p, w)[:, -1]


def specificity_macro(y: Ints, p: Floats, w: Floats) -> Floats:
    """Mean (B,) of the specificities of the classes for which there are patients of another class.

    Of two classes it equals balanced accuracy; of more it is high for almost any model, since most patients belong to
    the rest of most classes. Read it beside the macro sensitivity, never alone.
    """
    return mean_of_defined(by_class(y, p, w))


SPECIFICITY = Metric("specificity", "Specificity", "decisions", specificity, two_classes_only=True)
SPECIFICITY_MACRO = Metric("specificity_macro", "Macro specificity", "decisions", specificity_macro)
