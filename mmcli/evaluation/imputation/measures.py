"""How imputed cells differ from the true ones, under any number of resampling weights of the patients at once.

Every function takes weights `w` (B, n), how often each patient counts in a resample, and gives (B,) or (f, B) values,
NaN where undefined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmcli.evaluation.imputation.experiment import Answers, Hidden, Plan, labelled
from mmcli.metrics.auc import auc
from mmcli.metrics.metric import Floats, Ints, divide, mean_of_defined
from mmcli.store.parts import TEST

LEAST_CELLS = 5
NOMINAL = 0.9  # of the interval that draws make
LEAST_DRAWS = 19  # the fewest whose smallest and largest have 90 % between them


def share_of(hit: Floats, patient: Ints, w: Floats) -> Floats:
    """Weighted mean (B,) of `hit` (c,) over the cells of the patients `patient` (c,)."""
    n = w.shape[1]
    sums = np.bincount(patient, hit, minlength=n)
    counts = np.bincount(patient, minlength=n).astype(np.float64)
    return divide(w @ sums, w @ counts)


def balanced(truth: Floats, got: Floats, patient: Ints, w: Floats) -> Floats:
    """Balanced accuracy (B,): the mean recall of the categories that occur in `truth`."""
    recalls = [
        share_of((got[own] == c).astype(np.float64), patient[own], w)
        for c in np.unique(truth)
        if (own := truth == c).any()
    ]
    return mean_of_defined(np.stack(recalls, 1))


def distances(truth: Floats, got: Floats, patient: Ints, w: Floats) -> tuple[Floats, Floats]:
    """Wasserstein-1 and Kolmogorov-Smirnov distance (B,) of the distributions of `truth` and `got` (c,).

    With F and G their weighted distribution functions: the integral, and the largest, of |F - G|.
    """
    both = np.concatenate([truth, got])
    order = np.argsort(both, kind="stable")
    places = both[order]
    signed = np.concatenate([np.ones(len(truth)), -np.ones(len(got))])[order]
    weights = w[:, np.concatenate([patient, patient])[order]] * signed
    gap = np.abs(np.cumsum(weights, 1))
    total = w[:, patient].sum(1)
    ends = np.append(np.flatnonzero(np.diff(places)), len(places) - 1)
    return divide(gap[:, :-1] @ np.diff(places), total), divide(gap[:, ends].max(1), total)


def covered(truth: Floats, draws: Floats) -> Floats | None:
    """Whether (c,) the central 90 % interval of the draws (m, c) holds the truth, as 0 or 1; None of fewer than 19.

    Its limits are the draws' quantiles at level q in the form i = q (m + 1) (Weibull 1939), between whose .05 and .95
    an exchangeable value lies with probability .9 exactly: of 19 draws the smallest and the largest.
    """
    if len(draws) < LEAST_DRAWS:
        return None
    low, high = np.quantile(draws, [(1 - NOMINAL) / 2, (1 + NOMINAL) / 2], axis=0, method="weibull")
    # Interpolation between two equal draws may round to beside them.
    slack = 1e-12 * np.maximum(np.abs(low), np.abs(high))
    inside: Floats = ((truth >= low - slack) & (truth <= high + slack)).astype(np.float64)
    return inside


@dataclass(frozen=True)
class Correlations:
    """Pearson correlations of pairs of columns over test rows, from sums that are linear in the weights.

    `left`, `right` (P,) name the pairs.
    """

    left: Ints
    right: Ints
    patient: Ints
    seen: Floats

    @classmethod
    def of(cls, values: Floats, patient: Ints, columns: Sequence[int]) -> Correlations:
        """Of all pairs of `columns`, over rows `values` (r, f) of the patients `patient` (r,); NaN where not
        observed."""
        left, right = (np.array(columns, np.int64)[i] for i in np.triu_indices(len(columns), 1))
        seen = ~np.isnan(values)
        return cls(left, right, patient, (seen[:, left] & seen[:, right]).astype(np.float64))

    def __call__(self, values: Floats, w: Floats) -> Floats:
        """Correlations (P, B) of values (r, f) that are known at least where those of `of` are."""
        known = np.maximum((~np.isnan(values)).sum(0), 1)
        z = values - np.nansum(values, 0) / known
        spread = np.sqrt(np.nansum(z * z, 0) / known)
        z = np.nan_to_num(z / np.where(spread > 0, spread, 1))
        x, y = z[:, self.left] * self.seen, z[:, self.right] * self.seen
        n, sx, sy, sxx, syy, sxy = (self._sums(a, w) for a in (self.seen, x, y, x * x, y * y, x * y))
        inside = divide(sxy, n) - divide(sx, n) * divide(sy, n)
        vx, vy = divide(sxx, n) - divide(sx, n) ** 2, divide(syy, n) - divide(sy, n) ** 2
        # A constant column has no correlation; what is imputed as one has lost all of it.
        scale = np.sqrt(np.maximum(vx, 0) * np.maximum(vy, 0))
        found: Floats = np.where(np.isnan(scale), np.nan, np.where(scale > 1e-12, divide(inside, scale), 0.0)).T
        return found

    def _sums(self, cells: Floats, w: Floats) -> Floats:
        by_patient = np.zeros((w.shape[1], cells.shape[1]))
        np.add.at(by_patient, self.patient, cells)
        sums: Floats = w @ by_patient
        return sums


def correlation_change(pairs: Correlations, true: Floats, imputed: Floats, w: Floats, f: int) -> tuple[Floats, Floats]:
    """Mean absolute difference of correlations: (f, B) of a column with all others, and (B,) over all pairs."""
    change = np.abs(pairs(imputed, w) - pairs(true, w))
    own = np.full((f, len(w)), np.nan)
    for j in np.unique(np.concatenate([pairs.left, pairs.right])):
        own[j] = mean_of_defined(change[(pairs.left == j) | (pairs.right == j)].T)
    return own, mean_of_defined(change.T)


def fold_auc(plan: Plan, task: str, probabilities: Sequence[Floats | None], w: Floats) -> Floats:
    """The mean (B,) over the folds of the AUC on the fold's test patients; a fold that lacks a class is left out."""
    label = plan.labels[task]
    found = []
    for k, p in enumerate(probabilities):
        rows = plan.rows(k, TEST)[labelled(plan, label, k)[1]]
        if p is not None and len(rows):
            found.append(auc(label.values[rows], p, w[:, rows]))
    return mean_of_defined(np.stack(found, 1)) if found else np.full(len(w), np.nan)


def scored_columns(plan: Plan, hidden: Hidden) -> Ints:
    """The columns with at least five hidden test cells whose training sd is known (numeric: and not zero)."""
    kinds = plan.columns.kinds
    return np.array(
        [
            j
            for j in range(len(kinds))
            if (hidden.column == j).sum() >= LEAST_CELLS
            and (kinds[j] != "numeric" or (np.nan_to_num(hidden.sd[hidden.column == j]) > 0).all())
        ],
        np.int64,
    )


def answer_of(own: Answers, answer: str) -> Floats:
    """The cells (c,) of an answer; of draws the first."""
    if answer == "draw":
        first: Floats = own.draws[0]
        return first
    return own.mean if answer == "mean" else own.median
