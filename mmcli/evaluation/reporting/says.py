"""Sentences: what was compared, what must be known to read the figures, and what a reader must not overlook."""

from __future__ import annotations

import math

import pandas as pd

from mmcli.evaluation.reporting.shown import (
    Row,
    cell,
    counted,
    grouped,
    joined,
    number,
    records,
    share,
    title,
    values,
    who,
)
from mmcli.evaluation.reporting.summary import Asked, Summary, Task
from mmcli.evaluation.result import Result

# From here on an AUC is what people would praise; with one decision for everyone it then misleads.
PRAISED = 0.7
KINDS = {
    "percentile": "percentile", "basic": "basic", "bca": "BCa", "expanded": "expanded", "wilson": "Wilson",
    "mover": "Wilson, MOVER",
}  # fmt: skip
BY_FORMULA = "of proportions and balanced accuracy by formula (Wilson, MOVER)"


def compared(task: Task, asked: Asked) -> str:
    """Patients and classes of a task."""
    rows = "" if task.n == task.patients else f" ({counted(task.n, 'row')})"
    each = []
    for k, (name, n) in enumerate(task.per_class.items()):
        positive = ", the positive class" if len(task.classes) == 2 and k == 1 else ""
        each.append(f"{name} {n} ({share(n, task.n)}{positive})")
    order = ", in this order" if task.ordinal else ""
    return f"{counted(task.patients, 'patient')}{rows} of the {asked.split} split. Classes{order}: {', '.join(each)}."


def baselines(task: Task) -> str:
    """What a model that knows nothing but the classes' shares would reach."""
    shares = [n / task.n for n in task.per_class.values()] if task.n else []
    brier = sum(s * (1 - s) for s in shares) / (2 if len(shares) == 2 else 1)
    return (
        "To compare with: giving every patient the classes' shares among these patients as probabilities has an AUC of "
        f"0.500, a balanced accuracy of {number(1 / len(task.classes))} and a Brier score of {number(brier)}."
    )


def how_to_read(summary: Summary, asked: Asked, result: Result) -> list[str]:
    """The sentences above all tables."""
    one = "row (a patient may have several)" if any(t.n != t.patients for t in summary.tasks) else "patient"
    said = [
        f"A pooled figure takes each {one} once, with the mean of the probabilities of all parts (folds and seeds) "
        f"that have it in the {asked.split} split. {decision(asked)}"
    ]
    if asked.bootstrap:
        within = ", drawn within the classes" if asked.stratify else ""
        formula = f"; {BY_FORMULA}, which holds its level where the bootstrap does not" if asked.formula_first else ""
        said.append(
            f"Intervals are {asked.level} {KINDS[asked.drawn_kind]} intervals of {asked.resamples} bootstrap resamples "
            f"of {asked.unit}{within} (seed {asked.seed}){formula}. All runs and "
            "metrics share the resamples, so that a difference of two runs is a paired one. They say how the figures "
            "vary with the patients, not with the training."
        )
    elif values(result.metrics, "analytic"):
        said.append(f"Intervals are {asked.level} intervals by formula; for all metrics ask for --bootstrap-ci.")
    else:
        said.append("There are no intervals: --bootstrap-ci was not given.")
    for task in summary.tasks:
        if not task.same_patients:
            said.append(
                f"{task.name}: the runs have different patients. Compare figures on the same number of patients only; "
                "differences are on the patients that both have."
            )
        elif len({r.n for r in summary.of(task.name)}) > 1:
            said.append(
                f"{task.name}: a variant answers for the patients who have what it needs. Compare figures on the "
                "same n only."
            )
    return said


def drawn(result: Result) -> str:
    """Which runs predicted from several imputations; empty where none did."""
    many: dict[int, list[str]] = {}
    for p in result.predictions:
        if p.draws is not None and p.run not in many.setdefault(len(p.draws), []):
            many[len(p.draws)].append(p.run)
    return " ".join(f"{joined(names)} predicted from {m} imputations." for m, names in many.items())


def decision(asked: Asked) -> str:
    """How classes are decided."""
    if asked.threshold == "argmax":
        return "The decision is the likeliest class; no threshold was tuned."
    try:
        return f"Of two classes the decision is the positive one from the probability {float(asked.threshold):g} on."
    except ValueError:
        return (
            f"Of two classes the decision is made at a threshold that each part found on its own validation patients "
            f"({asked.threshold}); of more classes the likeliest is decided."
        )


def never_predicted(result: Result, task: Task) -> list[tuple[str, str, float]]:
    """(run, class that it decides for nobody, its AUC), by the decisions' sensitivity and specificity.

    A class is decided for nobody where its sensitivity is 0 and its specificity is 1.
    """
    metrics = grouped(records(result.metrics, task=task.name), "run", "variant")
    found = []
    for (run, variant), row in metrics.items():
        auc = _value(row, "auc")
        if len(task.classes) == 2:
            both = (_value(row, "sensitivity"), _value(row, "specificity"))
            never = {(0.0, 1.0): [task.classes[1]], (1.0, 0.0): [task.classes[0]]}.get(both, [])
        else:
            own = grouped(records(result.classes, task=task.name, run=run, variant=variant), "class")
            never = [
                c
                for (c,), m in own.items()
                if {"sensitivity", "specificity"} <= set(m)
                and (m["sensitivity"]["value"], m["specificity"]["value"]) == (0.0, 1.0)
            ]
        found += [(who(run, variant), c, auc) for c in never]
    return found


