"""A table modality as numbers: what a stage puts in the store."""

from __future__ import annotations

from typing import Any

from mmcli.cohort.model import CohortError, TableSpec
from mmcli.frames import EXTENSIONS
from mmcli.store.parts import Table

__all__ = ["EXTENSIONS", "read_table"]


def read_table(spec: TableSpec) -> Table:
    """The table over all patients: `values` (n, f) float64 with NaN where not observed, codes in text columns.

    Kinds are found as `mmcli.cohort.columns.type_columns` says. Raises CohortError (a RequestError) with one line
    for every column that has no kind: file, row, column, remedy.
    """
    typed = spec.typed
    if typed.problems:
        raise CohortError(spec.path, typed.problems)
    return Table(
        columns=list(spec.columns),
        kinds=list(typed.kinds),
        categories=dict(typed.categories),
        present=spec.present,
        values=typed.values,
        observed=typed.observed,
        units=dict(spec.units),
        about=_about(spec),
    )


def _about(spec: TableSpec) -> dict[str, dict[str, Any]]:
    """What only the cohort knows of columns: limits, how many cells lay outside of them, how the column was made."""
    about: dict[str, dict[str, Any]] = {}
    for column, limits in spec.limits.items():
        about.setdefault(column, {})["limits"] = list(limits)
    for column, count in spec.typed.outside.items():
        about.setdefault(column, {})["outside"] = count
    for column, made in spec.made.items():
        about.setdefault(column, {})["made"] = made
    return about
