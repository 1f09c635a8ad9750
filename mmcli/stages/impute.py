"""`mmcli impute`: fill a table's holes, fitted on each fold's training patients alone."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from mmcli.errors import RequestError
from mmcli.imputers import make_imputer
from mmcli.imputers.imputer import Answer, Columns, Floats, Imputer
from mmcli.progress import track
from mmcli.registry import did_you_mean
from mmcli.settings import ImputeSettings
from mmcli.stages.common import choose_fold_set, existing_request, open_stores, patients_digest
from mmcli.stages.impute_checks import check_folds, check_table, thin_columns
from mmcli.stages.impute_kept import Kept
from mmcli.stages.outcome import Outcome, is_done
from mmcli.store import Imputation, Stores, Table, write_store
from mmcli.store.parts import TRAIN

SLOW_S = 1.0  # a fold that takes longer is kept, so that an interrupted command need not make it again
VALUES = "values of the holes"


def run(settings: ImputeSettings) -> Outcome:
    """Fill the holes of one table, and write a store with the patients, all tables and the filled cells. Bags are not
    copied: the next command takes both stores. With `--fitted` an earlier store's imputers fill new patients; with
    `--benchmark` nothing is filled, but methods are measured on cells that are known."""
    if settings.benchmark:
        from mmcli.stages.impute_benchmark import run_benchmark

        return run_benchmark(settings)
    if settings.fitted is not None:
        from mmcli.stages.impute_fitted import fill_new

        return fill_new(settings)
    return _fit_and_fill(settings)


def _fit_and_fill(settings: ImputeSettings) -> Outcome:
    name = settings.name or settings.method
    if not name.strip() or "/" in name or name in (".", ".."):
        raise RequestError(f"--name: {name!r} cannot be an imputation's name; use letters, digits, - and _")
    if "," in settings.method:
        raise RequestError(f"--method {settings.method}: one imputer fills a table; --benchmark compares several")
    imputer = make_imputer(settings.method, settings.set)
    existing = existing_request(settings.out, settings.stores, settings.force)
    with open_stores(settings) as stores:
        fold_set = choose_fold_set(stores, settings.folds)
        table = find_table(stores, settings.table)
        request = _request(settings, stores, fold_set, name)
        labels = check_table(table, settings.table, stores.patients, settings.allow_label_column)
        roles = stores.patients.folds[fold_set]
        check_folds(table, settings.table, roles, fold_set)
        rows = holes_by_column(table)
        holes = count_holes(table)
        data = {"out": str(settings.out), "table": settings.table, "name": name, "fold_set": fold_set,
                "folds": roles.shape[1], "holes": holes, "answer": _answer(settings),
                "label_columns": labels}  # fmt: skip
        if is_done(settings.out, request, existing, settings.force):
            return Outcome(f"{settings.out} is complete already: nothing to do", data, rows)
        what = f"{holes} holes of {settings.table} in {plural(roles.shape[1], 'fold')} of {fold_set} with {name}"
        if settings.dry_run:
            return Outcome(f"would fill {what} into {settings.out}", data, rows)
        started = time.perf_counter()
        kept = Kept(settings.out, request)
        imputations = _impute(settings, table, stores, fold_set, name, labels, kept)
        data["content_sha256"] = write_store(
            settings.out, request, stores.patients, stores.tables, imputations=imputations
        )
        kept.remove()
        data["seconds"] = round(time.perf_counter() - started, 3)
    message = filled_message(settings, table, what, settings.imputations, data["seconds"])
    least = int(getattr(imputer.settings, "min_observed", 0))
    return Outcome("\n".join([message, *_remarks(table, roles, least), *allowed(labels)]), data, rows)


def find_table(stores: Stores, name: str) -> Table:
    """The named table; RequestError names the nearest ones when there is none."""
    if name not in stores.tables:
        raise RequestError(f"--table: unknown table {name!r}{did_you_mean(name, list(stores.tables))}")
    return stores.tables[name]


def _request(settings: ImputeSettings, stores: Stores, fold_set: str, name: str) -> dict[str, Any]:
    request = {"command": settings.command, "inputs": stores.fingerprints, **settings.request()}
    request |= {"folds": fold_set, "name": name}
    if settings.cohort is not None:
        request["patients"] = patients_digest(stores.patients)
    return request


def _answer(settings: ImputeSettings) -> Answer:
    """Several imputations are draws, whatever a single one would be."""
    return "draw" if settings.imputations > 1 else settings.answer


def _impute(
    settings: ImputeSettings, table: Table, stores: Stores, fold_set: str, name: str, labels: list[str], kept: Kept
) -> list[Imputation]:
    patients, answer, draws = stores.patients, _answer(settings), settings.imputations
    roles, holes = patients.folds[fold_set], ~table.observed
    unfitted, folds = make_imputer(settings.method, settings.set), range(roles.shape[1])
    attributes = {"imputer": settings.method, "settings": unfitted.settings.model_dump(mode="json"),
                  "seed": settings.seed, "answer": answer}  # fmt: skip
    attributes |= {"label_columns": labels} if labels else {}
    made: list[Imputation] = []
    # One thread: the matrices are small, and the bits do not depend on the machine's number of cores.
    with threadpool_limits(1):
        fit = _fitting(unfitted, table, roles, settings.seed, draws if answer == "draw" else 0)
        for k in track(folds, len(folds), f"impute {settings.table}", settings.quiet):
            state = kept.load(f"fold-{k}")
            if state is None:
                started = time.perf_counter()
                imputer = fit(k)
                state = imputer.state()
                filled = imputer.transform(table.values, patients.ids, draws=draws, answer=answer)
                state[VALUES] = filled[:, holes]
                if time.perf_counter() - started > SLOW_S:
                    kept.save(f"fold-{k}", state)
            values = state.pop(VALUES)
            made.append(Imputation(settings.table, name, fold_set, k, values, attributes, state))
    return made


def _fitting(
    unfitted: Imputer, table: Table, roles: NDArray[np.int8], seed: int, draws: int
) -> Callable[[int], Imputer]:
    """A function from a fold to its imputer, fitted on the fold's training patients: all folds at once, when the first
    is asked for, where the imputer learns them so (it overrides `_fit_many`), else each when it is asked for."""
    kind, columns = type(unfitted), Columns.of(table)
    at_once: list[Imputer] = []

    def train(k: int) -> Floats:
        values: Floats = table.values[roles[:, k] == TRAIN]
        return values

    def fit(k: int) -> Imputer:
        if kind._fit_many.__func__ is Imputer._fit_many.__func__:  # type: ignore[attr-defined]
            return kind(unfitted.settings).fit(train(k), columns, seed=fold_seed(seed, k), draws=draws)
        if not at_once:
            folds = range(roles.shape[1])
            at_once.extend(kind.fit_folds(unfitted.settings, [train(i) for i in folds], columns,
                                          seeds=[fold_seed(seed, i) for i in folds], draws=draws))  # fmt: skip
        return at_once[k]

    return fit


def fold_seed(seed: int, fold: int) -> int:
    """A seed of its own for each fold, so that their draws are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{fold}".encode()).digest()[:7], "little")


