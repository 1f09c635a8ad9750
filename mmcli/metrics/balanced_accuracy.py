"""Balanced accuracy: every class counts the same, however rare."""

from __future__ import annotations

from mmcli.metrics.metric import Floats, Ints, Metric
from mmcli.metrics.sensitivity import sensitivity_macro


def balanced_accuracy(y: Ints, p: Floats, w: Floats) -> Floats:
    """Mean (B,) of the recalls of the classes that have patients in the resample.

    scikit-learn's `balanced_accuracy_score`, which leaves out a class without patients too.
    """
    return sensitivity_macro(y, p, w)


BALANCED_ACCURACY = Metric("balanced_accuracy", "Balanced accuracy", "decisions", balanced_accuracy)
