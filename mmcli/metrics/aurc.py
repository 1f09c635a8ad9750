"""Area under the risk-coverage curve: whether the model knows whom it gets wrong."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints, Metric, decide, divide, shared
from mmcli.metrics.ranking import Bools


def aurc(y: Ints, p: Floats, w: Floats) -> Floats:
    """Mean (B,) over the patients of the error rate among those of whom the model is at least as sure.

    Sure means the probability of the likeliest class; patients who tie are accepted or declined together, as any
    threshold does. Without ties it is the mean of the risk at coverages 1/n, 2/n, ... 1 (Geifman, Uziel and El-Yaniv,
    Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers, ICLR 2019). Lower is better; a model that is as
    sure of its errors as of the rest has its error rate. The decision is the likeliest class, whatever threshold
    other metrics are given.
    """
    order, upto, mistaken = _by_sureness(y, p)
    weights = w[:, order]
    accepted = np.cumsum(weights, axis=1)
    wrong = np.cumsum(weights * mistaken, axis=1)
    risk = np.divide(wrong, accepted, out=wrong, where=accepted > 0)
    return divide(np.einsum("bi,bi->b", weights, np.take(risk, upto, axis=1)), w.sum(axis=1))


@shared
def _by_sureness(y: Ints, p: Floats) -> tuple[Ints, Ints, Bools]:
    """The patients (n,), surest first; the last place (n,) that ties with each; whether each is mistaken (n,)."""
    sure = p.max(axis=1)
    order = np.argsort(-sure, kind="stable")
    upto = np.searchsorted(-sure[order], -sure[order], "right") - 1
    return order, upto, (decide(p) != y)[order]


AURC = Metric("aurc", "AURC", "ranking", aurc, higher_is_better=False)
