"""How many classes the decisions are off, of ordered classes."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Ints, Metric, decide, weighted_mean


def ordinal_mae(y: Ints, p: Floats, w: Floats) -> Floats:
    """Weighted mean (B,) of |decided class - label|, in classes: two neighbours are 1 apart, whatever they mean."""
    return weighted_mean(np.abs(decide(p) - y).astype(np.float64), w)


ORDINAL_MAE = Metric(
    "ordinal_mae", "Classes off", "decisions", ordinal_mae, higher_is_better=False, ordinal_only=True,
    more_than_two=True,
)  # fmt: skip
