"""Groups that a fold splits, and runs that were trained on other folds than the stores have."""

from __future__ import annotations

import numpy as np

from mmcli.evaluation.audit.report import FINDING, WARNING, Report, count, named
from mmcli.evaluation.audit.subject import AuditedRun, Roles, Subject
from mmcli.store.parts import TEST, TRAIN, UNUSED, VALIDATION

NAMES = {UNUSED: "unused", TRAIN: "training", VALIDATION: "validation", TEST: "test"}


def check(subject: Subject) -> Report:
    """A group (site, family) of which a fold has members on both sides of a border is a finding at the border to test,
    a warning at the one between training and validation. A run in which a patient has another role than in the
    stores is a finding where somebody crosses the border to test."""
    report = Report()
    sets = {name: subject.stores.patients.folds[name] for name in subject.fold_sets}
    if subject.stores.patients.group is not None:
        group = np.array(subject.stores.patients.group, dtype=object)
        for name, roles in sets.items():
            _groups(report, name, roles, group)
        known = len(set(group[group != ""]))
        report.checked.append(f"folds: {count(known, 'group')} in {count(len(sets), 'fold set')}")
    elif sets:
        report.skipped.append("folds: the stores have no group, so that no fold can split one")
    for run in subject.runs:
        _run(report, run, subject)
    return report


def _groups(report: Report, name: str, roles: Roles, group: np.ndarray) -> None:
    for border, severity in (((TRAIN, VALIDATION), (TEST,)), FINDING), (((TRAIN,), (VALIDATION,)), WARNING):
        split: dict[str, int] = {}
        for k in range(roles.shape[1]):
            sides = [set(group[np.isin(roles[:, k], side)]) - {""} for side in border]
            for one in sorted(sides[0] & sides[1]):
                split[one] = split.get(one, 0) + 1
        if split:
            between = f"{' or '.join(NAMES[r] for r in border[0])} and {NAMES[border[1][0]]}"
            report.add(
                severity, "folds", f"fold set {name}",
                f"{count(len(split), 'group')} with patients in {between} of one fold ({named(list(split))})",
                "make the folds with the cohort's group (n: ..., group: ...), and give it by --cohort",
            )  # fmt: skip


def _run(report: Report, run: AuditedRun, subject: Subject) -> None:
    name = run.about["fold_set"]
    theirs = subject.stores.patients.folds.get(name)
    if theirs is None:
        report.skipped.append(f"folds: {run.name} was trained on the fold set {name!r}, which the stores lack")
        return
    if theirs.shape[1] != len(run.about["folds"]):
        report.add(
            FINDING, "folds", run.name,
            f"it has {len(run.about['folds'])} folds of {name!r}, the stores have {theirs.shape[1]}",
            "give the cohort that it was trained with (--cohort), or train it again",
        )  # fmt: skip
        return
    index = {patient: i for i, patient in enumerate(subject.ids)}
    crossing: list[str] = []
    other: list[str] = []
    for patient, text in run.about["fold_assignment"].items():
        if patient not in index:
            continue
        now, was = theirs[index[patient]], np.array([int(r) for r in text])
        if ((was != now) & ((was == TEST) | (now == TEST)) & (was != UNUSED) & (now != UNUSED)).any():
            crossing.append(patient)
        elif (was != now).any():
            other.append(patient)
    shared = len(index.keys() & run.about["fold_assignment"].keys())
    report.checked.append(f"folds: the roles of {shared} patients in {run.name} against the stores' {name!r}")
    if crossing or other:
        hint = f"the run had its own folds from {run.settings['cohort']}; " if run.settings.get("cohort") else ""
        what = f"{count(len(crossing), 'patient')} cross the border to test" if crossing else "none crosses to test"
        report.add(
            FINDING if crossing else WARNING, "folds", run.name,
            f"{len(crossing) + len(other)} patients have another role in a fold of {name!r} than in the stores "
            f"({named([*crossing, *other])}); {what}",
            f"{hint}give that cohort (--cohort), or train it again on these folds: such runs cannot be compared",
        )  # fmt: skip
