"""Imputers that a store carries: fitted on the fold's training patients, or on more?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mmcli.errors import DamagedError
from mmcli.evaluation.audit.report import FINDING, WARNING, Report, count, named
from mmcli.evaluation.audit.subject import OTHERS, AuditedRun, Roles, Subject
from mmcli.imputers import IMPUTERS
from mmcli.imputers.imputer import Columns, Imputer, read_about
from mmcli.imputers.marginals import Marginals
from mmcli.progress import track
from mmcli.store import Store
from mmcli.store.parts import TRAIN, UNUSED

Arrays = Mapping[str, NDArray[Any]]
TOLERANCE = 1e-6  # relative: the same numbers summed in another order
LONGEST_S = 60.0  # of one imputation: what takes longer is not fitted again for the other folds


@dataclass(frozen=True)
class _Case:
    """One imputation of one table of one store."""

    file: Store
    table: str
    name: str
    fold_set: str

    @property
    def where(self) -> str:
        return f"{self.file.path}, {self.table}/{self.name}/{self.fold_set}"


def check(subject: Subject) -> Report:
    """Every fitted imputer begins with the training patients' ranges, shares and quantiles: these are computed again,
    for any method. Where they agree the imputer itself is fitted again, with its settings and its seed, and its arrays
    compared, as far as that takes no more than a minute an imputation. The imputers that parts carry likewise, but for
    the fitting. What differs, and comes out from a set with test
    patients, is a finding; what differs for no reason that is found is a warning."""
    report = Report()
    cases = [
        _Case(file, table, name, fold_set)
        for file in subject.stores.files
        for table in file.tables
        for name, fold_set in file.imputations(table)
        if fold_set in subject.fold_sets
    ]
    for case in track(cases, len(cases), "imputers", subject.quiet):
        _case(report, case, subject)
    for run in subject.runs:
        _run(report, run)
    return report


def _run(report: Report, run: AuditedRun) -> None:
    """The imputers that a run's parts carry for new patients: their ranges and shares."""
    wrong: dict[tuple[str, str], list[str]] = {}
    looked = 0
    for part in run.parts() if run.stores is not None else []:
        for table in part.head["tables"]:
            path = part.folder / f"imputer-{table}.safetensors"
            if run.stores is None or not path.is_file():
                continue
            try:
                state = load_file(path)
            except (OSError, SafetensorError) as error:
                raise DamagedError(f"{path}: damaged ({' '.join(str(error).split())}); train it again") from None
            looked += 1
            source = _source(run.stores.tables[table].values, run.roles(part.fold), state)
            if source is not None:
                wrong.setdefault((table, source), []).append(part.name)
    if looked:
        report.checked.append(f"imputers: ranges and shares of {count(looked, 'imputer')} in the parts of {run.name}")
    for (table, source), where in wrong.items():
        report.add(
            FINDING, "imputers", f"{run.name}, {table}",
            f"the imputer of {named(where)} was not fitted on the fold's training patients: {source}",
            "run `mmcli impute` again on these folds, and train the run again",
        )  # fmt: skip


def _case(report: Report, case: _Case, subject: Subject) -> None:
    file, again, late = case.file, 0, 0
    wrong: dict[str, list[str]] = {}
    unlike: list[str] = []
    folds = file.imputations(case.table)[case.name, case.fold_set]
    index = {patient: i for i, patient in enumerate(subject.ids)}
    rows = np.array([index.get(patient, -1) for patient in file.patients.ids])
    started = time.monotonic()
    for k in folds:
        state = file.fitted(case.table, case.name, case.fold_set, k)
        if not state:
            report.skipped.append(f"imputers: {case.where}: fold {k} carries no fitted imputer")
            continue
        ours = subject.stores.patients.folds[case.fold_set]
        roles = np.where(rows >= 0, ours[rows, k], UNUSED).astype(np.int8)
        source = _source(file.tables[case.table].values, roles, state)
        if source is not None:
            wrong.setdefault(source, []).append(str(k))
        elif time.monotonic() - started > LONGEST_S:
            late += 1
        else:
            again += 1
            if not _same(_refitted(file, case.table, roles, state), state):
                unlike.append(str(k))
    report.checked.append(
        f"imputers: {case.where}: ranges and shares of {count(len(folds), 'fold')}, {again} fitted again"
    )
    if late:
        report.skipped.append(f"imputers: {case.where}: {count(late, 'fold')} not fitted again, for the time it takes")
    for source, where in wrong.items():
        report.add(
            FINDING, "imputers", case.where,
            f"the imputer of {'fold' if len(where) == 1 else 'folds'} {named(where)} was not fitted on the training "
            f"patients: {source}",
            "run `mmcli impute` again on these folds, and train again what used it",
        )  # fmt: skip
    if unlike:
        report.add(
            WARNING, "imputers", case.where,
            f"fitted again on the same patients, the imputer of fold {named(unlike)} has other arrays, though the same "
            "ranges and shares",
            "another version of mmcli or of its libraries may have made it: run `mmcli impute` again",
        )  # fmt: skip


def _source(values: NDArray[np.float64], roles: Roles, state: Arrays) -> str | None:
    """None where the stored marginals are those of the training patients; else whose they are."""
    if _same(_marginals(values[roles == TRAIN], state), state):
        return None
    for name, members in OTHERS.items():
        if _same(_marginals(values[np.isin(roles, members)], state), state):
            return f"it comes out from {name}"
    return "it comes out from no set of the fold's roles (other folds, or another table)"


def _marginals(values: NDArray[np.float64], state: Arrays) -> Arrays:
    levels = Columns(**read_about(state)["columns"]).levels()
    found = Marginals.fit(values, levels)
    return {f"marginal-{name}": array for name, array in asdict(found).items()}


def _refitted(file: Store, table: str, roles: Roles, state: Arrays) -> Arrays:
    about = read_about(state)
    kind: type[Imputer] = IMPUTERS.get(about["imputer"])
    imputer = kind(kind.Settings(**about["settings"]))
    values = file.tables[table].values[roles == TRAIN]
    return imputer.fit(values, Columns.of(file.tables[table]), seed=about["seed"], draws=about["draws"]).state()


def _same(found: Arrays, stored: Arrays) -> bool:
    """Whether all arrays of `found` are among the stored ones, within TOLERANCE of each array's largest number."""
    for name, array in found.items():
        other = stored.get(name)
        if other is None or other.shape != array.shape:
            return False
        if array.dtype.kind != "f":
            if name != "about" and not np.array_equal(array, other):
                return False
            continue
        largest = float(np.nanmax(np.abs(array), initial=0.0))
        if not np.allclose(array, other, rtol=TOLERANCE, atol=TOLERANCE * largest, equal_nan=True):
            return False
    return True
