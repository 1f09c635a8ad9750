"""Brier score: the squared distance of the probabilities from what happened."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints, Metric, weighted_mean


def brier(y: Ints, p: Floats, w: Floats) -> Floats:
    """Weighted mean (B,) of the squared error (Brier 1950).

    Two classes: of the last class's probability, 0 to 1. More: summed over the classes, 0 to 2. scikit-learn's
    `brier_score_loss` with its own scaling.
    """
    happened = np.eye(p.shape[1])[y]
    error = (p[:, 1] - happened[:, 1]) ** 2 if p.shape[1] == 2 else ((p - happened) ** 2).sum(axis=1)
    return weighted_mean(error, w)


BRIER = Metric("brier", "Brier score", "calibration", brier, higher_is_better=False)
