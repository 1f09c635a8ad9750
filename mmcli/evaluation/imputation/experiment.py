"""Hide cells fold by fold, fit each method on the training patients alone, fill the test patients."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from mmcli.evaluation.imputation.downstream import after_imputation, on_raw_holes
from mmcli.evaluation.imputation.hiding import hide
from mmcli.imputers import make_imputer
from mmcli.imputers.imputer import Columns, Floats
from mmcli.metrics.metric import Ints
from mmcli.store.parts import TEST, TRAIN, Label, Table

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """What is benchmarked: a table (n patients), `roles` (n, K), labels for the classifiers, draws for each hole.

    `driver` is the column by which others are hidden, `spared` names columns that are never hidden.
    """

    table: Table
    ids: list[str]
    roles: NDArray[np.int8]
    labels: Mapping[str, Label]
    draws: int
    seed: int
    driver: int
    spared: tuple[str, ...] = ()
    columns: Columns = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", Columns.of(self.table))

    @property
    def folds(self) -> int:
        """K."""
        return int(self.roles.shape[1])

    def rows(self, k: int, role: int) -> Ints:
        """The patients of a fold who have a role."""
        return np.flatnonzero(self.roles[:, k] == role).astype(np.int64)


@dataclass(frozen=True)
class Hidden:
    """One way of hiding: `holed` the table of each fold, and the c hidden cells of all folds' test patients.

    patient, column, fold (c,) say which cell, `truth` (c,) what was there, `sd` (c,) the sd of the column's cells that
    the fold's training still shows (NaN where there is none).
    """

    way: str
    holed: list[Floats] = field(repr=False)
    patient: Ints
    column: Ints
    fold: Ints
    truth: Floats
    sd: Floats


@dataclass(frozen=True)
class Answers:
    """One method's answers: for the c hidden cells `mean` and `median` (c,) and `draws` (m, c); of each task each
    fold's probabilities (n_test, K), None where nothing could be trained; and the seconds of fitting and filling."""

    method: str
    mean: Floats
    median: Floats
    draws: Floats
    probabilities: dict[str, list[Floats | None]]
    seconds: float

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but the method's name, for `of`."""
        found = {"mean": self.mean, "median": self.median, "draws": self.draws, "seconds": np.array(self.seconds)}
        for i, parts in enumerate(self.probabilities.values()):
            found |= {f"p-{i}-{k}": p for k, p in enumerate(parts) if p is not None}
        return found

    @classmethod
    def of(cls, method: str, arrays: Mapping[str, NDArray[Any]], plan: Plan) -> Answers:
        """What `arrays` gave."""
        tasks = {t: [arrays.get(f"p-{i}-{k}") for k in range(plan.folds)] for i, t in enumerate(plan.labels)}
        return cls(method, arrays["mean"], arrays["median"], arrays["draws"], tasks, float(arrays["seconds"].item()))


def seed_of(seed: int, fold: int, way: str) -> int:
    """A seed of its own for each fold and way of hiding."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{fold}\0{way}".encode()).digest()[:7], "little")


def hide_all(plan: Plan, way: str) -> Hidden:
    """Hide cells of all patients anew for each fold, and gather those of the test patients."""
    values = plan.table.values
    holed, parts = [], []
    hideable = np.array([c not in plan.spared for c in plan.columns.names], bool)
    for k in range(plan.folds):
        generator = np.random.default_rng(seed_of(plan.seed, k, way))
        hidden = hide(values, way, generator, hideable=hideable, driver=plan.driver)
        seen = np.where(hidden, np.nan, values)
        holed.append(seen)
        train, test = plan.rows(k, TRAIN), plan.rows(k, TEST)
        row, column = np.nonzero(hidden[test])
        sd = np.array([np.nanstd(c) if np.isfinite(c).any() else np.nan for c in seen[train].T])
        parts.append((test[row], column, np.full(len(row), k), values[test[row], column], sd[column]))
    patient, column, fold, truth, sd = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Hidden(way, holed, patient, column, fold, truth, sd)


def answer(plan: Plan, hidden: Hidden, method: str, options: Mapping[str, str]) -> Answers:
    """One method's answers. `options` (`--set`) go to every method that has an option of that name."""
    with threadpool_limits(1):
        return _answers(plan, hidden, method, own_options(method, options))


