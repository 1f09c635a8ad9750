"""What was asked and who was compared, in the form that all of the reporting reads."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mmcli.evaluation.reporting.shown import percent, who
from mmcli.evaluation.result import Result


@dataclass(frozen=True)
class Compared:
    """One run, or one variant of it, in one task: `n` rows of so many `patients`."""

    run: str
    variant: str
    task: str
    n: int
    patients: int
    per_class: dict[str, int]
    unlabelled: int
    parts: list[str]
    missing_parts: list[str]
    main: bool

    @property
    def title(self) -> str:
        """The run's name, with its variant where it has one."""
        return who(self.run, self.variant)


@dataclass(frozen=True)
class Task:
    """One task over the patients of all runs together, whose main variants may have the `same_patients`. The last of
    two classes is the positive one."""

    name: str
    classes: list[str]
    ordinal: bool
    n: int
    patients: int
    per_class: dict[str, int]
    same_patients: bool


@dataclass(frozen=True)
class Summary:
    """Tasks and runs in the order in which they were given."""

    tasks: list[Task] = field(default_factory=list)
    runs: list[Compared] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The runs' names."""
        return list(dict.fromkeys(r.run for r in self.runs))

    def of(self, task: str) -> list[Compared]:
        """The runs and variants of a task."""
        return [r for r in self.runs if r.task == task]

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Summary:
        """What `as_json` made."""
        return cls([Task(**t) for t in content["tasks"]], [Compared(**r) for r in content["runs"]])


def summarise(result: Result) -> Summary:
    """From the predictions, or as an earlier evaluation wrote it down (`about["summary"]`)."""
    if not result.predictions and "summary" in result.about:
        return Summary.from_json(result.about["summary"])
    runs, tasks = [], []
    for p in result.predictions:
        runs.append(
            Compared(p.run, p.variant, p.task, len(p.ids), len(set(p.patients)), _per_class(p.classes, p.y),
                     p.unlabelled, [part.name for part in p.parts], list(p.missing_parts), p.main)
        )  # fmt: skip
    for name in dict.fromkeys(p.task for p in result.predictions):
        own = [p for p in result.predictions if p.task == name]
        labels = {i: k for p in own for i, k in zip(p.ids, p.y, strict=True)}
        patients = {i for p in own for i in p.patients}
        y = np.array(list(labels.values()), dtype=np.int64)
        same = all(set(p.ids) == set(own[0].ids) for p in own if p.main)
        ordinal = any(p.ordinal for p in own)
        classes = own[0].classes
        tasks.append(Task(name, list(classes), ordinal, len(y), len(patients), _per_class(classes, y), same))
    return Summary(tasks, runs)


def _per_class(classes: tuple[str, ...], y: Any) -> dict[str, int]:
    return {c: int((y == k).sum()) for k, c in enumerate(classes)}


@dataclass(frozen=True)
class Asked:
    """How the evaluation was made, as `about["request"]` has it."""

    split: str
    bootstrap: bool
    resamples: int
    confidence: float
    seed: int
    kind: str
    stratify: bool
    cluster: str
    threshold: str
    coverage: float
    reference: str | None
    withhold: dict[str, Any]
    withhold_by: str
    by: list[str]

    @property
    def level(self) -> str:
        """The level of the intervals: 95 %."""
        return percent(self.confidence)

    @property
    def drawn_kind(self) -> str:
        """The kind of the intervals that the bootstrap makes: what `auto` is where no formula serves better."""
        return "expanded" if self.kind == "auto" else self.kind

    @property
    def formula_first(self) -> bool:
        """Whether proportions and balanced accuracy have limits by formula."""
        return self.kind == "auto" and not self.cluster and not self.stratify

    @property
    def expected(self) -> set[str]:
        """The kinds of interval that are no fallback."""
        return {self.drawn_kind, "wilson", "mover"} if self.formula_first else {self.drawn_kind}

    @property
    def unit(self) -> str:
        """What is drawn: patients, or the clusters of a column."""
        return f"clusters ({self.cluster})" if self.cluster else "patients"


def asked(result: Result) -> Asked:
    """The request in `about`, with the defaults of what was not asked for."""
    request = result.about.get("request", {})
    return Asked(
        split=str(request.get("split", "test")),
        bootstrap=bool(request.get("bootstrap_ci", False)),
        resamples=int(request.get("resamples", 0)),
        confidence=float(request.get("confidence", result.about.get("confidence", 0.95))),
        seed=int(request.get("seed", 0)),
        kind=str(request.get("interval", "percentile")),
        stratify=bool(request.get("stratify", False)),
        cluster=str(request.get("cluster") or ""),
        threshold=str(request.get("threshold") or "argmax"),
        coverage=float(request.get("coverage", math.nan)),
        reference=request.get("reference"),
        withhold=dict(request.get("withhold") or {}),
        withhold_by=str(request.get("withhold_by") or ""),
        by=[str(c) for c in request.get("by") or []],
    )
