"""`mmcli impute --benchmark`: which imputer comes nearest to cells that are known, on the user's own table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmcli.errors import RequestError
from mmcli.evaluation.imputation.benchmark import BASELINE, Benchmark
from mmcli.evaluation.imputation.benchmark import run as measure
from mmcli.evaluation.imputation.experiment import Plan, own_options
from mmcli.evaluation.imputation.hiding import WAYS, choose_driver
from mmcli.evaluation.imputation.measures import LEAST_DRAWS
from mmcli.evaluation.imputation.report import CONTENT, REPORT, from_content, write_report
from mmcli.evaluation.imputation.text import lines, tables
from mmcli.files import publish_folder
from mmcli.imputers import IMPUTERS, make_imputer
from mmcli.progress import note
from mmcli.registry import did_you_mean
from mmcli.settings import ImputeSettings
from mmcli.stages.common import choose_fold_set, open_stores, patients_digest
from mmcli.stages.impute import allowed, find_table, plural
from mmcli.stages.impute_checks import check_folds, check_table
from mmcli.stages.impute_kept import Kept
from mmcli.stages.outcome import Outcome, existing_report, is_done, refuse_input
from mmcli.store import Label, Stores
from mmcli.store.parts import TEST

OURS = ("benchmark.", "report.html", "seconds.csv", "forest.", "missingness.", "densities-")


def run_benchmark(settings: ImputeSettings) -> Outcome:
    """Hide known cells, impute them with each method, and write the report's directory as a whole."""
    given = settings.model_fields_set
    if settings.fitted is not None:
        raise RequestError("--benchmark fits every method itself: leave out --fitted")
    for option in ("name", "answer"):
        if option in given:
            raise RequestError(f"--{option} has no meaning with --benchmark: it fills no store, and takes every answer")
    methods = _methods(settings)
    draws = settings.imputations if "imputations" in given else LEAST_DRAWS
    refuse_input(settings.out, settings.stores)
    with open_stores(settings) as stores:
        fold_set = choose_fold_set(stores, settings.folds)
        table = find_table(stores, settings.table)
        labels = check_table(table, settings.table, stores.patients, settings.allow_label_column)
        roles = stores.patients.folds[fold_set]
        check_folds(table, settings.table, roles, fold_set)
        if not (roles == TEST)[table.observed.any(1)].any():
            raise RequestError(f"--benchmark: no test patient of {fold_set} has a value in table {settings.table}; "
                               "choose another fold set with --folds")  # fmt: skip
        driver = choose_driver(table.values, table.kinds)
        for column in settings.spare:
            if column not in table.columns:
                raise RequestError(f"--spare: no column {column!r}{did_you_mean(column, table.columns)}")
        plan = Plan(table, stores.patients.ids, roles, _labels(stores, settings.label), draws, settings.seed, driver,
                    tuple(settings.spare))  # fmt: skip
        request = {"command": "impute", "inputs": stores.fingerprints, **settings.request(), "method": methods,
                   "folds": fold_set, "imputations": draws, "label": list(plan.labels)}  # fmt: skip
        if settings.cohort is not None:
            request["patients"] = patients_digest(stores.patients)
        existing = existing_report(settings.out, CONTENT, "rows", OURS, "benchmark")
        data = {"out": str(settings.out), "report": str(settings.out / REPORT), "methods": methods}
        if is_done(settings.out, request, existing and existing["request"], settings.force):
            assert existing is not None
            again = _again(plan, existing)
            return _outcome(again, data, [f"{settings.out} holds this benchmark already: nothing to do"])
        ways = [way for way in WAYS if way != "column" or driver >= 0]
        what = (f"{', '.join(methods)} on {settings.table} in {plural(plan.folds, 'fold')} of {fold_set}, cells hidden "
                f"{', '.join(WAYS[w] for w in ways)}")  # fmt: skip
        if settings.dry_run:
            return Outcome(f"would compare {what} into {settings.out}", data)
        count = len(ways) * (len(plan.labels) + len({BASELINE, *methods}))
        kept = Kept(settings.out, request)
        result = measure(plan, methods, settings.set, ways, settings.resamples, settings.confidence,
                         _counting(count, settings.quiet), kept)  # fmt: skip
    if not (result.table["column"] != "").any():
        kept.remove()
        raise RequestError(
            f"--benchmark: no column of {settings.table} has five hidden cells among the test patients and a spread "
            "among the training patients; the table is too small, or --spare leaves nothing"
        )
    result.notes += _notes(result, ways, draws, labels)
    with publish_folder(settings.out) as folder:
        write_report(folder, result, request, settings.confidence)
    kept.remove()
    data["seconds"] = {m: round(s, 2) for m, s in result.seconds.items()}  # type: ignore[assignment]
    return _outcome(result, data, [])