def own_options(method: str, options: Mapping[str, str]) -> dict[str, str]:
    """Those of the options that the method has."""
    return {n: v for n, v in options.items() if n in make_imputer(method).Settings.model_fields}


def _answers(plan: Plan, hidden: Hidden, method: str, options: Mapping[str, str]) -> Answers:
    started = time.process_time()
    unfitted = make_imputer(method, options)
    folds = range(plan.folds)
    fitted = type(unfitted).fit_folds(
        unfitted.settings,
        [hidden.holed[k][plan.rows(k, TRAIN)] for k in folds],
        plan.columns,
        seeds=[seed_of(plan.seed, k, hidden.way) for k in folds],
        draws=plan.draws,
    )
    filled: list[tuple[Floats, Floats, Floats, Floats]] = []
    for k, imputer in zip(folds, fitted, strict=True):
        train, test = plan.rows(k, TRAIN), plan.rows(k, TEST)
        ids = [plan.ids[i] for i in test.tolist()]
        holed = hidden.holed[k]
        own = imputer.transform(holed[train], [plan.ids[i] for i in train.tolist()])[0]
        mean, median = (imputer.transform(holed[test], ids, answer=a)[0] for a in ("mean", "median"))
        filled.append((own, mean, median, imputer.transform(holed[test], ids, draws=plan.draws, answer="draw")))
    seconds = time.process_time() - started
    cells = [_cells(plan, hidden, k) for k in folds]
    return Answers(
        method,
        np.concatenate([f[1][c] for f, c in zip(filled, cells, strict=True)]),
        np.concatenate([f[2][c] for f, c in zip(filled, cells, strict=True)]),
        np.concatenate([f[3][:, c[0], c[1]] for f, c in zip(filled, cells, strict=True)], 1),
        {task: [_after(plan, label, k, filled[k]) for k in folds] for task, label in plan.labels.items()},
        seconds,
    )


def _cells(plan: Plan, hidden: Hidden, k: int) -> tuple[Ints, Ints]:
    """Row among the fold's test patients, and column, of its hidden cells."""
    own = hidden.fold == k
    place = np.full(len(plan.ids), -1, np.int64)
    test = plan.rows(k, TEST)
    place[test] = np.arange(len(test))
    return place[hidden.patient[own]], hidden.column[own]


def labelled(plan: Plan, label: Label, k: int) -> tuple[Bools, Bools]:
    """Which of a fold's training and test patients have the label."""
    return label.values[plan.rows(k, TRAIN)] >= 0, label.values[plan.rows(k, TEST)] >= 0


def _after(plan: Plan, label: Label, k: int, filled: tuple[Floats, ...]) -> Floats | None:
    train, test = labelled(plan, label, k)
    y = label.values[plan.rows(k, TRAIN)][train]
    return after_imputation(filled[0][train], y, filled[1][test], plan.columns, len(label.classes))


def boosting(plan: Plan, hidden: Hidden, task: str) -> list[Floats | None]:
    """Each fold's probabilities (n_test, K) of gradient boosting that sees the holes."""
    label, found = plan.labels[task], []
    with threadpool_limits(1):
        for k in range(plan.folds):
            train, test = labelled(plan, label, k)
            rows, new = hidden.holed[k][plan.rows(k, TRAIN)][train], hidden.holed[k][plan.rows(k, TEST)][test]
            y = label.values[plan.rows(k, TRAIN)][train]
            found.append(on_raw_holes(rows, y, new, plan.columns, len(label.classes), plan.seed))
    return found
