"""Looking for leakage. One file a check; a new one is a file with `check(subject) -> Report` and a line in `CHECKS`."""

from __future__ import annotations

from collections.abc import Callable

from mmcli.evaluation.audit import columns, folds, holes, imputers, persons, scalers, selection, values
from mmcli.evaluation.audit.report import Report
from mmcli.evaluation.audit.subject import Subject

# In reading order: what the folds promise, what was fitted, what was chosen, what the data say.
CHECKS: dict[str, Callable[[Subject], Report]] = {
    "persons": persons.check,
    "folds": folds.check,
    "imputers": imputers.check,
    "scalers": scalers.check,
    "selection": selection.check,
    "columns": columns.check,
    "values": values.check,
    "holes": holes.check,
}
