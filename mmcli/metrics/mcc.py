"""Matthews' correlation coefficient of labels and decisions."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints, Metric, counts, divide


def mcc(y: Ints, p: Floats, w: Floats) -> Floats:
    """Correlation (B,) of labels and decisions as one-hot vectors (Matthews 1975; Gorodkin 2004 for K classes).

    The same class for everybody tells nothing and has 0. Where all patients have the same label, nothing can be told:
    undefined. scikit-learn's `matthews_corrcoef` has 0 for both.
    """
    of = counts(y, p, w)
    together = of.right.sum(axis=1) * of.total[:, 0] - (of.labelled * of.predicted).sum(axis=1)
    of_labels, of_decisions = _pairs_apart(of.labelled), _pairs_apart(of.predicted)
    correlation = divide(together, np.sqrt(of_labels) * np.sqrt(of_decisions))
    return np.where((of_labels > 0) & (of_decisions == 0), 0.0, correlation)


def _pairs_apart(margin: Floats) -> Floats:
    """Weight (B,) of the pairs of different classes: total squared minus the sum of squares, and 0 when that is."""
    pairs: Floats = np.einsum("bi,ij,bj->b", margin, 1 - np.eye(margin.shape[1]), margin)
    return pairs


MCC = Metric("mcc", "MCC", "decisions", mcc)