def _value(row: dict[str, Row], metric: str) -> float:
    return float(row[metric]["value"]) if metric in row else math.nan


def unfinished(summary: Summary, task: str) -> list[str]:
    """Runs of which parts are missing."""
    return [
        f"{run.run} is not finished: {len(run.missing_parts)} of {len(run.parts) + len(run.missing_parts)} parts are "
        "missing; its figures are of the others."
        for run in summary.of(task)
        if run.missing_parts and run.main
    ]


def warnings(result: Result, task: Task) -> list[str]:
    """What a reader of the first table must not overlook."""
    said = []
    never: dict[str, list[str]] = {}
    auc: dict[str, float] = {}
    for name, c, value in never_predicted(result, task):
        never.setdefault(name, []).append(c)
        auc[name] = value
    for name, classes in never.items():
        rest = [c for c in task.classes if c not in classes]
        what = f"{name} decides {joined([f'“{c}”' for c in classes])} for no patient"
        if len(rest) == 1:
            what = f"{name} gives every patient the same decision, “{rest[0]}”"
        although = ""
        if auc[name] >= PRAISED:
            although = f", although its AUC is {number(auc[name])}: it ranks the patients and decides nothing"
        said.append(f"{what}{although}. Read the decision and calibration figures, and consider a threshold.")
    few = [f"{c} ({n})" for c, n in task.per_class.items() if n < 10]
    if few:
        said.append(f"Fewer than 10 patients of {joined(few)}: every figure that rests on them is rough.")
    return said


def unlabelled(summary: Summary, task: str) -> str:
    """How many rows had no label and were left out; empty where none."""
    own = [r for r in summary.of(task) if r.main and r.unlabelled]
    if not own:
        return ""
    same = len({r.unlabelled for r in own}) == 1 and len(own) == len([r for r in summary.of(task) if r.main])
    many = str(own[0].unlabelled) if same else ", ".join(f"{r.unlabelled} in {r.run}" for r in own)
    return f"Patients without a label, left out: {many}."


def undefined(frame: pd.DataFrame, asked: Asked) -> str:
    """How often a resample had no value; empty where never."""
    odd = records(frame[(frame["undefined"].fillna(0).astype(float) > 0) & frame["value"].notna()])
    if not odd or not asked.bootstrap:
        return ""
    worst = max(odd, key=lambda r: int(r["undefined"]))
    return (
        f"{counted(len(odd), 'figure')} had resamples in which they are undefined (a class was not drawn, or no "
        f"patient was decided so): up to {worst['undefined']} of {asked.resamples}, for {_named(worst)}. Their "
        "intervals are over the other resamples; column undefined of the files counts them."
    )


def fallbacks(frame: pd.DataFrame, asked: Asked) -> str:
    """Which intervals are of another kind than the one that was asked for; empty where none."""
    odd = records(frame[frame["interval"].isin(set(values(frame, "interval")) - asked.expected)])
    if not odd or not asked.bootstrap:
        return ""
    kinds = joined(sorted({KINDS.get(str(r["interval"]), "") for r in odd}))
    shown = [_named(r) for r in odd[:5]]
    more = f", and {len(odd) - 5} more" if len(odd) > 5 else ""
    return (
        f"{KINDS[asked.drawn_kind]} intervals were asked for and are not defined for {'; '.join(shown)}"
        f"{more}: these are {kinds} intervals. Column interval of the files names the kind of each."
    )


def _named(row: Row) -> str:
    name = f"{title(row['metric'])} of {who(row['run'], row['variant']) if 'variant' in row else row['run']}"
    if row.get("class"):
        name += f", class {row['class']}"
    return f"{name}, {row['by']} = {row['subgroup']}" if row.get("by") else name


def worst(result: Result, task: str, by: str) -> list[str]:
    """Of each run the subgroup that is worst in AUC and in balanced accuracy."""
    said = []
    rows = [r for r in records(result.subgroups, task=task, by=by) if r["worst"]]
    for (run, variant), marked in grouped(rows, "run", "variant").items():
        each = [
            f"{title(m)} {cell(marked[m])} in {pattern(by, marked[m]['subgroup'])} (n = {marked[m]['n']})"
            for m in ("auc", "balanced_accuracy")
            if m in marked
        ]
        if each:
            said.append(f"{who(run, variant)}, worst by {by}: {'; '.join(each)}.")
    return said


def pattern(by: str, value: str) -> str:
    """A subgroup's name: modalities joined by +, and 'no modality' for none."""
    if by != "modalities":
        return value or "(empty)"
    return "no modality" if value in ("", "(none)") else " + ".join(value.split(","))


CONFORMAL = (
    "Split-conformal sets, made from validation patients: the set holds every class that is not too unlikely by their "
    "standard. Their promise holds for patients who are exchangeable with validation patients that training had not "
    "seen; here the same validation patients also decided when training stopped, and chose thresholds where there "
    "are any, so that the sets may be a little too small. Coverage is promised on average over all patients, not in "
    "each subgroup."
)
SUBGROUPS = (
    "No difference between subgroups was tested. The worst of several is partly worst by chance, the more the smaller "
    "the subgroups are; read its interval."
)
PARTS = (
    "Mean ± standard deviation over the parts (folds and seeds), each on its own patients: how the figure varies with "
    "training and fold, not how sure it is. It is another figure than the pooled one: an AUC pooled over folds also "
    "compares patients of different folds."
)
