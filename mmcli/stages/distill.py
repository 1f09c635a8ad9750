"""distill: a student that needs fewer modalities than its teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmcli.errors import RequestError
from mmcli.methods import METHODS
from mmcli.settings import DistillSettings
from mmcli.stages.common import choose_fold_set, open_stores
from mmcli.stages.outcome import Outcome
from mmcli.stages.train import Plan, choose_modalities, make_plan, train
from mmcli.store import Stores
from mmcli.store.parts import UNUSED
from mmcli.training.data import CohortData, PartData, load_cohort
from mmcli.training.engine import PartName
from mmcli.training.memory import latents_budget
from mmcli.training.part import check_stores, read_part
from mmcli.training.predicting import answer
from mmcli.training.run import missing_parts, read_run


def run(settings: DistillSettings) -> Outcome:
    """Train each missing part of the run at `--out`, each taught by the teacher's part of the same fold and seed."""
    teacher = read_run(settings.teacher)
    if teacher is None:
        raise RequestError(f"--teacher {settings.teacher}: no run there; `mmcli train-teacher ... --out` makes one")
    if not settings.modalities:
        raise RequestError("--modalities: is empty; name what the student needs")
    settings = settings.model_copy(update=_defaults(settings, teacher))
    with open_stores(settings) as stores:
        modalities = choose_modalities(stores, settings.modalities)
        plan = make_plan(settings, "distill", stores, modalities, {})
        _check_teacher(plan, teacher)
        plan.request |= {"teacher": teacher["request"]}
        lessons = Lessons(plan, teacher)
        lessons.check()
        plan.extra = lessons
        return train(plan)


def _defaults(settings: DistillSettings, teacher: dict[str, Any]) -> dict[str, Any]:
    """Label, folds and seeds that were not given are the teacher's."""
    own: dict[str, Any] = {"label": list(teacher["tasks"]), "folds": teacher["fold_set"], "seeds": teacher["seeds"]}
    return {name: value for name, value in own.items() if name not in settings.model_fields_set}


def _check_teacher(plan: Plan, teacher: dict[str, Any]) -> None:
    """RequestError when the teacher was trained on other folds, tasks or seeds, or is not finished."""
    path, patients = plan.settings.teacher, plan.stores.patients
    where = f"--teacher {path}"
    if teacher["fold_set"] != choose_fold_set(plan.stores, plan.fold_set):
        raise RequestError(f"{where}: it was trained on the fold set {teacher['fold_set']!r}, not {plan.fold_set!r}")
    for task in plan.tasks:
        known = teacher["tasks"].get(task)
        if known is None or known["classes"] != patients.labels[task].classes:
            raise RequestError(f"{where}: it was not trained for {task} with these classes; give its --label")
    theirs = teacher["fold_assignment"]
    for patient, roles in zip(patients.ids, plan.folds.tolist(), strict=True):
        if theirs.get(patient) != "".join(map(str, roles)):
            problem = "has other folds" if patient in theirs else "is not"
            raise RequestError(
                f"{where}: patient {patient} {problem} in its run; train the student on the stores and folds of its "
                "teacher, or test patients would leak"
            )
    lacking = [s for s in plan.settings.seeds if s not in teacher["seeds"]]
    if lacking:
        raise RequestError(f"{where}: it has no seed {lacking[0]} (it has {','.join(map(str, teacher['seeds']))})")
    base = teacher["request"].get("seed", 0)
    wanted = [str(PartName(plan.fold_set, k, s, base)) for k in range(plan.folds.shape[1]) for s in plan.settings.seeds]
    if missing := missing_parts(path, wanted):
        raise RequestError(
            f"{where}: the run is not finished, {len(missing)} parts are missing ({', '.join(missing[:3])}); run its "
            "command again"
        )
    for name in teacher["modalities"]:
        if name not in plan.stores.names():
            raise RequestError(f"{where}: it needs the modality {name}, which these stores lack; give its stores too")


class Lessons:
    """The teacher's answers for all patients of a part, as the student's method takes them in `Batch.extra`:
    "teacher.<task>" (n, K) probabilities, NaN where the teacher had nothing to go by, and for methods that need
    "teacher-latents", "teacher.latent.<name>" (n, width)."""

    def __init__(self, plan: Plan, teacher: dict[str, Any]) -> None:
        self.plan, self.teacher = plan, teacher
        self._data: CohortData | None = None

    def __call__(self, name: PartName) -> dict[str, Tensor]:
        """Those of one part."""
        data = self._cohort(self.plan.stores)
        folder: Path = self.plan.settings.teacher / str(name)
        part = read_part(folder, METHODS)
        check_stores(part, data)
        imputers = {t: h["imputer"] for t, h in part.head["tables"].items() if h["imputer"]}
        filled = {t: self.plan.stores.filled(t, i, name.fold_set, name.fold) for t, i in imputers.items()}
        view = PartData(data, part.prepared, filled)
        rows = np.flatnonzero(self.plan.folds[:, name.fold] != UNUSED)
        extra: dict[str, Tensor] = {}
        for task, a in answer(part.method, view, rows, part.name.key)[part.method.variants[0]].items():
            p = torch.full((len(data), a.probabilities.shape[1]), torch.nan)
            known = np.array([bool(m) for m in a.modalities])
            p[torch.from_numpy(a.rows[known])] = torch.from_numpy(a.probabilities[known]).float()
            extra[f"teacher.{task}"] = p
        if "teacher-latents" in self.plan.method.needs:
            extra |= _latents(part.method, view, rows)
        return extra

    def check(self) -> None:
        """RequestError when the stores are not what the teacher was trained on (encoders, tables)."""
        first = self.plan.settings.teacher / str(self.teacher["parts"][0])
        check_stores(read_part(first, METHODS), self._cohort(self.plan.stores))

    def _cohort(self, stores: Stores) -> CohortData:
        if self._data is None:
            request = self.teacher["request"]
            shares = {m: float(s) for m, s in request["withhold"].items()}
            budget = latents_budget(self.plan.settings.memory)
            self._data = load_cohort(
                stores, self.plan.tasks, self.teacher["modalities"],
                budget=budget, withhold=shares, seed=request["seed"],
            )  # fmt: skip
        return self._data


@torch.no_grad()
def _latents(method: Any, view: PartData, rows: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for piece in view.pieces(rows):
        for name, z in method.latents(view.batch(piece)).items():
            whole = found.setdefault(f"teacher.latent.{name}", torch.full((len(view.data), z.shape[1]), torch.nan))
            whole[torch.from_numpy(piece)] = z
    return found
