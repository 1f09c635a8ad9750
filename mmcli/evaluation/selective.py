"""What a run gains by leaving its least confident decisions to a doctor."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints, decide


def risk_coverage(y: Ints, p: Floats) -> tuple[Floats, Floats]:
    """Coverage (m,), ascending to 1, and risk (m,): the share of wrong decisions among the most confident patients.

    `y` (n,) are the labels, `p` (n, K) the probabilities; the decision is the likeliest class, and its probability is
    the confidence (El-Yaniv and Wiener, Journal of Machine Learning Research 11, 2010). There is a point for each of
    the m distinct confidences: patients who tie are accepted or declined together, as any threshold does. The area
    under the steps, where risk i holds from coverage i-1 to coverage i, is the AURC of `mmcli.metrics.aurc`.
    """
    confidence = p.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    accepted = np.append(np.flatnonzero(np.diff(confidence[order])) + 1, len(y))[: len(y)]
    wrong = np.cumsum((decide(p) != y)[order])[accepted - 1]
    return accepted / max(len(y), 1), wrong / accepted