def _methods(settings: ImputeSettings) -> list[str]:
    """The methods of the comma list, or all; RequestError for an unknown name or an option that none of them has."""
    named = [m.strip() for m in settings.method.split(",") if m.strip()]
    methods = list(dict.fromkeys(named)) if "method" in settings.model_fields_set else IMPUTERS.names()
    if not methods:
        raise RequestError("--method: names none; give for example --method mice,mean")
    for method in methods:
        make_imputer(method, own_options(method, settings.set))
    for name in settings.set:
        known = {n for m in methods for n in make_imputer(m).Settings.model_fields}
        if name not in known:
            raise RequestError(f"--set: none of {', '.join(methods)} has an option {name!r}"
                               f"{did_you_mean(name, sorted(known))}")  # fmt: skip
    return methods


def _labels(stores: Stores, asked: list[str]) -> dict[str, Label]:
    """The labels of --label, or all that have two classes."""
    known = stores.patients.labels
    for task in asked:
        if task not in known:
            raise RequestError(f"--label: unknown label {task!r}{did_you_mean(task, list(known))}")
    return {t: y for t, y in known.items() if (t in asked or not asked) and len(set(y.values[y.values >= 0])) > 1}


def _counting(count: int, quiet: bool) -> Callable[[str], None]:
    done = iter(range(1, count + 1))
    return lambda said: note(f"impute --benchmark {next(done, count)}/{count}: {said}", quiet)


def _notes(result: Benchmark, ways: list[str], draws: int, labels: list[str]) -> list[str]:
    said = allowed(labels)
    if "column" not in ways:
        said.append("Nothing was hidden by another column: the table has no other column with an order.")
    if draws < LEAST_DRAWS:
        said.append(f"Coverage of 90 % intervals needs {LEAST_DRAWS} draws; --imputations {draws} are too few.")
    if result.plan.folds == 1:
        said.append("One split alone: the intervals say nothing about another division of the patients.")
    measured = set(result.table["column"]) - {""}
    few = [c for c in result.plan.columns.names if c not in measured and c not in result.plan.spared]
    if result.plan.spared:
        said.append(f"Never hidden: {', '.join(result.plan.spared)}.")
    if few:
        said.append(f"Not measured (fewer than five hidden test cells, or constant in training): {', '.join(few)}.")
    return said


def _outcome(result: Benchmark, data: dict[str, Any], first: list[str]) -> Outcome:
    rows = [
        {str(k): v for k, v in row.items()}
        for row in result.table[result.table["column"] == ""]
        .astype(object)
        .where(lambda t: t.notna(), None)
        .to_dict("records")
    ]
    message = "\n".join([*first, *lines(result), f"Report: {data['report']}"])
    return Outcome(message, data, rows, tables=tables(result))


def _again(plan: Plan, content: dict[str, Any]) -> Benchmark:
    """What benchmark.json says, as far as the terminal shows it."""
    table = from_content(content)
    methods = [str(m) for m in content["methods"]]
    shown = Benchmark(table, plan, methods, notes=list(content["notes"]))
    shown.hidden = dict.fromkeys(dict.fromkeys(table["way"]))  # type: ignore[assignment]
    return shown
