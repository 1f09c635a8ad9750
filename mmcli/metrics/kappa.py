"""Cohen's kappa: agreement of decisions and labels beyond what their frequencies alone would give."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints, Metric, confusion, divide


def kappa(y: Ints, p: Floats, w: Floats) -> Floats:
    """1 - (share that disagrees) / (share expected to) (B,); scikit-learn's `cohen_kappa_score`.

    Undefined where labels and decisions are all one and the same class.
    """
    return _kappa(1 - np.eye(p.shape[1]), confusion(y, p, w))


def kappa_quadratic(y: Ints, p: Floats, w: Floats) -> Floats:
    """Kappa (B,) of ordered classes, a disagreement by d classes counting d squared (Cohen 1968).

    1 - sum(D O) / sum(D E), called QWK; scikit-learn's `cohen_kappa_score(weights="quadratic")`. MHD-Net's
    table II prints sum(E O) for the second sum.
    """
    at = np.arange(p.shape[1])
    return _kappa(((at[:, None] - at) ** 2).astype(np.float64), confusion(y, p, w))


def _kappa(cost: Floats, matrix: Floats) -> Floats:
    labelled, decided = matrix.sum(axis=2), matrix.sum(axis=1)
    expected = np.einsum("bi,ij,bj->b", labelled, cost, decided)
    return 1 - divide((matrix * cost).sum(axis=(1, 2)) * labelled.sum(axis=1), expected)


KAPPA = Metric("kappa", "Cohen's kappa", "decisions", kappa)
KAPPA_QUADRATIC = Metric(
    "kappa_quadratic", "Quadratic kappa", "decisions", kappa_quadratic, ordinal_only=True, more_than_two=True
)
