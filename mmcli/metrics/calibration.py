"""Calibration intercept and slope: whether probabilities are too high, and whether they are too extreme.

Cox, Two further applications of a model for binary regression, Biometrika 45 (1958) 562-565; Van Calster et al., A
calibration hierarchy for risk models was defined, J Clin Epidemiol 74 (2016) 167-176, and Calibration: the Achilles
heel of predictive analytics, BMC Medicine 17 (2019) 230.

Both regress what happened on logit(p). The **slope** is the coefficient of logit(p), with an intercept fitted along
with it and not reported: 1 is right, less is too extreme (overfitted), more is too timid. The **intercept** is
calibration in the large: the slope is fixed at 1 (logit(p) is an offset), 0 is right, above 0 means that more happened
than was said.

Probabilities are clipped at 1e-8 and 1 - 1e-8, where the logit is +-18.4, as in the R package of the second source's
authors (CalibrationCurves, `allowPerfectPredictions`): a network that says exactly 0 or 1 has a figure, but that
figure hangs on the clip.

Two classes: of the last one's probability. More: the mean over the classes of one against the rest, which is not the
multinomial recalibration of Van Hoorde et al. (2014). Since probabilities sum to 1, what one class has too much others
lack: in the mean of the intercepts that cancels, so read the classes' own as well.
"""

from __future__ import annotations

import numpy as np

from mmcli.metrics import logistic
from mmcli.metrics.metric import Floats, Ints, Metric
from mmcli.metrics.ranking import Bools

CLIP = 1e-8
FEW = 8  # resamples for which a search costs less than sorting the patients


def slope(happened: Floats, p: Floats, w: Floats) -> Floats:
    """Calibration slope (B,) of the probabilities `p` (n,) of what `happened` (n,), 0 or 1.

    NaN where the likelihood has no maximum: only one outcome, equal probabilities, or all with the outcome above all
    without it (or below, ties at the border included), when the slope would be infinite (Albert and Anderson 1984).
    """
    x = logit(p)
    result = np.full(len(w), np.nan)
    defined = overlapping(happened == 1, x, w)
    if defined.any():
        result[defined] = logistic.slope(x, happened, w[defined])
    return result


def intercept(happened: Floats, p: Floats, w: Floats) -> Floats:
    """Calibration intercept (B,), slope 1, of the probabilities `p` (n,); NaN where only one outcome happened."""
    result = np.full(len(w), np.nan)
    defined = (w @ happened > 0) & (w @ (1 - happened) > 0)
    if defined.any():
        result[defined] = logistic.intercept(logit(p), happened, w[defined])
    return result


def logit(p: Floats) -> Floats:
    """log(p / (1 - p)) of the clipped probabilities."""
    p = np.clip(p, CLIP, 1 - CLIP)
    odds: Floats = np.log(p) - np.log1p(-p)
    return odds


def overlapping(positive: Bools, x: Floats, w: Floats) -> Bools:
    """Whether (B,) some positive lies strictly below some negative and some strictly above, among those of weight."""
    (low, high), (low_rest, high_rest) = (_extent(x, np.flatnonzero(who), w) for who in (positive, ~positive))
    # The extent of nobody is NaN, and compares as False.
    overlap: Bools = (low < high_rest) & (low_rest < high)
    return overlap


def _extent(x: Floats, who: Ints, w: Floats) -> tuple[Floats, Floats]:
    """Lowest and highest `x` (B,) of the patients `who` with weight; NaN without any."""
    if not len(who):
        return np.full(len(w), np.nan), np.full(len(w), np.nan)
    if len(w) <= FEW:
        seen = w[:, who] > 0
        low, high = np.where(seen, x[who], np.inf).min(axis=1), np.where(seen, x[who], -np.inf).max(axis=1)
        return np.where(seen.any(axis=1), low, np.nan), np.where(seen.any(axis=1), high, np.nan)
    who = who[np.argsort(x[who], kind="stable")]
    there = w[:, who] > 0
    some, values = there.any(axis=1), x[who]
    low, high = values[there.argmax(axis=1)], values[len(who) - 1 - there[:, ::-1].argmax(axis=1)]
    return np.where(some, low, np.nan), np.where(some, high, np.nan)


def calibration_slope(y: Ints, p: Floats, w: Floats) -> Floats:
    """Slope (B,) of the last of two classes; of more, the mean over the classes, each against the rest."""
    classes = [1] if p.shape[1] == 2 else range(p.shape[1])
    mean: Floats = np.mean([slope((y == k).astype(np.float64), p[:, k], w) for k in classes], axis=0)
    return mean


def calibration_intercept(y: Ints, p: Floats, w: Floats) -> Floats:
    """Intercept (B,) of the last of two classes. Of more, the signed intercepts of one against the rest would nearly
    cancel, as probabilities sum to 1."""
    return intercept((y == 1).astype(np.float64), p[:, 1], w)


CALIBRATION_SLOPE = Metric("calibration_slope", "Calibration slope", "calibration", calibration_slope, ideal=1.0)
CALIBRATION_INTERCEPT = Metric(
    "calibration_intercept", "Calibration intercept", "calibration", calibration_intercept, ideal=0.0,
    two_classes_only=True,
)  # fmt: skip
