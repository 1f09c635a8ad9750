"""The figures of each class against the rest."""

from __future__ import annotations

from mmcli.metrics import auc, average_precision, f1, precision, sensitivity, specificity
from mmcli.metrics.metric import Floats, Ints, in_blocks

PER_CLASS = {
    "auc": auc.by_class,
    "average_precision": average_precision.by_class,
    "sensitivity": sensitivity.by_class,
    "specificity": specificity.by_class,
    "precision": precision.by_class,
    "f1": f1.by_class,
}


def per_class(y: Ints, p: Floats, w: Floats) -> dict[str, Floats]:
    """Metric name -> values (B, K) of each class against all others, NaN where undefined.

    The names are those of the metrics of two classes, which these are with the class as the positive one; the
    decision is the likeliest of the K classes.
    """
    return dict(zip(PER_CLASS, in_blocks(list(PER_CLASS.values()), y, p, w), strict=True))
