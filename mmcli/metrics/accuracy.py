"""Accuracy: the share of patients whose likeliest class is theirs."""

from __future__ import annotations

from mmcli.metrics.metric import Floats, Ints, Metric, decide, weighted_mean


def accuracy(y: Ints, p: Floats, w: Floats) -> Floats:
    """Weighted share (B,) of right decisions; scikit-learn's `accuracy_score`."""
    return weighted_mean((decide(p) == y).astype(float), w)


ACCURACY = Metric("accuracy", "Accuracy", "decisions", accuracy)
