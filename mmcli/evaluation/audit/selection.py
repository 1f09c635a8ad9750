"""Selection on test data: which epoch was kept, who stands in which split, whom priors and class weights count."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmcli.errors import DamagedError
from mmcli.evaluation.audit.report import FINDING, Report, count, named
from mmcli.evaluation.audit.subject import OTHERS, AuditedPart, AuditedRun, Roles, Subject, ordinary
from mmcli.registry import Registry
from mmcli.store import Label
from mmcli.store.parts import ROLES, TEST, TRAIN, UNUSED
from mmcli.training.method import Phase
from mmcli.training.part import HISTORY, read_part

AGAIN = "train the run again with this mmcli; only validation patients may choose anything"
SPLITS = {role: name for name, role in ROLES.items()} | {UNUSED: "unused"}


def check(subject: Subject) -> Report:
    """Of every part: that each phase ended where its validation loss says; that each prediction's split is the
    patient's role in run.json, each patient in one split, each test patient predicted, and the labels those of the
    stores; that prior and class weights are those of the labelled training patients. All else is a finding."""
    report = Report()
    for run in subject.runs:
        wrong: dict[tuple[str, str], list[str]] = {}
        tested: set[str] = set()
        parts = list(run.parts())
        unknown = 0
        for part in parts:
            epochs, looked = _epochs(part, subject.methods)
            unknown += not looked
            for what, remedy in [*epochs, *_splits(run, part, tested), *_counts(run, part)]:
                wrong.setdefault((what, remedy), []).append(part.name)
        report.checked.append(
            f"selection: epochs, splits, labels, priors of {count(len(parts), 'part')} of {run.name}; "
            f"{count(len(tested), 'labelled test patient')}"
        )
        if unknown:
            report.skipped.append(
                f"selection: {run.name}: {count(unknown, 'part')} had no phase that validation patients stop: all "
                "epochs were trained and the last one was kept"
            )
        if run.stores is None:
            report.skipped.append(f"selection: labels of {run.name}: {run.reason}")
        for (what, remedy), where in wrong.items():
            report.add(FINDING, "selection", f"{run.name}, {named(where)}", what, remedy)
    return report


Wrong = list[tuple[str, str]]


def _epochs(part: AuditedPart, methods: Registry) -> tuple[Wrong, bool]:
    """What is wrong with the epochs of a part, and whether any phase was stopped by validation at all."""
    found: Wrong = []
    looked = False
    history = _history(part)
    for phase in read_part(part.folder, methods).method.phases():
        losses = history.get(phase.name, [])
        if phase.patience > 0 and losses and all(loss is not None for loss in losses):
            looked = True
            if (said := _ended(phase, [float(loss) for loss in losses if loss is not None])) is not None:
                found.append((f"phase {phase.name!r} {said}", AGAIN))
    return found, looked


def _ended(phase: Phase, losses: list[float]) -> str | None:
    """None where training ended `patience` epochs after the lowest validation loss, or after all epochs."""
    best, last = int(np.argmin(losses)), len(losses) - 1
    if last - best == phase.patience or (last == phase.epochs - 1 and last - best < phase.patience):
        return None
    return (
        f"ended in epoch {last}; the validation loss was lowest in epoch {best}, and {phase.patience} more epochs (or "
        f"{phase.epochs} in all) end it: something else than the validation patients chose the epoch"
    )


def _history(part: AuditedPart) -> dict[str, list[float | None]]:
    path = part.folder / HISTORY
    losses: dict[str, list[float | None]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                text = row["validation_loss"]
                losses.setdefault(row["phase"], []).append(float(text) if text else None)
        if not losses:
            raise ValueError("it has no epoch")
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DamagedError(f"{path}: damaged ({' '.join(str(error).split())}); train it again") from None
    return losses


def _splits(run: AuditedRun, part: AuditedPart, tested: set[str]) -> Wrong:
    """Roles, double rows and labels of the part's prediction files; adds its labelled test patients to `tested`."""
    found: Wrong = []
    roles = run.assignment(part.fold)
    for task in run.about["tasks"]:
        frame = part.predictions(task)
        ids, splits = frame["patient_id"].astype(str), frame["split"].astype(str)
        expected = ids.map(lambda patient: SPLITS[roles.get(patient, UNUSED)])
        off = ids[(splits != expected).to_numpy()].unique().tolist()
        if off:
            found.append((
                f"{task}: the split of {count(len(off), 'patient')} in the predictions is not that of run.json "
                f"({named(off)})", AGAIN,
            ))  # fmt: skip
        per = frame.groupby(ids)["split"].nunique()
        both = per.index[per > 1].tolist()
        if both:
            found.append((f"{task}: two splits of one part hold {count(len(both), 'patient')} ({named(both)})", AGAIN))
        main = ids[ordinary(frame)]
        lacking = sorted({p for p, role in roles.items() if role == TEST} - set(main))
        if lacking:
            found.append((
                f"{task}: no prediction for {count(len(lacking), 'test patient')} ({named(lacking)})",
                "train the part again: leaving test patients out is a choice made on them",
            ))  # fmt: skip
        known = frame["label"].notna().to_numpy()
        tested |= set(ids[known & (splits == "test").to_numpy()])
        found += _labels(run, task, ids, frame["label"])
    return found


def _labels(run: AuditedRun, task: str, ids: pd.Series, labels: pd.Series) -> Wrong:
    if run.stores is None or task not in run.stores.patients.labels:
        return []
    label = run.stores.patients.labels[task]
    texts = [label.classes[v] if v >= 0 else "" for v in label.values]
    known = dict(zip(run.stores.patients.ids, texts, strict=True))
    own = labels.astype(object).where(labels.notna(), "").astype(str)
    off = ids[(own != ids.map(known)).to_numpy() & ids.isin(list(known)).to_numpy()].unique().tolist()
    if not off:
        return []
    what = f"{task}: the label of {count(len(off), 'patient')} in the predictions is not that of the stores"
    return [(f"{what} ({named(off)})", "give the cohort that the run was trained with (--cohort), or train it again")]


def _counts(run: AuditedRun, part: AuditedPart) -> Wrong:
    """Prior and class weights of part.json against the labelled training patients of the stores."""
    found: Wrong = []
    if run.stores is None:
        return found
    roles = run.roles(part.fold)
    for task in part.head["spec"]["tasks"]:
        label = run.stores.patients.labels.get(task["name"])
        if label is None or label.classes != task["classes"]:
            continue
        saved = np.array([task["prior"], task["weights"]], float)
        if np.allclose(saved, _prior_and_weights(label, roles, (TRAIN,)), atol=1e-9):
            continue
        sets = (name for name, own in OTHERS.items() if np.allclose(saved, _prior_and_weights(label, roles, own)))
        source = next(sets, "no set of the fold's roles")
        what = f"{task['name']}: prior and class weights are those of {source}, not of the training patients"
        found.append((what, AGAIN))
    return found


def _prior_and_weights(label: Label, roles: Roles, members: tuple[int, ...]) -> NDArray[np.float64]:
    """(2, K): each class's share, and n / (K n_c), of the labelled patients with these roles."""
    y = label.values[np.isin(roles, members) & (label.values >= 0)]
    n = np.bincount(y, minlength=len(label.classes)).astype(float)
    weights = np.where(n > 0, len(y) / (max(int((n > 0).sum()), 1) * np.maximum(n, 1)), 0)
    return np.array([n / max(len(y), 1), weights])
