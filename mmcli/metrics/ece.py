"""Expected calibration error of the decisions."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints, Metric, decide, divide, shared

BINS = 10


def ece(y: Ints, p: Floats, w: Floats) -> Floats:
    """Mean (B,) over ten equal bins of the likeliest class's probability of |share right - mean probability|.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3; bins (m/10, (m+1)/10] as there. It
    is biased upwards where patients are few, in a bootstrap resample once more: read its interval with that in mind.
    """
    return divide(np.abs(w @ _gaps(y, p)).sum(axis=1), w.sum(axis=1))


@shared
def _gaps(y: Ints, p: Floats) -> Floats:
    """Each patient's right (1) or wrong (0) minus the likeliest class's probability, in the column of its bin."""
    sure = p.max(axis=1)
    bins = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gap = (decide(p) == y) - sure
    gaps: Floats = np.eye(BINS)[bins] * gap[:, None]
    return gaps


ECE = Metric("ece", "Calibration error", "calibration", ece, higher_is_better=False)