def holes_by_column(table: Table) -> list[dict[str, Any]]:
    """The columns with holes, among the patients who have the table."""
    observed = table.observed[table.present]
    return [
        {"column": c, "kind": kind, "observed": round(float(own.mean()), 4), "holes": int((~own).sum())}
        for c, kind, own in zip(table.columns, table.kinds, observed.T, strict=True)
        if not own.all()
    ]


def count_holes(table: Table) -> int:
    """The cells that are not observed, of the patients who have the table."""
    return int((~table.observed[table.present]).sum())


def filled_message(settings: ImputeSettings, table: Table, what: str, draws: int, seconds: float) -> str:
    """What was done, in one line."""
    if not count_holes(table):
        return f"table {settings.table} has no holes: {settings.out} holds it unchanged, with an empty imputation"
    lacking = int((~table.present).sum())
    what += f" (and the cells of {plural(lacking, 'patient')} without the table)" if lacking else ""
    each = f", {draws} draws each" if draws > 1 else ""
    return f"filled {what}{each} in {seconds:.1f} s -> {settings.out}"


def _remarks(table: Table, roles: Any, least: int) -> list[str]:
    """Columns of which a fold has too little to learn from."""
    empty, thin = thin_columns(table, roles, least)
    said = []
    if empty:
        said.append(
            f"nobody in some fold's training has {', '.join(empty)}: filled there with 0 or the first category; "
            "better leave such columns out"
        )
    if thin:
        said.append(f"fewer than {least} training patients in some fold have {', '.join(thin)}: filled there as by "
                    "`mean`, by nothing else of the patient")  # fmt: skip
    return said


def allowed(labels: list[str]) -> list[str]:
    """The line on label columns that were allowed."""
    return [f"allowed by --allow-label-column, so that figures of models with this imputation are too good: "
            f"{'; '.join(labels)}"] if labels else []  # fmt: skip


def plural(count: int, noun: str) -> str:
    """1 fold, 2 folds."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
