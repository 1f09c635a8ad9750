"""Area under the receiver operating characteristic."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints, Metric, divide


def auc(y: Ints, p: Floats, w: Floats) -> Floats:
    """Two classes: the AUC of the last class's probability. More: the mean over the classes of one against the rest.

    The AUC is the weighted share of pairs, one patient of the class and one of the rest, that the probability puts in
    the right order, a tie counting one half (Mann and Whitney 1947; Hanley and McNeil 1982). Undefined in a resample
    that lacks one of the classes, as in scikit-learn, whose
    `roc_auc_score(y, p, sample_weight=w, multi_class="ovr", average="macro")` it equals.
    """
    classes = p.shape[1]
    if classes == 2:
        return pairs_in_order(y == 1, p[:, 1], w)
    mean: Floats = np.mean([pairs_in_order(y == k, p[:, k], w) for k in range(classes)], axis=0)
    return mean


def pairs_in_order(positive: np.ndarray, score: Floats, w: Floats) -> Floats:
    """AUC (B,) of `score` (n,) for `positive` (n,) against the rest under the weights `w` (B, n)."""
    wanted, rest = np.flatnonzero(positive), np.flatnonzero(~positive)
    rest = rest[np.argsort(score[rest], kind="stable")]
    below = np.searchsorted(score[rest], score[wanted], side="left")
    up_to = np.searchsorted(score[rest], score[wanted], side="right")
    # cumulative[:, i] is the weight of the i lowest-scored patients of the rest.
    cumulative = np.zeros((len(w), len(rest) + 1))
    np.cumsum(w[:, rest], axis=1, out=cumulative[:, 1:])
    beaten = cumulative[:, below]
    if not np.array_equal(below, up_to):
        beaten = (beaten + cumulative[:, up_to]) / 2
    weights = w[:, wanted]
    return divide(np.einsum("bi,bi->b", weights, beaten), weights.sum(axis=1) * cumulative[:, -1])


AUC = Metric("auc", "AUC", "ranking", auc)
