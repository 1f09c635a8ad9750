"""Areas under correlated ROC curves, with their covariance: DeLong's formula, for any number of runs and classes.

**One class against the rest.** X are the m scores of the class, Y the n scores of the rest. The AUC is the mean of
psi(X_i, Y_j), which is 1, 1/2 or 0 as X_i is above, at or below Y_j. Each patient of the class has a placement V10_i =
mean over j of psi(X_i, Y_j), each of the rest V01_j = mean over i; both have the AUC as their mean. DeLong, DeLong and
Clarke-Pearson (Biometrics 44, 1988) estimate the covariance of the AUCs r and s of two runs by

    S10[r, s] / m + S01[r, s] / n,    S10, S01: covariances of the placements over patients, divided by m - 1 and n - 1.

Placements come from midranks, O(n log n) (Sun and Xu, IEEE Signal Processing Letters 21, 2014).

**More than two classes.** Write (V10_i - AUC) / m of a patient in the class, and (V01_j - AUC) / n of one in the rest,
for the patient's influence on that AUC: how far the AUC moves per unit of the patient's weight. DeLong's covariance is
the sum over patients of the products of influences, with factors m / (m - 1) and n / (n - 1). A patient's influence
on the macro mean is the mean of the influences on the classes' AUCs, and the variance of the macro mean is the sum of
its squares; each influence first carries the root of its factor. As the class sizes of a random sample of patients
are random too, nothing is centred within the classes of the rest. With two classes both AUCs and both influences of a
patient are the same, so that DeLong's formula is met exactly.

**Clusters.** Where a patient or site has several rows, a unit's influence is the sum of its rows' (Obuchowski,
Biometrics 53, 1997): with I10 of the I units having rows of the class, I01 of the rest, and a_u, b_u the sums over the
unit's rows of the class and of the rest, the covariance is

    I10 / (I10 - 1) sum a_u a'_u + I01 / (I01 - 1) sum b_u b'_u + I / (I - 1) sum (a_u b'_u + b_u a'_u).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtr, ndtri
from scipy.stats import rankdata

from mmcli.metrics.metric import Floats, Ints

Limits = tuple[float, float]
# A difference of two equal runs is rounding noise of this share of their variances.
ROUNDING = 16 * np.finfo(np.float64).eps


@dataclass(frozen=True)
class Difference:
    """The AUC of one run minus that of another: z = value / se, two-sided p, limits value -+ z(confidence) se."""

    value: float
    se: float
    z: float
    p: float
    low: float
    high: float


@dataclass(frozen=True)
class Delong:
    """AUCs of R runs on the same patients, of K classes.

    `auc` (R,): of two classes that of the last, of more the macro mean over the classes, each against the rest;
    `covariance` (R, R) theirs. `per_class_auc` (R, K), `per_class_covariance` (K, R, R). An AUC is NaN where a class
    has no patient, a covariance also where it has only one (unit), or the rest has.
    """

    auc: Floats
    covariance: Floats
    per_class_auc: Floats
    per_class_covariance: Floats

    def interval(self, confidence: float = 0.95, i: int = 0, logit: bool = True) -> Limits:
        """Limits of the AUC of run `i`, see `limits`."""
        return limits(float(self.auc[i]), float(self.covariance[i, i]), confidence, logit)

    def class_interval(self, k: int, confidence: float = 0.95, i: int = 0, logit: bool = True) -> Limits:
        """Limits of the AUC of class `k` against the rest, of run `i`, see `limits`."""
        return limits(float(self.per_class_auc[i, k]), float(self.per_class_covariance[k, i, i]), confidence, logit)

    def difference(self, i: int, j: int, confidence: float = 0.95) -> Difference:
        """Run `i` minus run `j`.

        Where the estimated variance of the difference is zero (runs that put the patients in the same order, two AUCs
        of 1), there are no limits; p is 1 if the AUCs are equal and otherwise undefined.
        """
        value = float(self.auc[i] - self.auc[j])
        own = float(self.covariance[i, i] + self.covariance[j, j])
        variance = own - 2 * float(self.covariance[i, j])
        if math.isnan(variance):
            return Difference(value, *[math.nan] * 5)
        if variance <= ROUNDING * own:
            z, p = (0.0, 1.0) if abs(value) <= ROUNDING else (math.nan, math.nan)
            return Difference(value, 0.0, z, p, math.nan, math.nan)
        se = math.sqrt(variance)
        reach = float(ndtri((1 + confidence) / 2)) * se
        return Difference(value, se, value / se, 2 * float(ndtr(-abs(value / se))), value - reach, value + reach)


def limits(auc: float, variance: float, confidence: float, logit: bool = True) -> Limits:
    """Normal limits of an AUC from its variance.

    With `logit` they are symmetric in logit(AUC), whose standard error is se / (AUC (1 - AUC)): they stay within 0 and
    1 and hold their level better near 1 (Pepe 2003, section 5.2). Without, they are AUC -+ z se, cut off at 0 and 1.
    NaN where the variance is undefined or estimated as zero (an AUC of 0 or 1, the same score for all): the formula
    then says nothing about how sure the AUC is.
    """
    if not variance > 0 or not 0 < auc < 1:
        return math.nan, math.nan
    reach = float(ndtri((1 + confidence) / 2)) * math.sqrt(variance)
    if not logit:
        return max(auc - reach, 0.0), min(auc + reach, 1.0)
    centre, reach = math.log(auc / (1 - auc)), reach / (auc * (1 - auc))
    return float(expit(centre - reach)), float(expit(centre + reach))


def delong(y: Ints, p: Sequence[Floats], clusters: npt.NDArray[Any] | None = None) -> Delong:
    """AUCs of the runs with the probabilities `p`, each (n, K), for the labels `y` (n,) of the same rows.

    `clusters` (n,), anything that compares equal within a patient or site: units of sampling that have several rows.
    Without it each row is a unit.
    """
    scores = np.stack(p)
    classes = scores.shape[2]
    unit = None if clusters is None else np.unique(clusters, return_inverse=True)[1].reshape(-1)
    # 1 - p would round two scores into a tie; -p does not.
    each = [scores[:, :, k] for k in range(classes)] if classes > 2 else [-scores[:, :, 1], scores[:, :, 1]]
    areas, covariances, influences = zip(*(_one_against_rest(y == k, s, unit) for k, s in enumerate(each)), strict=True)
    per_class, per_class_covariance = np.stack(areas, axis=1), np.stack(covariances)
    if classes == 2:
        return Delong(per_class[:, 1], per_class_covariance[1], per_class, per_class_covariance)
    influence = np.mean(influences, axis=0)
    return Delong(per_class.mean(axis=1), influence @ influence.T, per_class, per_class_covariance)


def _one_against_rest(
    positive: npt.NDArray[np.bool_], score: Floats, unit: Ints | None
) -> tuple[Floats, Floats, Floats]:
    """AUCs (R,) of the scores (R, n), their covariance (R, R), and the units' influences with factors (R, U)."""
    runs, n = score.shape
    units = n if unit is None else int(unit.max(initial=-1)) + 1
    m = int(positive.sum())
    if m in (0, n):
        nothing = np.full((runs, units), np.nan)
        return np.full(runs, np.nan), np.full((runs, runs), np.nan), nothing
    ranks = rankdata(score, axis=1)
    own = (ranks[:, positive] - rankdata(score[:, positive], axis=1)) / (n - m)
    rest = 1 - (ranks[:, ~positive] - rankdata(score[:, ~positive], axis=1)) / m
    auc = own.mean(axis=1)
    inside, outside = np.zeros((runs, n)), np.zeros((runs, n))
    inside[:, positive] = (own - auc[:, None]) / m
    outside[:, ~positive] = (rest - auc[:, None]) / (n - m)
    with_own, with_rest = m, n - m
    if unit is not None:
        inside, outside = _sums(inside, unit, units), _sums(outside, unit, units)
        with_own, with_rest = len(np.unique(unit[positive])), len(np.unique(unit[~positive]))
    f, g = _factor(with_own), _factor(with_rest)
    covariance = f * inside @ inside.T + g * outside @ outside.T
    if unit is not None:
        both = inside @ outside.T
        covariance += _factor(units) * (both + both.T)
    return auc, covariance, math.sqrt(f) * inside + math.sqrt(g) * outside


def _factor(units: int) -> float:
    return units / (units - 1) if units > 1 else math.nan


def _sums(rows: Floats, unit: Ints, units: int) -> Floats:
    """Sums (R, U) of the columns (R, n) over each unit's rows."""
    return np.stack([np.bincount(unit, row, units) for row in rows])
