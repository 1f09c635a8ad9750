"""Tests of paired differences over the folds of a cross-validation.

One difference a fold: where a fold has several seeds, the caller averages over them first, for seeds are not new
patients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit
from scipy.stats import rankdata

from mmcli.metrics.metric import Floats

# Differences of two metrics that are equal but for rounding count as equal.
DECIMALS = 12


@dataclass(frozen=True)
class CorrectedT:
    """Mean difference, t with `df` degrees of freedom, two-sided p, and the mean's limits."""

    mean: float
    t: float
    df: int
    p: float
    low: float
    high: float


@dataclass(frozen=True)
class Wilcoxon:
    """The smaller of the sums of ranks of positive and of negative differences, and its exact two-sided p."""

    statistic: float
    p: float


def corrected_t(differences: Floats, test_share: float, confidence: float = 0.95) -> CorrectedT:
    """Paired t test of the differences (J,) of J folds with Nadeau and Bengio's variance.

    The training sets of two folds overlap, so that their differences are correlated and the usual s^2 / J is too
    small; the variance of the mean is taken as s^2 (1 / J + test_share), with `test_share` = the patients tested in a
    fold over those trained on, 1 / (J - 1) in a J-fold cross-validation (Nadeau and Bengio, Machine Learning 52,
    2003; Bouckaert and Frank, PAKDD 2004). It is a correction for an assumed correlation, not an exact test.

    With fewer than two folds, or the same difference in all, there are no limits; p is then 1 where the differences
    are zero, and otherwise undefined.
    """
    d = np.round(np.asarray(differences, dtype=np.float64), DECIMALS)
    folds = len(d)
    mean = float(np.mean(differences)) if folds else math.nan
    if folds < 2 or np.isnan(d).any() or not np.ptp(d) > 0:
        t, p = (0.0, 1.0) if folds > 1 and not d.any() else (math.nan, math.nan)
        return CorrectedT(mean, t, folds - 1, p, math.nan, math.nan)
    se = math.sqrt(float(np.var(differences, ddof=1)) * (1 / folds + test_share))
    reach = float(stdtrit(folds - 1, (1 + confidence) / 2)) * se
    p = 2 * float(stdtr(folds - 1, -abs(mean / se)))
    return CorrectedT(mean, mean / se, folds - 1, p, mean - reach, mean + reach)


def wilcoxon(differences: Floats) -> Wilcoxon:
    """Wilcoxon's signed rank test of the differences (J,) of J folds, exact with ties too.

    Zeros are dropped and ties have their mean rank (Wilcoxon, Biometrics Bulletin 1, 1945); p is over all 2^J signs of
    the ranks that there are. Without a difference that is not zero p is 1. Five folds cannot give less than 1/16.

    The test takes the folds for independent, which they are not, as their training sets overlap: its p is too small.
    It is here because papers report it; `corrected_t` allows for the overlap.
    """
    d = np.round(np.asarray(differences, dtype=np.float64), DECIMALS)
    if np.isnan(d).any():
        return Wilcoxon(math.nan, math.nan)
    d = d[d != 0]
    if not len(d):
        return Wilcoxon(0.0, 1.0)
    # Twice the ranks are whole numbers, also of ties. ways[s] is the share of the signs that give the sum s.
    ranks = np.rint(2 * rankdata(np.abs(d))).astype(np.int64)
    total = int(ranks.sum())
    ways = np.zeros(total + 1)
    ways[0] = 1.0
    for rank in ranks:
        ways[rank:] = (ways[rank:] + ways[: total + 1 - rank]) / 2
        ways[:rank] /= 2
    positive = int(ranks[d > 0].sum())
    smaller = min(positive, total - positive)
    return Wilcoxon(smaller / 2, min(1.0, 2 * float(ways[: smaller + 1].sum())))
