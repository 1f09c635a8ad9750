"""The parts of a run: each is prepared, trained, alone or together with others, predicted, and published."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmcli.progress import note
from mmcli.stages.machine import cores
from mmcli.store.parts import UNUSED
from mmcli.training.data import CohortData, PartData, Preparation, data_spec, fit_preparation, fit_tasks
from mmcli.training.engine import PartName, Trainer
from mmcli.training.latents import write_latents
from mmcli.training.live import Live
from mmcli.training.memory import latents_budget
from mmcli.training.method import Method
from mmcli.training.part import Fitted, write_part
from mmcli.training.predicting import answer, answer_draws, predictions_frame, validation_auc
from mmcli.training.run import part_folder, writing
from mmcli.training.seeds import derive, reproducible
from mmcli.training.stacked import began_in_stack, stacks_of, train_stack

if TYPE_CHECKING:
    from mmcli.stages.train import Plan

LARGE_BAGS = 100_000  # numbers a patient
MOST_TOGETHER = 64  # parts of a stack; more share nothing more


@dataclass
class _Fold:
    """What the seeds of a fold share."""

    prepared: Preparation
    filled: dict[str, NDArray[np.float64]]
    view: PartData | None = None


class Parts:
    """Trains the parts of a plan."""

    def __init__(self, plan: Plan, data: CohortData, imputers: dict[str, str], device: torch.device) -> None:
        self.plan, self.data, self.imputers, self.device = plan, data, imputers, device
        self.precision = choose_precision(plan.settings.precision, device, data)
        self.done: list[dict[str, Any]] = []
        self.busy: list[str] = []
        self._folds: dict[int, _Fold] = {}
        self._wanted = 0

    def train(self, chosen: list[PartName]) -> tuple[list[dict[str, Any]], list[str]]:
        """A row for each part that was trained, and the parts that another process has."""
        self._wanted = len(chosen)
        for group in self._groups(chosen):
            self._together(group)
        return self.done, self.busy

    def _groups(self, chosen: list[PartName]) -> Iterator[list[PartName]]:
        """Parts that are prepared at the same time: one by one unless they may become a stack and memory allows."""
        plan, most = self.plan, 1
        if plan.method.stackable and not self.data.latents and plan.lessons is None and self.device.type == "cpu":
            a_fold = sum(t.values.size * 16 for t in self.data.tables.values())  # and as much in the stack
            folds = max(latents_budget(plan.settings.memory) // 2 // max(a_fold, 1), 1)
            most = min(int(folds) * len({p.seed for p in chosen}), MOST_TOGETHER)
        for start in range(0, len(chosen), most):
            group = chosen[start : start + most]
            self._folds = {k: f for k, f in self._folds.items() if k in {p.fold for p in group}}
            yield group

    def _together(self, group: list[PartName]) -> None:
        live = Live(self.plan.settings.quiet)
        with ExitStack() as held, reproducible():
            folders: dict[PartName, tuple[Path, ExitStack]] = {}
            trainers = []
            for part in group:
                own = held.enter_context(ExitStack())
                folder = own.enter_context(part_folder(self.plan.settings.out, str(part)))
                if folder is None:
                    self.busy.append(str(part))
                    continue
                folders[part] = folder, own
                trainers.append(self._trainer(part, folder, live))
            for stack in stacks_of(trainers):
                live.together = len(stack)

                def publish(trainer: Trainer, together: int = len(stack)) -> None:
                    folder, own = folders[trainer.name]
                    row = self._finish(trainer, folder, together)
                    own.pop_all().close()
                    live.clear()
                    self._tell(row)

                if len(stack) > 1 or began_in_stack(stack[0]):
                    train_stack(stack, publish)
                else:
                    stack[0].train()
                    publish(stack[0])

    def _fold(self, k: int) -> _Fold:
        if k not in self._folds:
            plan = self.plan
            filled = {t: plan.stores.filled(t, i, plan.fold_set, k) for t, i in self.imputers.items()}
            self._folds[k] = _Fold(fit_preparation(self.data, plan.folds[:, k], plan.maps), filled)
        return self._folds[k]

    def _trainer(self, part: PartName, folder: Path, live: Live) -> Trainer:
        plan, fold = self.plan, self._fold(part.fold)
        roles = plan.folds[:, part.fold]
        spec = data_spec(self.data, fold.prepared, fit_tasks(self.data, roles), plan.roles)
        teacher: list[Method] = []
        if plan.lessons is not None:
            lesson, prepared = plan.lessons(part, self.device), fold.prepared
            if lesson.teacher is not None:
                teacher = [lesson.teacher.method]
                spec = spec.model_copy(update={"teacher": lesson.teacher.as_teacher()})
                prepared = replace(prepared, teacher=lesson.teacher.prepared)
            view = PartData(self.data, prepared, fold.filled, lesson.extra, self.device, lesson.view)
        else:
            fold.view = fold.view or PartData(self.data, fold.prepared, fold.filled, {}, self.device)
            view = fold.view
        torch.manual_seed(derive(*part.key, "weights"))
        method = plan.method(spec, plan.options, *teacher).to(self.device)
        return Trainer(method, view, roles, part, folder, precision=self.precision, watch=live)

    def _finish(self, trainer: Trainer, folder: Path, together: int) -> dict[str, Any]:
        """Predict, and write the part's files."""
        plan, part, method, view, roles = self.plan, trainer.name, trainer.method, trainer.data, trainer.roles
        fold = self._fold(part.fold)
        rows = np.flatnonzero(roles != UNUSED)
        answers = answer(method, view, rows, part.key)
        draws = answer_draws(method, view, view.prepared, fold.filled, rows, part.key)
        fitted = {t: f for t in self.imputers if (f := fitted_imputer(plan, t, part.fold))[0]}
        how = {"together": together, "precision": str(self.precision).removeprefix("torch.")}
        with writing(folder):
            for task in plan.tasks:
                frame = predictions_frame(method, view, roles, task, answers, draws)
                frame.to_parquet(folder / f"predictions-{task}.parquet", index=False)
            if plan.settings.keep_latents:
                write_latents(folder, method, view, roles, rows, part.key)
            seconds = trainer.seconds
            write_part(
                folder, part, plan.stage, method, self.data, view.prepared, self.imputers, fitted, trainer.state,
                seconds, how,
            )  # fmt: skip
        auc = validation_auc(view, roles, plan.tasks[0], answers[method.variants[0]])
        epochs = len(trainer.state.history)
        return {"part": str(part), "epochs": epochs, "validation_auc": auc, "seconds": round(seconds, 3)}

    def _tell(self, row: dict[str, Any]) -> None:
        self.done.append(row)
        auc = "" if np.isnan(row["validation_auc"]) else f", validation AUC {row['validation_auc']:.3f}"
        number = f"{len(self.done) + len(self.busy)}/{self._wanted}"
        note(f"{row['part']} ({number}): {row['epochs']} epochs{auc}, {row['seconds']:.1f} s", self.plan.settings.quiet)


