"""`mmcli impute NEW.h5 --fitted IMPUTED.h5`: new patients, filled with the imputers that a store carries."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from mmcli.errors import DamagedError, RequestError
from mmcli.fields import fill_options
from mmcli.imputers import load_imputer
from mmcli.imputers.imputer import Columns, Floats, Imputer
from mmcli.progress import track
from mmcli.registry import did_you_mean
from mmcli.settings import ImputeSettings
from mmcli.stages.common import existing_request, open_stores, patients_digest
from mmcli.stages.impute import count_holes, filled_message, find_table, holes_by_column, plural
from mmcli.stages.impute_checks import check_values
from mmcli.stages.outcome import Outcome, is_done
from mmcli.store import Imputation, Store, Table, write_store
from mmcli.store.parts import ColumnKind

# Asked with --fitted only to be the same as what the imputers were fitted with.
AS_FITTED = ("method", "set", "seed", "allow_label_column")


def fill_new(settings: ImputeSettings) -> Outcome:
    """Fill one table of new patients with every fold's fitted imputer, and write a store with them.

    The table is written with the columns and codes of training: what the imputers do not know is left out or counts
    as not observed, and the message says so. New patients need no folds.
    """
    assert settings.fitted is not None
    inputs = [*settings.stores, settings.fitted]
    existing = existing_request(settings.out, inputs, settings.force)
    with Store(settings.fitted) as source, open_stores(settings) as stores:
        name, fold_set = _choose(source, settings)
        folds = source.imputations(settings.table)[name, fold_set]
        imputers = [_load(source, settings.table, name, fold_set, k) for k in folds]
        draws_there, attributes = source.imputed(settings.table, name, fold_set, folds[0])
        _check_equal(settings, imputers[0], attributes)
        answer, draws = _how(settings, imputers[0], str(attributes["answer"]), len(draws_there))
        new = find_table(stores, settings.table)
        check_values(new, settings.table, stores.patients.ids)
        _check_columns(new, imputers[0].columns, source.tables[settings.table], settings)
        table, notes = _recoded(new, imputers[0].columns)
        request = {"command": settings.command, "inputs": stores.fingerprints, "fitted": source.content_sha256,
                   "table": settings.table, "name": name, "folds": fold_set, "answer": answer,
                   "imputations": draws}  # fmt: skip
        if settings.cohort is not None:
            request["patients"] = patients_digest(stores.patients)
        data: dict[str, Any] = {"out": str(settings.out), "table": settings.table, "name": name, "fold_set": fold_set,
                "folds": len(folds), "holes": count_holes(table), "answer": answer, "fitted": str(settings.fitted),
                "notes": notes}  # fmt: skip
        rows = holes_by_column(table)
        if is_done(settings.out, request, existing, settings.force):
            return Outcome(f"{settings.out} is complete already: nothing to do", data, rows)
        what = (f"{data['holes']} holes of {settings.table} with {name} as {settings.fitted} has it fitted "
                f"({plural(len(folds), 'fold')} of {fold_set})")  # fmt: skip
        if settings.dry_run:
            return Outcome("\n".join([f"would fill {what} into {settings.out}", *notes]), data, rows)
        started = time.perf_counter()
        made = []
        holes, ids = ~table.observed, stores.patients.ids
        with threadpool_limits(1):
            pairs = zip(folds, imputers, strict=True)
            for k, imputer in track(pairs, len(folds), f"impute {settings.table}", settings.quiet):
                filled = imputer.transform(table.values, ids, draws=draws, answer=answer)  # type: ignore[arg-type]
                own = source.imputed(settings.table, name, fold_set, k)[1]
                own.pop("sha256", None)
                own |= {"answer": answer, "fitted_in": source.content_sha256}
                made.append(Imputation(settings.table, name, fold_set, k, filled[:, holes], own, imputer.state()))
        tables = {**stores.tables, settings.table: table}
        data["content_sha256"] = write_store(settings.out, request, stores.patients, tables, imputations=made)
        data["seconds"] = round(time.perf_counter() - started, 3)
    message = filled_message(settings, table, what, draws, data["seconds"])
    return Outcome("\n".join([message, *notes]), data, rows)


def _choose(source: Store, settings: ImputeSettings) -> tuple[str, str]:
    """The one imputation (name, fold set) of the table that the store holds, or that --name and --folds name."""
    where = f"--fitted {settings.fitted}"
    if settings.table not in source.tables:
        raise RequestError(f"{where}: has no table {settings.table!r}"
                           f"{did_you_mean(settings.table, list(source.tables))}")  # fmt: skip
    there = source.imputations(settings.table)
    if not there:
        raise RequestError(f"{where}: nothing is imputed in table {settings.table}; give a store that `mmcli impute` "
                           "made")  # fmt: skip
    found = [k for k in there if settings.name in ("", k[0]) and settings.folds in ("", k[1])]
    listed = ", ".join(f"{n} for {s}" for n, s in there)
    if not found:
        asked = " and ".join(f"--{o} {v}" for o, v in (("name", settings.name), ("folds", settings.folds)) if v)
        raise RequestError(f"{where}: has no imputation {asked} of {settings.table} (there are: {listed})")
    if len(found) > 1:
        raise RequestError(f"{where}: has several imputations of {settings.table} ({listed}): choose one with --name "
                           "and --folds")  # fmt: skip
    return found[0]


def _load(source: Store, table: str, name: str, fold_set: str, fold: int) -> Imputer:
    state = source.fitted(table, name, fold_set, fold)
    if not state:
        raise RequestError(f"--fitted {source.path}: fold {fold} of {name} carries no fitted imputer; make it again "
                           "with `mmcli impute`")  # fmt: skip
    try:
        return load_imputer(state)
    except DamagedError as error:
        raise DamagedError(f"{source.path}: fold {fold} of {name}: {error}") from None


def _check_equal(settings: ImputeSettings, imputer: Imputer, attributes: dict[str, Any]) -> None:
    """What belongs to the fitting is refused beside --fitted, unless it says the same."""
    given = [n for n in AS_FITTED if n in settings.model_fields_set]
    wrong = ""
    if "method" in given and settings.method != imputer.name:
        wrong = f"--method {settings.method}: the imputers there are {imputer.name}"
    elif "seed" in given and settings.seed != attributes.get("seed"):
        wrong = f"--seed {settings.seed}: the imputers there were fitted with {attributes.get('seed')}"
    elif "set" in given:
        asked = fill_options(type(imputer.settings), settings.set, f"imputer {imputer.name}").model_dump(mode="json")
        own = imputer.settings.model_dump(mode="json")
        differs = [n for n in settings.set if asked[n] != own[n]]
        wrong = f"--set {differs[0]}={settings.set[differs[0]]}: {own[differs[0]]} there" if differs else ""
    elif settings.allow_label_column and not attributes.get("label_columns"):
        wrong = "--allow-label-column: the imputers there saw no label"
    if wrong:
        raise RequestError(f"--fitted {settings.fitted} fits nothing again, and {wrong}; leave the option out")


def _how(settings: ImputeSettings, imputer: Imputer, answer: str, draws: int) -> tuple[str, int]:
    """Answer and number of draws: the original's where they are not given."""
    given = settings.model_fields_set
    if "answer" in given:
        answer, draws = settings.answer, draws if settings.answer == "draw" == answer else 1
    if "imputations" in given:
        draws = settings.imputations
        answer = "draw" if draws > 1 else answer
    if answer == "draw" and draws > imputer.draws:
        raise RequestError(
            f"--fitted {settings.fitted}: its imputers were fitted for "
            f"{plural(imputer.draws, 'draw') if imputer.draws else 'no draws'}, not {draws}; make it again with "
            f"--imputations {max(draws, 2)}"
        )
    return answer, draws


