"""`mmcli impute`: fill a table's holes, fitted on each fold's training patients alone."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from mmcli.errors import RequestError
from mmcli.imputers import make_imputer
from mmcli.imputers.imputer import Answer, Columns
from mmcli.progress import track
from mmcli.registry import did_you_mean
from mmcli.settings import ImputeSettings
from mmcli.stages.common import choose_fold_set, existing_request, open_stores, patients_digest
from mmcli.stages.outcome import Outcome, is_done
from mmcli.store import Imputation, Patients, Stores, Table, write_store
from mmcli.store.parts import TRAIN

# Among fewer patients a two-valued column equals a two-class label by chance.
COPIES_FROM = 10


def run(settings: ImputeSettings) -> Outcome:
    """Fill the holes of one table for every fold of a set, and write a store with the patients, all tables and the
    filled cells. Bags are not copied: the next command takes both stores."""
    name = settings.name or settings.method
    if not name.strip() or "/" in name or name in (".", ".."):
        raise RequestError(f"--name: {name!r} cannot be an imputation's name; use letters, digits, - and _")
    make_imputer(settings.method, settings.set)
    existing = existing_request(settings.out, settings.stores, settings.force)
    with open_stores(settings) as stores:
        fold_set = choose_fold_set(stores, settings.folds)
        table = _table(stores, settings.table)
        request = _request(settings, stores, fold_set, name)
        _check(table, settings.table, stores.patients)
        roles = stores.patients.folds[fold_set]
        _check_folds(table, settings.table, roles, fold_set)
        rows = _rows(table)
        holes = int((~table.observed[table.present]).sum())
        data = {"out": str(settings.out), "table": settings.table, "name": name, "fold_set": fold_set,
                "folds": roles.shape[1], "holes": holes, "answer": _answer(settings)}  # fmt: skip
        if is_done(settings.out, request, existing, settings.force):
            return Outcome(f"{settings.out} is complete already: nothing to do", data, rows)
        what = f"{holes} holes of {settings.table} in {_plural(roles.shape[1], 'fold')} of {fold_set} with {name}"
        if settings.dry_run:
            return Outcome(f"would fill {what} into {settings.out}", data, rows)
        started = time.perf_counter()
        imputations = _impute(settings, table, stores.patients, fold_set, name)
        data["content_sha256"] = write_store(
            settings.out, request, stores.patients, stores.tables, imputations=imputations
        )
        data["seconds"] = round(time.perf_counter() - started, 3)
    return Outcome(_message(settings, data, what, table, roles), data, rows)


def _table(stores: Stores, name: str) -> Table:
    if name not in stores.tables:
        raise RequestError(f"--table: unknown table {name!r}{did_you_mean(name, list(stores.tables))}")
    return stores.tables[name]


def _request(settings: ImputeSettings, stores: Stores, fold_set: str, name: str) -> dict[str, Any]:
    request = {"command": settings.command, "inputs": stores.fingerprints, **settings.request()}
    request |= {"folds": fold_set, "name": name}
    if settings.cohort is not None:
        request["patients"] = patients_digest(stores.patients)
    return request


def _check(table: Table, name: str, patients: Patients) -> None:
    """Refuse what no imputer may see: infinite values, a table without any value, a label in disguise."""
    infinite = np.argwhere(np.isinf(table.values) & table.observed)
    if len(infinite):
        row, column = infinite[0]
        raise RequestError(
            f"table {name}: column {table.columns[column]!r} of patient {patients.ids[row]} is infinite; correct it "
            "in the cohort's table and run `mmcli preprocess` again"
        )
    if not table.observed.any():
        raise RequestError(f"table {name}: no patient has an observed cell; there is nothing to learn from")
    for j, column in enumerate(table.columns):
        for task, label in patients.labels.items():
            both = table.observed[:, j] & (label.values >= 0)
            if both.sum() >= COPIES_FROM and _same_partition(table.values[both, j], label.values[both]):
                raise RequestError(
                    f"table {name}: column {column!r} is a copy of the label {task!r} (one value for each class); "
                    f"a label is never an input: take the column out of the table in the cohort"
                )


def _same_partition(one: Any, two: Any) -> bool:
    """Whether two arrays part the patients in the same way, into at least two."""
    pairs = len(np.unique(np.stack([one, two], 1), axis=0))
    return pairs > 1 and pairs == len(np.unique(one)) == len(np.unique(two))


def _check_folds(table: Table, name: str, roles: Any, fold_set: str) -> None:
    some = table.observed.any(1)
    for k in range(roles.shape[1]):
        train = roles[:, k] == TRAIN
        if not (some & train).any():
            raise RequestError(
                f"fold {k} of {fold_set}: none of its {int(train.sum())} training patients has a value in table "
                f"{name}; choose another fold set with --folds, or impute a table that they have"
            )


def _answer(settings: ImputeSettings) -> Answer:
    """Several imputations are draws, whatever a single one would be."""
    return "draw" if settings.imputations > 1 else settings.answer


def _impute(settings: ImputeSettings, table: Table, patients: Patients, fold_set: str, name: str) -> list[Imputation]:
    roles, answer, draws = patients.folds[fold_set], _answer(settings), settings.imputations
    columns, holes = Columns.of(table), ~table.observed
    made: list[Imputation] = []
    # One thread: the matrices are small, and the bits do not depend on the machine's number of cores.
    with threadpool_limits(1):
        for k in track(range(roles.shape[1]), roles.shape[1], f"impute {settings.table}", settings.quiet):
            imputer = make_imputer(settings.method, settings.set)
            train = table.values[roles[:, k] == TRAIN]
            imputer.fit(train, columns, seed=_fold_seed(settings.seed, k), draws=draws if answer == "draw" else 0)
            filled = imputer.transform(table.values, patients.ids, draws=draws, answer=answer)
            attributes = {"imputer": settings.method, "settings": imputer.settings.model_dump(mode="json"),
                          "seed": settings.seed, "answer": answer}  # fmt: skip
            values, state = filled[:, holes], imputer.state()
            made.append(Imputation(settings.table, name, fold_set, k, values, attributes, state))
    return made


def _fold_seed(seed: int, fold: int) -> int:
    """A seed of its own for each fold, so that their draws are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{fold}".encode()).digest()[:7], "little")


def _rows(table: Table) -> list[dict[str, Any]]:
    """The columns with holes, among the patients who have the table."""
    observed = table.observed[table.present]
    return [
        {"column": c, "kind": kind, "observed": round(float(own.mean()), 4), "holes": int((~own).sum())}
        for c, kind, own in zip(table.columns, table.kinds, observed.T, strict=True)
        if not own.all()
    ]


def _message(settings: ImputeSettings, data: dict[str, Any], what: str, table: Table, roles: Any) -> str:
    if not data["holes"]:
        return f"table {settings.table} has no holes: {settings.out} holds it unchanged, with an empty imputation"
    lacking = int((~table.present).sum())
    what += f" (and the cells of {_plural(lacking, 'patient')} without the table)" if lacking else ""
    draws = f", {settings.imputations} draws each" if settings.imputations > 1 else ""
    message = f"filled {what}{draws} in {data['seconds']:.1f} s -> {settings.out}"
    empty = [
        c
        for j, c in enumerate(table.columns)
        if any(not table.observed[roles[:, k] == TRAIN, j].any() for k in range(roles.shape[1]))
    ]
    if empty:
        message += (
            f"\nnobody in some fold's training has {', '.join(empty)}: filled there with 0 or the first category; "
            "better leave such columns out"
        )
    return message


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