def fitted_imputer(plan: Plan, table: str, fold: int) -> Fitted:
    """The imputer that filled a table for a fold, as arrays, so that a part can fill a new patient's holes."""
    name, fold_set = plan.settings.imputer, plan.fold_set
    for file in plan.stores.files:
        if table in file.tables and fold in file.imputations(table).get((name, fold_set), []):
            draws, how = file.imputed(table, name, fold_set, fold)
            return file.fitted(table, name, fold_set, fold), {"answer": how.get("answer", "mean"), "draws": len(draws)}
    return {}, {}


def large_bags(data: CohortData) -> bool:
    """Whether a step's tensors are large."""
    numbers = [
        int(x.bag.offsets[-1]) * (x.dim + sum(map(math.prod, x.map_shapes.values()))) / max(len(data), 1)
        for x in data.latents.values()
    ]
    return sum(numbers) > LARGE_BAGS


def choose_threads(data: CohortData) -> int:
    """One thread where a step's tensors are small: there a second one costs more than it brings."""
    return cores(0) if large_bags(data) else 1


def choose_precision(name: str, device: torch.device, data: CohortData) -> torch.dtype:
    """`auto` is bfloat16 for large bags on a GPU, elsewhere float32."""
    if name == "auto":
        name = "bf16" if device.type == "cuda" and large_bags(data) else "float32"
    return torch.bfloat16 if name == "bf16" else torch.float32
