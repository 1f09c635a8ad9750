"""distill: a student that needs fewer modalities than its teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmcli.errors import RequestError
from mmcli.methods import METHODS
from mmcli.progress import note
from mmcli.settings import DistillSettings
from mmcli.stages.common import choose_fold_set, open_stores
from mmcli.stages.outcome import Outcome
from mmcli.stages.train import Lesson, Plan, choose_modalities, make_plan, train
from mmcli.store.parts import UNUSED
from mmcli.training.data import CohortData, PartData, load_cohort
from mmcli.training.engine import PartName
from mmcli.training.latents import latents_of
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
        plan.lessons, plan.opened = lessons, lessons.data.latents
        if lessons.whole:
            plan.teachers_maps = lessons.maps
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
    """What the teacher of the same fold and seed gives to a student's part: its answers for all patients, as
    `Batch.extra` "teacher.<task>" (n, K) probabilities, NaN where it had nothing to go by; for methods that need
    "teacher-latents", "teacher.latent.<name>" (n, width); for methods that need the "teacher", itself with its view of
    the patients: all of its modalities, prepared as for its own training."""

    def __init__(self, plan: Plan, teacher: dict[str, Any]) -> None:
        """RequestError where the stores lack what the teacher needs."""
        self.plan = plan
        self.whole = "teacher" in plan.method.needs
        self._first = read_part(plan.settings.teacher / str(teacher["parts"][0]), METHODS)
        self.maps = self._first.method.spec.maps
        request = teacher["request"]
        shares = {m: float(s) for m, s in request["withhold"].items()}
        self.data: CohortData = load_cohort(
            plan.stores, plan.tasks, teacher["modalities"],
            budget=latents_budget(plan.settings.memory), withhold=shares, seed=request["seed"], maps=self.maps,
        )  # fmt: skip

    def check(self) -> None:
        """RequestError when the stores are not what the teacher was trained on (encoders, tables), or the student
        cannot learn from it."""
        check_stores(self._first, self.data)
        if not self.whole:
            return
        plan = self.plan
        plan.method.check_teacher(self._first.method, plan.options)
        tables = {t: h for t, h in self._first.head["tables"].items() if t in plan.modalities}
        for table, theirs in ((t, h["imputer"]) for t, h in tables.items() if h["imputer"] != plan.settings.imputer):
            told = f"its teacher learned with {theirs!r}" if theirs else "its teacher learned without"
            note(f"{table}: {told}; the same --imputer shows it the same values later", plan.settings.quiet)

    def __call__(self, name: PartName, device: torch.device) -> Lesson:
        """Those of one part."""
        folder: Path = self.plan.settings.teacher / str(name)
        part = read_part(folder, METHODS)
        check_stores(part, self.data)
        part.method.to(device)
        imputers = {t: h["imputer"] for t, h in part.head["tables"].items() if h["imputer"]}
        filled = {t: self.plan.stores.filled(t, i, name.fold_set, name.fold) for t, i in imputers.items()}
        view = PartData(self.data, part.prepared, filled, device=device)
        rows = np.flatnonzero(self.plan.folds[:, name.fold] != UNUSED)
        extra: dict[str, Tensor] = {}
        for task, a in answer(part.method, view, rows, part.name.key)[part.method.variants[0]].items():
            known = np.array([bool(m) for m in a.modalities])
            extra[f"teacher.{task}"] = self._spread(a.rows[known], a.probabilities[known])
        if "teacher-latents" in self.plan.method.needs:
            for latent, z in latents_of(part.method, view, rows, part.name.key).items():
                extra[f"teacher.latent.{latent}"] = self._spread(rows, z)
        return Lesson(extra, part, view) if self.whole else Lesson(extra)

    def _spread(self, rows: NDArray[np.int64], values: NDArray[Any]) -> Tensor:
        """(n of all patients, width) float32, NaN where `rows` do not say anything."""
        whole = torch.full((len(self.data), values.shape[1]), torch.nan)
        whole[torch.from_numpy(rows)] = torch.from_numpy(values).float()
        return whole
