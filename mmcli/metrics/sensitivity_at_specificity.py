"""The sensitivity that a specificity of 90 or 95 % leaves."""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, Function, Ints, Metric, divide
from mmcli.metrics.ranking import class_weights, ranked_class


def sensitivity_at(specificity: float) -> Function:
    """The metric for one specificity."""

    def metric(y: Ints, p: Floats, w: Floats) -> Floats:
        """Highest sensitivity (B,) of the thresholds on the last class's probability with that specificity or more.

        A point of the ROC curve, without interpolation, of two classes; undefined where one of them has no patients.
        The threshold is chosen on the very patients that are evaluated, in each resample anew: the figure describes
        the ranking, and is higher than what a threshold that was fixed before will reach. `--threshold
        specificity=0.9` of `mmcli evaluate` fixes it on validation patients.
        """
        ranking = ranked_class(y, p, w, 1)
        negatives = class_weights(y, p, w)[:, :1]
        # A patient is found by a threshold at the own probability if that is low enough in false alarms. The last
        # bits of a sum of weights that are no counts must not decide.
        allowed = divide(negatives - ranking.false, negatives) >= specificity - 1e-12
        found = divide((ranking.wanted * allowed).sum(axis=1), ranking.wanted.sum(axis=1))
        return np.where(negatives[:, 0] > 0, found, np.nan)

    return metric


SENSITIVITY_AT_90_SPECIFICITY = Metric(
    "sensitivity_at_90_specificity", "Sensitivity at 90 % specificity", "ranking", sensitivity_at(0.90),
    two_classes_only=True,
)  # fmt: skip
SENSITIVITY_AT_95_SPECIFICITY = Metric(
    "sensitivity_at_95_specificity", "Sensitivity at 95 % specificity", "ranking", sensitivity_at(0.95),
    two_classes_only=True,
)  # fmt: skip