def _check_columns(new: Table, known: Columns, trained: Table, settings: ImputeSettings) -> None:
    """RequestError for a column that is missing, or means something else than in training."""
    where = ", ".join(map(str, settings.stores))
    kinds = dict(zip(known.names, known.kinds, strict=True))
    for column, kind in kinds.items():
        if column not in new.columns:
            raise RequestError(f"{where}: table {settings.table} lacks the column {column!r} that "
                               f"{settings.fitted} was fitted with")  # fmt: skip
        j = new.columns.index(column)
        if not new.observed[:, j].any():  # nothing tells the kind of a column without values
            continue
        what = f"{where}: column {column!r} of table {settings.table}"
        if new.kinds[j] != kind:
            raise RequestError(f"{what} is {new.kinds[j]}, {settings.fitted} was fitted with {kind} values; say "
                               f"kinds: {{{column}: {kind}}} in the cohort")  # fmt: skip
        if kind == "ordinal" and new.categories[column] != known.categories[column]:
            raise RequestError(f"{what} has the order {_listed(new.categories[column])}, {settings.fitted} was fitted "
                               f"with {_listed(known.categories[column])}")  # fmt: skip
        units = trained.units.get(column, ""), new.units.get(column, "")
        if all(units) and units[0] != units[1]:
            raise RequestError(f"{what} is in {units[1]}, {settings.fitted} was fitted with {units[0]}")


def _listed(names: list[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= 60 else text[:57] + "..."


def _recoded(new: Table, known: Columns) -> tuple[Table, list[str]]:
    """The table in training's columns and codes, and what that left out."""
    values = np.full((len(new.present), len(known.names)), np.nan)
    notes = []
    for j, (column, levels) in enumerate(zip(known.names, known.levels(), strict=True)):
        old = new.values[:, new.columns.index(column)]
        if not levels or np.isnan(old).all():
            values[:, j] = old
            continue
        values[:, j], unknown = _codes(old, new.categories[column], known.categories[column])
        if unknown:
            cells = int((np.isnan(values[:, j]) & ~np.isnan(old)).sum())
            notes.append(f"column {column}: {_listed(unknown)} was not in training, so that {plural(cells, 'cell')} "
                         f"{'counts' if cells == 1 else 'count'} as not observed")  # fmt: skip
    left = [c for c in new.columns if c not in known.names]
    if left:
        notes.append(f"left out, as the imputers do not know them: columns {_listed(left)}")
    observed = ~np.isnan(values)
    kinds: list[ColumnKind] = list(known.kinds)
    units = {c: u for c, u in new.units.items() if c in known.names}
    return Table(list(known.names), kinds, dict(known.categories), new.present, values, observed, units), notes


def _codes(old: Floats, names: list[str], known: list[str]) -> tuple[Floats, list[str]]:
    """Codes into `names` as codes into `known`, NaN where there is none; and the names that are not known."""
    code = np.array([float(known.index(n)) if n in known else np.nan for n in names] + [np.nan])
    used = np.where(np.isnan(old), len(names), old).astype(np.int64)
    return code[used], [names[i] for i in np.unique(used[used < len(names)]) if np.isnan(code[i])]
