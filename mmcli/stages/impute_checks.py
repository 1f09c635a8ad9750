"""What `mmcli impute` refuses before anything is fitted: useless tables, labels among the columns, empty folds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcli.errors import RequestError
from mmcli.store import Patients, Table
from mmcli.store.parts import TRAIN

# Among fewer patients a two-valued column equals a two-class label by chance.
COPIES_FROM = 10
# A column that fits a label after merging counts as the label in disguise if chance would hardly make such a one.
CHANCE = 1e-4


def check_values(table: Table, name: str, ids: list[str]) -> None:
    """RequestError for an infinite cell."""
    infinite = np.argwhere(np.isinf(table.values) & table.observed)
    if len(infinite):
        row, column = infinite[0]
        raise RequestError(
            f"table {name}: column {table.columns[column]!r} of patient {ids[row]} is infinite; correct it "
            "in the cohort's table and run `mmcli preprocess` again"
        )


def check_table(table: Table, name: str, patients: Patients, allow_label: bool) -> list[str]:
    """Refuse what no imputer may see: infinite values, a table without any value, a label in disguise.

    With `allow_label` such columns are returned instead, as "column is ... the label ...".
    """
    check_values(table, name, patients.ids)
    if not table.observed.any():
        raise RequestError(f"table {name}: no patient has an observed cell; there is nothing to learn from")
    found = []
    for j, column in enumerate(table.columns):
        for task, label in patients.labels.items():
            both = table.observed[:, j] & (label.values >= 0)
            how = disguise(table.values[both, j], label.values[both])
            if how:
                found.append(f"column {column!r} is {how} the label {task!r}")
    if found and not allow_label:
        raise RequestError(
            f"table {name}: {found[0]}: a label is never an input; take the column out of the table in the cohort, or "
            "say that it may stay with --allow-label-column"
        )
    return found


def disguise(column: NDArray[Any], label: NDArray[Any]) -> str:
    """How a column (n,) says a label (n,) of the same patients: "" where it does not.

    A copy parts the patients as the label does, among ten or more of them. Merged: each of its values goes with one
    class only, as I, II, III with "early" and IV with "late"; or each class with one of its values. That happens by
    chance where values are rare, so it only counts where a random order of the patients would hardly give it: the
    probability is at most the product, over the values, of the sum over the classes of (share of the class) to the
    power of (patients with the value).
    """
    if len(column) < COPIES_FROM:
        return ""
    values, x = np.unique(column, return_inverse=True)
    classes, y = np.unique(label, return_inverse=True)
    if len(values) < 2 or len(classes) < 2:
        return ""
    pairs = np.zeros((len(values), len(classes)))
    np.add.at(pairs, (x.reshape(-1), y.reshape(-1)), 1)
    finer, coarser = ((pairs > 0).sum(1) == 1).all(), ((pairs > 0).sum(0) == 1).all()
    if finer and coarser:
        return "a copy of"
    if finer and _by_chance(pairs) < CHANCE:
        return "with its values merged a copy of"
    if coarser and _by_chance(pairs.T) < CHANCE:
        return "a copy of merged classes of"
    return ""


def _by_chance(pairs: NDArray[np.float64]) -> float:
    """A bound on the probability that each row of counts (a, b) has a single column by chance."""
    shares = pairs.sum(0) / pairs.sum()
    return float(np.exp(sum(np.log((shares**count).sum()) for count in pairs.sum(1))))


def check_folds(table: Table, name: str, roles: NDArray[np.int8], fold_set: str) -> None:
    """RequestError for a fold without any training patient who has a value."""
    some = table.observed.any(1)
    for k in range(roles.shape[1]):
        train = roles[:, k] == TRAIN
        if not (some & train).any():
            raise RequestError(
                f"fold {k} of {fold_set}: none of its {int(train.sum())} training patients has a value in table "
                f"{name}; choose another fold set with --folds, or impute a table that they have"
            )


def thin_columns(table: Table, roles: NDArray[np.int8], least: int) -> tuple[list[str], list[str]]:
    """Columns that in some fold no training patient has, and those that some but fewer than `least` have."""
    counts = np.array([table.observed[roles[:, k] == TRAIN].sum(0) for k in range(roles.shape[1])])
    fewest = counts.min(0)
    names = np.array(table.columns, dtype=object)
    return names[fewest == 0].tolist(), names[(fewest > 0) & (fewest < least)].tolist()
