"""One estimate from those of several imputations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from mmcli.metrics.metric import Floats


@dataclass(frozen=True)
class Pooled:
    """The pooled estimate, its standard error, t = estimate / se with `df` degrees of freedom (inf: normal), the
    two-sided p of 0, and limits.

    Pooled on the logit scale, `t` and `p` are of logit(estimate) = 0, an AUC of 0.5, and `se` is the logit's times
    estimate (1 - estimate).
    """

    estimate: float
    se: float
    df: float
    t: float
    p: float
    low: float
    high: float


def rubin(
    estimates: Floats,
    variances: Floats,
    confidence: float = 0.95,
    logit: bool = False,
    df_complete: float = math.inf,
) -> Pooled:
    """Rubin's rules for the `estimates` (m,) of m imputations with their `variances` (m,).

    The estimate is the mean; its variance is the mean variance plus (1 + 1/m) times the variance of the estimates
    (Rubin, Multiple imputation for nonresponse in surveys, 1987). Degrees of freedom are Barnard and Rubin's
    (Biometrika 86, 1999), where `df_complete` are those without missing values. A single imputation is taken as it is.

    `logit`: estimates such as AUCs are pooled as logits, which are nearer to normal, and transformed back.

    Everything but the estimate is NaN where an estimate or variance is, or has no logit. Where the variance is zero,
    there are no limits; p is 1 if the estimate is 0 and otherwise undefined.
    """
    q, u = np.asarray(estimates, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    if logit:
        if not ((q > 0) & (q < 1)).all():
            return _undefined(float(q.mean()))
        q, u = special.logit(q), u / (q * (1 - q)) ** 2
    m, estimate = len(q), float(q.mean())
    between = float(q.var(ddof=1)) * (1 + 1 / m) if m > 1 else 0.0
    total = float(u.mean()) + between
    if math.isnan(total):
        return _undefined(float(special.expit(estimate)) if logit else estimate)
    if total <= 0:
        return _undefined(float(special.expit(estimate)) if logit else estimate, nothing=estimate == 0)
    df = _degrees(between / total, m, df_complete)
    se = math.sqrt(total)
    reach = float(special.stdtrit(df, (1 + confidence) / 2)) * se
    t = estimate / se
    p = 2 * float(special.stdtr(df, -abs(t)))
    if not logit:
        return Pooled(estimate, se, df, t, p, estimate - reach, estimate + reach)
    back, low, high = (float(x) for x in special.expit([estimate, estimate - reach, estimate + reach]))
    return Pooled(back, se * back * (1 - back), df, t, p, low, high)


def _degrees(share: float, m: int, complete: float) -> float:
    """Degrees of freedom where `share` of the variance is due to the m imputations."""
    rate = share**2 / (m - 1) if share else 0.0
    if math.isfinite(complete):
        observed = (complete + 1) / (complete + 3) * complete * (1 - share)
        rate += 1 / observed if observed else math.inf
    return 1 / rate if rate else math.inf


def _undefined(estimate: float, nothing: bool = False) -> Pooled:
    t, p = (0.0, 1.0) if nothing else (math.nan, math.nan)
    return Pooled(estimate, 0.0 if nothing else math.nan, math.nan, t, p, math.nan, math.nan)
