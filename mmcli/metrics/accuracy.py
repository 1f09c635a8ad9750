"""Accuracy: the share of patients whose likeliest class is theirs."""

from __future__ import annotations

from mmcli.metrics.metric import Floats, Ints, Metric, counts, decide, divide


def accuracy(y: Ints, p: Floats, w: Floats) -> Floats:
    """Weighted share (B,) of right decisions; scikit-learn's `accuracy_score`."""
    of = counts(y, p, w)
    return divide(of.right.sum(axis=1), of.total[:, 0])


def accuracy_ovr(y: Ints, p: Floats, w: Floats) -> Floats:
    """Mean (B,) over the classes of the accuracy of one against the rest: 1 - 2 (1 - accuracy) / K.

    What the tables of MDFN, and of many papers with one confusion matrix a class, call accuracy: a wrong decision is
    wrong for two classes and right for the others. Of five classes, saying the same class for everybody in a balanced
    cohort has 0.68 of it, and an accuracy of 0.2: never set one beside the other.
    """
    mean: Floats = 1 - 2 * (1 - accuracy(y, p, w)) / p.shape[1]
    return mean


def right_decisions(y: Ints, p: Floats) -> tuple[int, int]:
    """(right decisions, patients)."""
    return int((decide(p) == y).sum()), len(y)


ACCURACY = Metric("accuracy", "Accuracy", "decisions", accuracy, proportion=right_decisions)
ACCURACY_OVR = Metric("accuracy_ovr", "One-vs-rest accuracy", "decisions", accuracy_ovr, more_than_two=True)
