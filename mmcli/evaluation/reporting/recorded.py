"""What one run recorded of itself (run.json, part.json, provenance.json), in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmcli.evaluation.reporting.shown import joined

ROLES = {"1": "train", "2": "validation", "3": "test"}
STAGES = {"train-teacher": "teacher", "distill": "student", "train-guide": "guided model"}


@dataclass(frozen=True)
class Run:
    """A run's records; a table of predictions that another tool wrote has none but its name."""

    name: str
    run: Mapping[str, Any]
    head: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, name: str, inputs: Mapping[str, Any]) -> Run:
        """From `about["inputs"][name]`, as `provenance.gather` makes it."""
        run = inputs.get("run") or {k: v for k, v in inputs.items() if k == "table"}
        return cls(name, run, inputs.get("head") or {}, inputs.get("parts") or {})

    @property
    def ours(self) -> bool:
        """Whether mmcli trained it."""
        return "method" in self.run

    def source(self) -> str:
        """Stores, or the table."""
        if not self.ours:
            table = f" ({self.run['table']})" if "table" in self.run else ""
            return f"a table of predictions{table}; how they were made is for the authors to say"
        stores = [f"{s['path']} (content sha256 {str(s['content_sha256'])[:16]})" for s in self.run.get("stores", [])]
        return f"feature store {', '.join(stores)}" if stores else "stores not recorded"

    def predictors(self) -> str:
        """Modalities, with each one's encoder or columns."""
        said = []
        for m in self.run.get("modalities", []):
            bag, table = self.head.get("bags", {}).get(m), self.head.get("tables", {}).get(m)
            if bag:
                weights = bag.get("weights_sha256") or ""
                how = f", weights {weights[:16]}" if weights else ""
                said.append(f"{m} ({bag['kind']}: {bag['encoder']}, {bag['dim']} features an instance{how})")
            elif table:
                said.append(f"{m} (table: {', '.join(map(str, table.get('columns', [])))})")
            else:
                said.append(str(m))
        return "; ".join(said) + "".join(f"; {k}: {v}" for k, v in self.run.get("roles", {}).items())

    def holes(self) -> str:
        """What was done about missing values."""
        if not self.ours:
            return ""
        tables = self.head.get("tables", {})
        request = self.run.get("request", {})
        said = []
        if tables:
            imputer = request.get("imputer") or ""
            said.append(
                f"cells that are not observed were filled by {imputer}, fitted on each fold's training patients"
                if imputer
                else "cells that are not observed were given the training mean, and the model saw which they are"
            )
        if hidden := request.get("withhold"):
            said.append(f"withheld in training: {', '.join(f'{k} {v}' for k, v in hidden.items())}")
        said.append("a modality that a patient lacks was known to the model as not present")
        return "; ".join(said)

    def splits(self) -> str:
        """Fold set, folds and seeds."""
        if not self.ours:
            return ""
        folds, seeds = self.run.get("folds", []), self.run.get("seeds", [])
        return (
            f"fold set {self.run.get('fold_set')}, {_many(folds, 'fold')}, {_many(seeds, 'seed')}; folds were made "
            "over patients (over whole groups where the cohort names them) before anything was fitted"
        )

    def model(self) -> str:
        """Method and its settings."""
        if not self.ours:
            return ""
        settings = ", ".join(f"{k} {_plain(v)}" for k, v in self.run.get("method_settings", {}).items())
        stage = STAGES.get(str(self.run.get("stage")), str(self.run.get("stage")))
        teacher = (self.run.get("request") or {}).get("teacher")
        of = ""
        if isinstance(teacher, Mapping):
            of = f", distilled from {teacher.get('method')} on {joined(list(teacher.get('modalities', [])))}"
        return f"{stage}, method {self.run['method']}{of}" + (f" ({settings})" if settings else "")

    def tuning(self) -> str:
        """What was chosen, and on whom."""
        if not self.ours:
            return ""
        patience = self.run.get("method_settings", {}).get("patience")
        if patience:
            how = (
                "the weights of the epoch with the lowest loss of the validation patients were kept, and training "
                f"ended after {_number(int(patience), 'epoch')} without a lower one"
            )
        else:
            how = "training was not stopped by validation patients"
        return (
            f"{how}. mmcli chose nothing on test patients; whether settings were changed after a look at test figures, "
            "only the authors know"
        )

    def imbalance(self) -> str:
        """Class weights."""
        settings = self.run.get("method_settings", {})
        if "class_weights" not in settings:
            return ""
        if not settings["class_weights"]:
            return "no class weights"
        return "the loss was weighted by class, inversely to each class's share of the training patients"

    def apart(self) -> str:
        """How the patients of training and of the test split differ."""
        if not self.ours:
            return ""
        return (
            "training and test patients are of the same stores and differ by their fold alone; a test patient is "
            "predicted by parts that did not train on that patient. Other differences, of place or time, are for the "
            "authors to say"
        )

    def software(self) -> str:
        """Versions of the training software; several where parts differ."""
        return ", ".join(f"{k} {v}" for k in ("mmcli", "python", "torch", "numpy") if (v := self._values(k)))

    def machine(self) -> str:
        """Machine, wall time and memory over the parts."""
        known = [p for p in self.parts.values() if "wall_s" in p]
        if not known:
            return ""
        seconds = sum(float(p["wall_s"]) for p in known)
        said = [f"{_time(seconds)} in all for {_number(len(known), 'part')}"]
        peak = max((float(p.get("peak_memory_bytes") or 0) for p in known), default=0.0)
        if peak:
            said.append(f"at most {peak / 2**30:.1f} GiB of memory")
        said += [f"{k} {v}" for k in ("platform", "device", "threads") if (v := self._values(k))]
        return "; ".join(said)

    def events(self, labels: Mapping[str, str], classes: Sequence[str]) -> list[str]:
        """A line a fold (a line for all folds where there are more than ten): patients and events a split."""
        assignment: Mapping[str, str] = self.run.get("fold_assignment") or {}
        folds = self.run.get("folds", [])
        if not assignment or not folds:
            return []
        counts: list[dict[str, dict[str, int]]] = []
        for fold in folds:
            of = {role: dict.fromkeys([*classes, ""], 0) for role in ROLES.values()}
            for patient, digits in assignment.items():
                if fold < len(digits) and digits[fold] in ROLES:
                    of[ROLES[digits[fold]]][labels.get(patient, "")] += 1
            counts.append(of)
        if len(folds) > 10:
            return [f"{len(folds)} folds: " + "; ".join(_range(counts, role) for role in ROLES.values())]
        return [
            f"fold {fold}: " + "; ".join(_events(role, n) for role, n in of.items())
            for fold, of in zip(folds, counts, strict=True)
        ]

    def _values(self, key: str) -> str:
        return ", ".join(dict.fromkeys(str(p[key]) for p in self.parts.values() if key in p))


def _events(role: str, n: Mapping[str, int]) -> str:
    if n[""] and n[""] == sum(n.values()):
        return f"{role} {n['']} (their classes were not read here)"
    each = [f"{c} {k}" for c, k in n.items() if c] + ([f"no label here {n['']}"] if n[""] else [])
    return f"{role} {sum(n.values())} ({', '.join(each)})"


def _range(counts: Sequence[Mapping[str, Mapping[str, int]]], role: str) -> str:
    totals = [sum(of[role].values()) for of in counts]
    classes = [c for c in counts[0][role] if c]
    each = [f"{c} {_span([of[role][c] for of in counts])}" for c in classes]
    return f"{role} {_span(totals)} ({', '.join(each)})"


def _span(values: Sequence[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _many(values: Sequence[Any], thing: str) -> str:
    return (
        f"{_number(len(values), thing)} ({', '.join(map(str, values))})"
        if len(values) < 12
        else _number(len(values), thing)
    )


def _number(n: int, thing: str) -> str:
    return f"{n} {thing}{'' if n == 1 else 's'}"


def _plain(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
