"""What the benchmark found in words and short tables: the terminal's, at most 100 columns wide, and the page's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mmcli.evaluation.imputation.benchmark import BASELINE, RAW, Benchmark
from mmcli.evaluation.imputation.hiding import WAYS
from mmcli.evaluation.reporting.shown import number

# Measure, answer and whether it is shown relative to `mean`: the columns of the first tables, with their heads.
SHOWN = {
    "RMSE": ("rmse", "mean", True),
    "MAE": ("mae", "median", True),
    "W1": ("w1", "draw", True),
    "balanced acc.": ("balanced_accuracy", "mean", False),
    "coverage": ("coverage", "draw", False),
}
LONGEST_NAME = 14
EXPLAINED = (
    "RMSE of point answers, MAE of medians and W1 (Wasserstein-1) of single draws as ratios to mean/mode, below 1 is "
    "better; balanced accuracy of categories; coverage of draws' 90 % intervals."
)
NO_RANKING = (
    "AUC is no ranking of imputers: see the intervals of the differences in the report. Gradient boosting needs no "
    "imputer at all."
)


def overall(table: pd.DataFrame, way: str, method: str, measure: str, answer: str) -> dict[str, Any] | None:
    """The row of a figure over all columns; None where there is none."""
    own = table[(table["way"] == way) & (table["method"] == method) & (table["measure"] == measure)
                & (table["answer"] == answer) & (table["column"] == "") & (table["task"] == "")]  # fmt: skip
    return {str(k): v for k, v in own.iloc[0].items()} if len(own) else None


def of_task(table: pd.DataFrame, way: str, method: str, task: str, against: str = "") -> dict[str, Any] | None:
    """The row of an AUC, compared with `against` where that is given."""
    own = table[(table["way"] == way) & (table["method"] == method) & (table["task"] == task)]
    own = own[own["against"] == against] if against else own
    return {str(k): v for k, v in own.iloc[0].items()} if len(own) else None


def figure(row: dict[str, Any] | None, relative: bool, digits: int = 3) -> tuple[str, str]:
    """The figure and its limits; empty where there is none."""
    if row is None or np.isnan(row["relative" if relative else "value"]):
        return "", ""
    names = ("relative", "relative_low", "relative_high") if relative else ("value", "low", "high")
    value, low, high = (_number(float(row[n]), digits) for n in names)
    undefined = np.isnan(row[names[1]]) or np.isnan(row[names[2]])
    itself = relative and row["method"] == BASELINE and low == high
    return value, "" if undefined or itself else f"{low}–{high}"


def _number(value: float, digits: int) -> str:
    return number(value) if digits == 3 else f"{value:.{digits}f}".replace("-", "−")


def tables(result: Benchmark) -> list[list[dict[str, Any]]]:
    """A table a way of hiding, a row a method; then the AUCs of a label."""
    found = []
    for way in result.hidden:
        rows = []
        for method in result.methods:
            row: dict[str, Any] = {f"hidden {SHORT[way]}": short(method)}
            for head, (measure, answer, relative) in SHOWN.items():
                cell = figure(overall(result.table, way, method, measure, answer), relative, 2)
                row[head] = " ".join(cell).strip()
            rows.append(row)
        found.append(_without_empty(rows))
    for task in result.plan.labels:
        rows = []
        for method in [RAW, *result.methods]:
            cells = {f"hidden {SHORT[w]}": " ".join(figure(of_task(result.table, w, method, task), False)).strip()
                     for w in result.hidden}  # fmt: skip
            rows.append({f"AUC of {short(task)}": RAW if method == RAW else f"{short(method)}, then LR", **cells})
        found.append(rows)
    return found


SHORT = {"random": "at random", "value": "by value", "column": "by a column"}


def short(name: str) -> str:
    """A name that leaves room for the rest of the line."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _without_empty(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the columns that no method has a figure for."""
    return [{k: v for k, v in row.items() if any(r[k] for r in rows)} for row in rows]


def lines(result: Benchmark) -> list[str]:
    """What stands under the tables."""
    said = [EXPLAINED]
    if result.plan.labels:
        said.append(NO_RANKING)
    return [*said, *result.notes]


def what_was_hidden(result: Benchmark) -> list[str]:
    """A sentence for each way of hiding: how many cells of how many patients."""
    said = []
    for way, hidden in result.hidden.items():
        patients = len(np.unique(hidden.patient))
        more = ""
        if way == "column":
            more = f" ({result.plan.columns.names[result.plan.driver]}, which is never hidden itself)"
        said.append(
            f"Hidden {WAYS[way]}{more}: {len(hidden.truth):,} cells of {patients:,} test patients in "
            f"{result.plan.folds} {'fold' if result.plan.folds == 1 else 'folds'}."
        )
    return said
