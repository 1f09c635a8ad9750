"""Log loss: the mean surprise at what happened, in nats."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints, Metric, weighted_mean


def log_loss(y: Ints, p: Floats, w: Floats) -> Floats:
    """Weighted mean (B,) of -log of the label's probability, clipped at 2.2e-16; scikit-learn's `log_loss`."""
    eps = np.finfo(np.float64).eps
    return weighted_mean(-np.log(np.clip(p[np.arange(len(y)), y], eps, 1 - eps)), w)


LOG_LOSS = Metric("log_loss", "Log loss", "calibration", log_loss, higher_is_better=False)
