"""Clinical columns that predict a label alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from mmcli.evaluation.audit.report import FINDING, Report, count
from mmcli.evaluation.audit.subject import Subject
from mmcli.store import Label, Table

LEAST_AUC = 0.99
LEAST = 5  # patients with the cell observed, of the class and of the rest
CHANCE = 0.01  # probability that any column of the stores gets as far by chance
FOLDS = 5


def check(subject: Subject) -> Report:
    """The AUC of every column by itself, one class against the rest, over the patients who have the cell observed.

    Numeric and ordinal columns rank in the better of the two directions. Categorical ones rank by the share of the
    class among the other four fifths of the patients who have the category, so that many categories gain nothing. An
    AUC of .99 or more is a finding unless so many columns were tried, on so few patients, that chance gives it
    (Mann and Whitney's normal approximation, times the number of tries)."""
    report = Report()
    tables, labels = subject.stores.tables, subject.labels()
    number = sum(len(table.columns) for table in tables.values())
    for task, label in labels.items():
        tries = number * (1 if len(label.classes) == 2 else len(label.classes))
        for name, table in tables.items():
            for j, column in enumerate(table.columns):
                found = _best(table, j, label, tries, subject.seed)
                if found is None:
                    continue
                auc, k, n = found
                what = f"{label.classes[k]!r} of {task}" if len(label.classes) > 2 else task
                report.add(
                    FINDING, "columns", f"table {name}, column {column}",
                    f"it predicts {what} alone: AUC {auc:.3f} in the {count(n, 'patient')} who have it",
                    "find out when it is known; what is known only with the label goes out of the cohort's table",
                )  # fmt: skip
    report.checked.append(f"columns: {count(number, 'column')} alone against {count(len(labels), 'label')}")
    return report


def _best(table: Table, j: int, label: Label, tries: int, seed: int) -> tuple[float, int, int] | None:
    """The class that the column predicts best, as (AUC, class, patients); None where nothing is to be said."""
    rows = table.observed[:, j] & (label.values >= 0)
    x, y = table.values[rows, j], label.values[rows]
    if len(y) < 2 * LEAST or x.min() == x.max():
        return None
    best: tuple[float, int, int] | None = None
    for k in [1] if len(label.classes) == 2 else range(len(label.classes)):
        positive = y == k
        if not LEAST <= positive.sum() <= len(y) - LEAST:
            continue
        coded = table.kinds[j] == "categorical"
        auc, z = ranked(encoded_shares(x, positive, seed) if coded else x, positive)
        auc, z = (auc, z) if coded else (max(auc, 1 - auc), abs(z))
        if auc >= LEAST_AUC and 2 * norm.sf(z) * tries < CHANCE and (best is None or auc > best[0]):
            best = auc, k, len(y)
    return best


def ranked(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[float, float]:
    """AUC of `score` (n,) for `positive` (n,), ties one half, and its z against .5 with the variance for ties."""
    n, up = len(score), int(positive.sum())
    ranks = rankdata(score)
    auc = (ranks[positive].sum() - up * (up + 1) / 2) / (up * (n - up))
    _, ties = np.unique(score, return_counts=True)
    variance = (n + 1 - (ties**3 - ties).sum() / (n * (n - 1))) / (12 * up * (n - up))
    return float(auc), float((auc - 0.5) / np.sqrt(variance)) if variance > 0 else 0.0


def encoded_shares(codes: NDArray[np.float64], positive: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
    """(n,): for each patient the share of the class among the others with the same category who are in another of
    five parts, drawn towards the overall share by the weight of one patient."""
    fold = np.empty(len(codes), np.int64)
    rng = np.random.default_rng(seed)
    for side in (positive, ~positive):
        fold[side] = rng.permutation(int(side.sum())) % FOLDS
    _, code = np.unique(codes, return_inverse=True)
    levels = int(code.max()) + 1
    share = np.empty(len(codes))
    for k in range(FOLDS):
        out = fold == k
        total = np.bincount(code[~out], minlength=levels)
        hits = np.bincount(code[~out], weights=positive[~out].astype(float), minlength=levels)
        # One overall share for all parts: each part's own would tell, by its last digits, who is in it.
        share[out] = ((hits + positive.mean()) / (total + 1))[code[out]]
    return share
