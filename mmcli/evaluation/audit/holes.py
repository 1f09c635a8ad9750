"""Holes that tell a label: what is missing, without what was measured, predicts it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.model_selection import StratifiedKFold

from mmcli.evaluation.audit.report import WARNING, Report, count
from mmcli.evaluation.audit.subject import Bools, Subject
from mmcli.evaluation.delong import delong
from mmcli.store import Label

CONFIDENCE = 0.99  # one check a label: at .95 every fortieth label of clean data would warn
# The folds share their training patients, so that the AUC of noise varies more than DeLong's formula knows: it lies
# above the 99 % interval's limit in up to 3 % of clean tables. What passes is held against permuted labels.
PERMUTATIONS = 99
FOLDS = 5
LEAST = 10  # labelled patients of every class
MOST = 100  # indicators: those that most patients differ in
NAMED = 3


@dataclass(frozen=True)
class _Mask:
    """What some patients lack: the names of the columns that are missing together, and (n,) who lacks them."""

    names: list[str]
    lacks: Bools


def check(subject: Subject) -> Report:
    """Logistic regression on indicators alone (a cell is not observed; a modality is not present), cross-validated
    over the labelled patients: a warning where the 99 % DeLong interval of its out-of-fold AUC lies above .5 and none
    of 99 permutations of the labels gets as far. Columns with the same holes are one indicator. It names those whose
    missing shares differ most between the classes."""
    report = Report()
    for task, label in subject.labels().items():
        known = np.flatnonzero(label.values >= 0)
        y = label.values[known]
        kept = np.isin(y, np.flatnonzero(np.bincount(y) >= LEAST))  # of a rarer class nothing can be said
        known, y = known[kept], y[kept]
        masks = _masks(subject, known)
        if not masks or len(np.unique(y)) < 2:
            why = "nothing is missing" if not masks else f"fewer than two classes with {LEAST} patients"
            report.skipped.append(f"holes: {task}: {why}")
            continue
        x = np.stack([m.lacks for m in masks], 1).astype(float)
        classes, y = np.unique(y, return_inverse=True)
        auc, low, high = interval(y, predicted(x, y, subject.seed))
        limits = f"[{low:.3f}, {high:.3f}]" if np.isfinite(low) else "(no interval)"
        report.checked.append(
            f"holes: {count(len(masks), 'pattern')} of missing cells and modalities against {task}: AUC {auc:.3f} "
            f"{limits}"
        )
        if (low > 0.5 or auc == 1) and beyond_chance(x, y, auc, subject.seed):  # 1 has no variance, so no interval
            report.add(
                WARNING, "holes", f"label {task}",
                f"what is missing predicts it: AUC {auc:.3f} {limits} in {len(y)} patients; "
                + _largest(masks, x, y, label, classes),
                "find out why; `evaluate --withhold` and a model without these columns show how much of a figure rests "
                "on it",
            )  # fmt: skip
    return report


def _masks(subject: Subject, rows: NDArray[np.int64]) -> list[_Mask]:
    """The indicators that are not the same for all of `rows`, each pattern of holes once."""
    found: dict[bytes, _Mask] = {}

    def add(name: str, lacks: Bools) -> None:
        if lacks.any() and not lacks.all():
            found.setdefault(np.packbits(lacks).tobytes(), _Mask([], lacks)).names.append(name)

    for name, present in subject.has().items():
        add(f"modality {name}", ~present[rows])
    for name, table in subject.stores.tables.items():
        for j, column in enumerate(table.columns):
            add(f"{name}.{column}", (table.present & ~table.observed[:, j])[rows])
    return sorted(found.values(), key=lambda m: abs(m.lacks.mean() - 0.5))[:MOST]


def predicted(x: NDArray[np.float64], y: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """(n, K) probabilities of each class against the rest, for each patient from the other four fifths."""
    p = np.zeros((len(y), int(y.max()) + 1))
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed % 2**32).split(x, y):
        for k in range(1 if p.shape[1] == 2 else 0, p.shape[1]):
            weights = logistic(x[train], (y[train] == k).astype(float))
            p[test, k] = expit(weights[0] + x[test] @ weights[1:])
    if p.shape[1] == 2:
        p[:, 0] = 1 - p[:, 1]
    return p


def logistic(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intercept and weights (1 + f,) of logistic regression with the penalty |w|^2 / 2, which is scikit-learn's C = 1,
    by Newton's method: on indicators it takes a tenth of the time."""
    z = np.column_stack([np.ones(len(x)), x])
    ridge = np.diag(np.concatenate([[1e-9], np.ones(x.shape[1])]))
    weights = np.zeros(z.shape[1])
    for _ in range(50):
        p = expit(z @ weights)
        step = np.linalg.solve((z * (p * (1 - p))[:, None]).T @ z + ridge, z.T @ (p - y) + ridge @ weights)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def beyond_chance(x: NDArray[np.float64], y: NDArray[np.int64], auc: float, seed: int) -> bool:
    """Whether no permutation of the labels reaches the AUC; it stops at the first that does."""
    rng = np.random.default_rng(seed)
    for _ in range(PERMUTATIONS):
        other = rng.permutation(y)
        if interval(other, predicted(x, other, seed))[0] >= auc:
            return False
    return True


def interval(y: NDArray[np.int64], p: NDArray[np.float64]) -> tuple[float, float, float]:
    """AUC with its DeLong interval."""
    found = delong(y, [p])
    low, high = found.interval(CONFIDENCE, 0)
    return float(found.auc[0]), float(low), float(high)


def _largest(
    masks: list[_Mask], x: NDArray[np.float64], y: NDArray[np.int64], label: Label, classes: NDArray[np.int64]
) -> str:
    """`a missing in 50 % of x, 1 % of y; ...` of the patterns that differ most."""
    shares = np.stack([x[y == k].mean(0) for k in range(len(classes))])
    texts = []
    for j in np.argsort(shares.min(0) - shares.max(0), kind="stable")[:NAMED]:
        names = masks[j].names
        what = names[0] + (f" (and {count(len(names) - 1, 'more', 'more')})" if len(names) > 1 else "")
        high, low = int(shares[:, j].argmax()), int(shares[:, j].argmin())
        one, two = (f"{shares[k, j]:.0%} of {label.classes[classes[k]]}" for k in (high, low))
        texts.append(f"{what} missing in {one}, {two}")
    return "; ".join(texts)
