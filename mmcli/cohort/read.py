"""Read and check a cohort: everything that is wrong with it in one go."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmcli.cohort.columns import SHOWN, some
from mmcli.cohort.folds import fold_problems, given_folds, group_codes, make_folds
from mmcli.cohort.modalities import Paths, Place, read_bag, read_columns
from mmcli.cohort.model import Cohort, CohortError, ModalitySpec
from mmcli.cohort.schema import BagKeys, CohortKeys, GivenFolds, LabelKeys, MadeFolds, load_yaml, parse_keys
from mmcli.cohort.tables import Findings, TableFile, check_ids
from mmcli.registry import did_you_mean
from mmcli.store.parts import ROLES, TEST, TRAIN, VALIDATION, Label, Patients

DEFAULT_SET = "cv"


def read_cohort(path: Path, root: Path | None = None, paths: Paths = "check") -> Cohort:
    """Read a cohort's YAML and its tables, check all of it, and make its fold sets.

    The tables are looked for beside the YAML, the files that they name in `root` (default: beside the YAML too).
    With `paths="ignore"` a named file need not exist (at preprocess that is one patient's failure).

    Raises CohortError with one line for every problem; RequestError where the YAML is missing or no YAML at all.
    """
    cohort, findings = examine_cohort(path, root, paths)
    if cohort is None:
        raise CohortError(Path(path), findings.problems)
    return cohort


def examine_cohort(path: Path, root: Path | None = None, paths: Paths = "check") -> tuple[Cohort | None, Findings]:
    """Like `read_cohort`, but problems are returned with the warnings: the cohort is None when there are any."""
    path = Path(path)
    findings = Findings()
    keys, findings.problems = parse_keys(path, load_yaml(path))
    table = TableFile.read(path.parent / keys.patients, findings) if keys is not None else None
    if keys is None or table is None:
        return None, findings
    base = Path(os.path.abspath(root if root is not None else path.parent))  # noqa: PTH100  (links stay links)
    if root is not None and not base.is_dir():
        findings.problems.append(f"--root: {root} is no folder")
    ids = table.texts(keys.id, "id", path, findings)
    if ids is None:
        return None, findings
    check_ids(table, keys.id, ids, findings)
    group = _group(path, keys, table, findings)
    labels = {name: _label(path, table, name, label, findings) for name, label in keys.labels.items()}
    good_labels = {name: label for name, label in labels.items() if label is not None}
    patients = Patients([str(i) for i in ids], group, good_labels)
    folds = _Folds(path, keys, table, patients, findings, sound=not findings.problems)
    patients = Patients(patients.ids, group, good_labels, folds.make())
    files = [path, table.path]
    place = Place(path, base, keys, table, patients.ids, paths, files, findings)
    modalities: dict[str, ModalitySpec] = {}
    for name, modality in keys.modalities.items():
        spec = read_bag(place, name, modality) if isinstance(modality, BagKeys) else read_columns(place, name, modality)
        if spec is not None:
            modalities[name] = spec
    if not keys.modalities:
        findings.warnings.append(f"{path}: no modalities; a model has nothing to look at")
    if findings.problems:
        return None, findings
    return Cohort(path, base, keys.id, patients, modalities, list(dict.fromkeys(files)), findings.warnings), findings


def _group(path: Path, keys: CohortKeys, table: TableFile, findings: Findings) -> list[str] | None:
    if keys.group is None:
        return None
    cells = table.texts(keys.group, "group", path, findings)
    if cells is None:
        return None
    empty = cells == ""
    if empty.any():
        findings.warnings.append(
            f"{table.where(empty)}, column {keys.group}: no group; each of these {int(empty.sum())} patients is taken "
            "for a group of its own"
        )
    return [str(cell) for cell in cells]


def _label(path: Path, table: TableFile, name: str, keys: LabelKeys, findings: Findings) -> Label | None:
    cells = table.texts(name, f"labels.{name}", path, findings)
    if cells is None:
        return None
    codes, texts = pd.factorize(cells)
    place = {text: i for i, text in enumerate(keys.classes)} | dict.fromkeys([*keys.unlabelled, ""], -1)
    wrong = [text for text in texts if text not in place]
    for text in wrong[:SHOWN]:
        findings.problems.append(
            f"{table.where(cells == text)}, column {name}: {text!r} is not a class ({', '.join(keys.classes)}); "
            f"correct the cell, add it to the classes, or to unlabelled: in {path}"
        )
    if len(wrong) > SHOWN:
        findings.problems.append(f"{table.path}, column {name}: {len(wrong) - SHOWN} more values are not classes")
    if wrong:
        return None
    values = np.array([place[text] for text in texts], dtype=np.int64)[codes]
    counts = np.bincount(values[values >= 0], minlength=len(keys.classes))
    absent = [keys.classes[c] for c in np.flatnonzero(counts == 0)]
    if len(absent) == len(keys.classes):
        findings.warnings.append(f"{table.path}, column {name}: no patient has this label")
    elif len(absent) == len(keys.classes) - 1:
        only = keys.classes[int(counts.argmax())]
        findings.warnings.append(
            f"{table.path}, column {name}: one class only ({only!r}); a classifier cannot be trained on it"
        )
    elif absent:
        findings.warnings.append(f"{table.path}, column {name}: no patient has the class {some(absent)}")
    return Label(values, list(keys.classes), keys.ordinal)


class _Folds:
    """Makes the fold sets; `sound` says that ids, group and labels are right, so that they can be made at all."""

    def __init__(
        self, path: Path, keys: CohortKeys, table: TableFile, patients: Patients, findings: Findings, sound: bool
    ) -> None:
        self.path, self.keys, self.table = path, keys, table
        self.patients, self.findings, self.sound = patients, findings, sound

    def make(self) -> dict[str, NDArray[np.int8]]:
        made: dict[str, NDArray[np.int8]] = {}
        if not self.keys.folds and self.keys.labels and self.sound:
            default = MadeFolds(stratify=next(iter(self.keys.labels)))
            roles, wrong = self._made(default)
            if roles is not None and not wrong:
                made[DEFAULT_SET] = roles
                self._classes_missing(DEFAULT_SET, roles, default.stratify)
            else:
                self.findings.warnings.append(
                    f"{self.path}: no fold set is made, since 5 folds by default do not work: {'; '.join(wrong)}"
                )
        for name, keys in self.keys.folds.items():
            stratify = keys.stratify if isinstance(keys, MadeFolds) else None
            if stratify is not None and stratify not in self.keys.labels:
                hint = did_you_mean(stratify, list(self.keys.labels))
                self.findings.problems.append(
                    f"{self.path}, key folds.{name}.stratify: {stratify!r} is not a label{hint}"
                )
                continue
            roles, wrong = self._given(name, keys) if isinstance(keys, GivenFolds) else self._made(keys)
            self.findings.problems += [f"{self.path}, key folds.{name}: {line}" for line in wrong]
            if roles is not None and not wrong:
                made[name] = roles
                self._classes_missing(name, roles, stratify)
        return made

    def _made(self, keys: MadeFolds) -> tuple[NDArray[np.int8] | None, list[str]]:
        if not self.sound:
            return None, []
        wrong = []
        patients = self.patients
        label = patients.labels[keys.stratify] if keys.stratify is not None else None
        if label is not None:
            counts = np.bincount(label.values[label.values >= 0], minlength=len(label.classes))
            wrong += [
                f"the class {label.classes[c]!r} of {keys.stratify} has {counts[c]} patients, fewer than n: {keys.n} "
                "folds; take a smaller n or join classes"
                for c in np.flatnonzero((counts > 0) & (counts < keys.n))
            ]
        if len(patients) < keys.n:
            wrong.append(f"{len(patients)} patients are fewer than n: {keys.n} folds; take a smaller n")
        if patients.group is not None and (groups := len(set(group_codes(patients.group).tolist()))) < keys.n:
            wrong.append(
                f"{groups} groups in column {self.keys.group} are fewer than n: {keys.n} folds; take a smaller n"
            )
        if wrong:
            return None, wrong
        roles = make_folds(
            patients.ids,
            label.values if label is not None else None,
            patients.group,
            n=keys.n,
            repeats=keys.repeats,
            validation=keys.validation,
            seed=keys.seed,
        )
        return roles, [f"{line}; take a smaller n" for line in fold_problems(roles)]

    def _given(self, name: str, keys: GivenFolds) -> tuple[NDArray[np.int8] | None, list[str]]:
        cells = self.table.texts(keys.column, f"folds.{name}.column", self.path, self.findings)
        if cells is None:
            return None, []
        known = {**ROLES, "": 0}
        wrong = []
        lower = np.array([cell.lower() for cell in cells], dtype=object)
        for text in [t for t in dict.fromkeys(lower) if t not in known][:SHOWN]:
            wrong.append(
                f"{self.table.where(lower == text)}, column {keys.column}: {text!r} is not a role; write train, "
                "validation, test, or nothing for a patient who is not used"
            )
        if wrong:
            return None, wrong
        roles = np.array([known[text] for text in lower], dtype=np.int8)
        wrong += self._split_groups(roles, keys.column)
        if not (roles == TRAIN).any():
            wrong.append(f"{self.table.path}, column {keys.column}: no patient is train")
        if not (roles == TEST).any():
            self.findings.warnings.append(f"{self.table.path}, column {keys.column}: no patient is test")
        if wrong or not self.sound:
            return None, wrong
        label = next(iter(self.patients.labels.values()), None)
        strata = label.values if label is not None else None
        if keys.repeats > 1 and (roles == VALIDATION).any():
            wrong.append(
                f"{self.table.path}, column {keys.column}: has validation patients, so that repeats: {keys.repeats} "
                "would all be the same; leave repeats out, or give those patients train"
            )
            return None, wrong
        made = given_folds(self.patients.ids, roles, strata, self.patients.group, repeats=keys.repeats)
        if not (made == VALIDATION).any() or not (made == TRAIN).any():
            wrong.append(
                f"{self.table.path}, column {keys.column}: too few train patients to take a fifth for validation"
            )
        return made, wrong

    def _split_groups(self, roles: NDArray[np.int8], column: str) -> list[str]:
        if self.patients.group is None:
            return []
        frame = pd.DataFrame({"group": self.patients.group, "role": roles})
        frame = frame[(frame["role"] > 0) & (frame["group"] != "")]
        split = frame.groupby("group")["role"].nunique()
        names = [str(g) for g in split[split > 1].index]
        words = {code: word for word, code in ROLES.items()}
        lines = []
        for group in names[:SHOWN]:
            held = " and ".join(words[int(r)] for r in sorted(frame.loc[frame["group"] == group, "role"].unique()))
            wanted = np.array(self.patients.group, dtype=object) == group
            lines.append(
                f"{self.table.where(wanted)}, column {column}: the group {group!r} is in {held}; a group belongs to one"
            )
        if len(names) > SHOWN:
            lines.append(f"{self.table.path}, column {column}: {len(names) - SHOWN} more groups are split")
        return lines

    def _classes_missing(self, name: str, roles: NDArray[np.int8], stratify: str | None) -> None:
        for task, label in self.patients.labels.items():
            if stratify is not None and task != stratify:
                continue
            for c in np.unique(label.values[label.values >= 0]):
                mine = roles[label.values == c]
                for word, role in ROLES.items():
                    lacking = int((~(mine == role).any(axis=0)).sum())
                    if lacking and (roles == role).any():
                        self.findings.warnings.append(
                            f"{self.path}, key folds.{name}: {lacking} of {roles.shape[1]} folds have no {word} "
                            f"patient of the class {label.classes[c]!r} of {task}"
                        )
