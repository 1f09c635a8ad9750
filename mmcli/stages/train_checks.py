"""Whether a fold can be trained and tested, and what is thin about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmcli.errors import RequestError
from mmcli.store import Stores
from mmcli.store.parts import TEST, TRAIN, VALIDATION
from mmcli.training.data import CohortData

if TYPE_CHECKING:
    from mmcli.stages.train import Plan


def check_labels(stores: Stores, tasks: list[str]) -> None:
    """RequestError where a store has another label of a patient than the first one: the same ids in two cohorts."""
    patients, first = stores.patients, stores.files[0]
    index = {patient: i for i, patient in enumerate(patients.ids)}
    for file in stores.files[1:]:
        for task in set(tasks) & set(file.patients.labels):
            ours, theirs = patients.labels[task], file.patients.labels[task]
            for patient, value in zip(file.patients.ids, theirs.values, strict=True):
                own = ours.values[index[patient]] if patient in index else -1
                if own >= 0 and value >= 0 and ours.classes[own] != theirs.classes[value]:
                    raise RequestError(
                        f"{file.path}: patient {patient} is {theirs.classes[value]!r} of {task}, and "
                        f"{ours.classes[own]!r} in {first.path}; is it a store of another cohort? If not, --cohort "
                        "says which label holds"
                    )


def check_folds(plan: Plan, data: CohortData, folds: list[int]) -> list[str]:
    """RequestError names a fold that cannot be trained or tested; returns notes on what is thin but goes on."""
    notes = []
    for k in folds:
        roles, where = plan.folds[:, k], f"fold {k} of {plan.fold_set!r}"
        for task, label in data.tasks.items():
            counts = {
                role: np.bincount(label.values[(roles == role) & (label.values >= 0)], minlength=len(label.classes))
                for role in (TRAIN, VALIDATION, TEST)
            }
            lacking = [c for c, n in zip(label.classes, counts[TRAIN], strict=True) if not n]
            if lacking:
                raise RequestError(
                    f"{where} has no training patient of class {lacking[0]!r} of {task}; make folds that are "
                    "stratified by it, or fewer of them"
                )
            if not counts[TEST].sum():
                raise RequestError(f"{where} has no test patient with a label of {task}; make other folds")
            for role, patient in ((VALIDATION, "validation"), (TEST, "test")):
                lacking = [c for c, n in zip(label.classes, counts[role], strict=True) if not n]
                if lacking:
                    notes.append(f"{where}: no {patient} patient of class {', '.join(lacking)} of {task}")
        for name in plan.modalities:
            if not (data.present[name] & (roles == TRAIN)).any():
                raise RequestError(f"{where}: no training patient has the modality {name}; leave it out")
    return notes + _constant_columns(plan, data, folds)


def _constant_columns(plan: Plan, data: CohortData, folds: list[int]) -> list[str]:
    """A note for each table: the columns that say nothing, as all training patients of a fold have one value there."""
    notes = []
    for name, table in data.tables.items():
        where: dict[str, list[int]] = {}
        for k in folds:
            rows = np.flatnonzero((plan.folds[:, k] == TRAIN) & data.present[name])
            values = np.where(table.observed[rows], table.values[rows], np.nan)
            filled = (
                np.where(np.isnan(values), -np.inf, values).max(0),
                np.where(np.isnan(values), np.inf, values).min(0),
            )
            for j in np.flatnonzero(filled[0] <= filled[1]):
                where.setdefault(table.columns[j], []).append(k)
        if where:
            some = [f"{c} (fold {','.join(map(str, of))})" for c, of in list(where.items())[:3]]
            more = f" and {len(where) - 3} more" if len(where) > 3 else ""
            notes.append(f"{name}: the training patients have no two values of {', '.join(some)}{more}: it counts as 0")
    return notes
