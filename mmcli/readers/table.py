"""A table modality as numbers: what a stage puts in the store."""

from __future__ import annotations

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
    )
