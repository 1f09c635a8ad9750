"""A section after TRIPOD+AI (Collins et al., BMJ 2024; 385: e078378): what the runs' provenance answers, item by item.

Item numbers are the statement's; the wording is ours. What only the authors know is listed as theirs, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcli.evaluation.reporting import recorded
from mmcli.evaluation.reporting.methods import versions
from mmcli.evaluation.reporting.says import decision, pattern
from mmcli.evaluation.reporting.shown import about, joined, records, share, title, values
from mmcli.evaluation.reporting.summary import Asked, Summary
from mmcli.evaluation.result import Result

Item = tuple[str, str, list[str]]

AUTHORS = (
    ("1-4", "Title, abstract, background, known health inequalities, objectives"),
    ("5a, 5b", "Where the data come from and why, how representative they are, and dates of accrual and follow-up"),
    ("6a-6c", "Setting and centres, who was eligible, treatments received"),
    ("7", "How raw data were prepared before mmcli read them, and their quality"),
    ("8a-8c", "What the outcome is, how, when and by whom it was assessed, and whether blinded"),
    ("9b, 9c", "How and when predictors were measured, and by whom"),
    ("10", "How the sample size was justified"),
    ("14", "What was done for fairness, and why"),
    ("17, 18a-18f", "Ethics, funding, conflicts of interest, protocol, registration, sharing of data and code"),
    ("19", "Involvement of patients and the public"),
    ("20b", "Characteristics of the participants"),
    ("25-27", "Interpretation, limitations, usability of the model, next steps"),
)


def items(result: Result, summary: Summary, asked: Asked) -> list[Item]:
    """(item, topic, what is known of it), in the statement's order."""
    inputs: dict[str, Any] = result.about.get("inputs", {})
    runs = {name: recorded.Run.of(name, inputs.get(name, {})) for name in summary.names}
    measured = values(result.metrics, "metric")
    found: list[Item] = [
        ("5a", "Source of the data, as mmcli read it", _each(runs, recorded.Run.source)),
        ("9a", "Predictors", _each(runs, recorded.Run.predictors)),
        ("11", "Missing data", _missing(result, summary) + _each(runs, recorded.Run.holes)),
        ("12a", "Data use: splits and folds", _each(runs, recorded.Run.splits)),
        ("12c", "Model and settings", _each(runs, recorded.Run.model)),
        ("12c", "Tuning", _each(runs, recorded.Run.tuning)),
        ("12e", "Performance measures", _measures(measured)),
        ("12g", "How predictions became decisions", [decision(asked)]),
        ("13", "Class imbalance", _each(runs, recorded.Run.imbalance)),
        ("16", "Training and evaluation", _apart(runs, asked)),
        ("20a, 21", "Participants and events evaluated", _participants(summary, asked)),
        ("21", "Participants and events of each split", _splits(result, summary, runs)),
        ("23a", "Performance with intervals, and by subgroup", _performance(result, asked)),
        ("12, 18f", "Software", [", ".join(f"{k} {v}" for k, v in versions().items()) + " (evaluation)",
                             *_each(runs, recorded.Run.software)]),
        ("12", "Machine and time", _each(runs, recorded.Run.machine)),
    ]  # fmt: skip
    return [(item, topic, known) for item, topic, known in found if known]


def _apart(runs: dict[str, recorded.Run], asked: Asked) -> list[str]:
    if asked.split != "test":
        return [
            f"Figures are of the {asked.split} split, whose patients training saw: they are not those of new patients"
        ]
    return _each(runs, recorded.Run.apart)


def _each(runs: dict[str, recorded.Run], what: Any) -> list[str]:
    """What each run says, runs that say the same together."""
    same: dict[str, list[str]] = {}
    for name, run in runs.items():
        if words := what(run):
            same.setdefault(words, []).append(name)
    if len(same) == 1 and len(runs) > 1 and len(next(iter(same.values()))) == len(runs):
        return [f"All runs: {next(iter(same))}"]
    return [f"{joined(names)}: {words}" for words, names in same.items()]


def _participants(summary: Summary, asked: Asked) -> list[str]:
    said = []
    for task in summary.tasks:
        each = ", ".join(f"{c} {n} ({share(n, task.n)})" for c, n in task.per_class.items())
        said.append(f"{task.name}, {asked.split} split: {task.patients} patients; {each}")
        left = [r for r in summary.of(task.name) if r.main and r.unlabelled]
        said += [f"{r.run}: {r.unlabelled} without a label left out" for r in left]
    return said


def _splits(result: Result, summary: Summary, runs: dict[str, recorded.Run]) -> list[str]:
    """Patients and events a split and fold; runs on the same folds are said once."""
    said: dict[tuple[str, ...], list[str]] = {}
    for task in summary.tasks:
        labels: dict[str, str] = {}
        for p in result.predictions:
            if p.task == task.name:
                labels |= {str(i): p.classes[k] for i, k in zip(p.patients, p.y, strict=True)}
        for name, run in runs.items():
            if lines := run.events(labels, task.classes):
                said.setdefault(tuple(f"{task.name}, {line}" for line in lines), []).append(name)
    found = []
    for each, names in said.items():
        whose = "" if len(names) == len(runs) else f"{joined(names)}: "
        found += [f"{whose}{line}" for line in each]
    return found


def _missing(result: Result, summary: Summary) -> list[str]:
    """Per modality and table from the stores where they were read, and the patterns that predictions rest on."""
    said = []
    same: dict[str, list[str]] = {}
    inputs: dict[str, Any] = result.about.get("inputs", {})
    for run in summary.names:
        for name, m in ((inputs.get(run) or {}).get("missingness") or {}).items():
            same.setdefault(_modality(name, m), []).append(run)
    said += [w if len(runs) == len(summary.names) else f"{joined(runs)}: {w}" for w, runs in same.items()]
    patterns: dict[tuple[str, str], dict[str, int]] = {}
    for r in records(result.subgroups, by="modalities"):
        patterns.setdefault((r["run"], r["task"]), {})[pattern("modalities", r["subgroup"])] = r["n"]
    for (run, task), each in patterns.items():
        where = f"{run}, {task}" if len(summary.tasks) > 1 else run
        total = sum(each.values())
        words = "; ".join(f"{name} {n} ({share(n, total)})" for name, n in each.items())
        said.append(f"{where}, modalities that predictions rest on: {words}")
    return said


def _modality(name: str, m: dict[str, Any]) -> str:
    n = int(m["patients"])
    words = f"{name} ({m['kind']}): present for {m['present']} of {n} patients ({share(m['present'], n)})"
    if m.get("failed"):
        words += f", could not be read for {m['failed']}"
    if m["kind"] == "table":
        holes = share(m["cells"] - m["observed"], m["cells"])
        words += f"; {holes} of the cells of those patients are not observed ({m['columns']} columns)"
    return words


def _measures(names: Sequence[str]) -> list[str]:
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(about(name), []).append(title(name))
    return [f"{kind}: {', '.join(own)}" for kind, own in kinds.items()]


def _performance(result: Result, asked: Asked) -> list[str]:
    columns = values(result.subgroups, "by")
    said = ["in the tables above" + (f", with {asked.level} intervals" if asked.bootstrap else ", without intervals")]
    if columns:
        said.append(f"by {joined(columns)}")
    else:
        said.append("not by subgroup: --by was not given")
    return said
