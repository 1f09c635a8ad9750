"""What train-teacher, distill and train-guide have in common: check the request, train the missing parts of a run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmcli import __version__
from mmcli.errors import RequestError
from mmcli.files import canonical_json
from mmcli.methods import METHODS
from mmcli.progress import note
from mmcli.registry import did_you_mean
from mmcli.settings import TrainSettings
from mmcli.stages.common import choose_fold_set, choose_label
from mmcli.stages.machine import choose_device
from mmcli.stages.outcome import Outcome, is_done, refuse_input
from mmcli.stages.parts import Parts, choose_threads
from mmcli.stages.train_checks import check_folds, check_labels
from mmcli.store import Stores
from mmcli.store.batch import Latents
from mmcli.training.data import PartData, load_cohort
from mmcli.training.engine import PartName
from mmcli.training.memory import latents_budget
from mmcli.training.method import Method, method_settings
from mmcli.training.part import Part
from mmcli.training.run import missing_parts, read_run, remove_run, settings_text, write_once
from mmcli.training.seeds import derive
from mmcli.training.spec import join_maps
from mmcli.training.withhold import withhold_shares

Roles = NDArray[np.int8]
NOT_KEPT = {"force", "dry_run", "quiet", "json_", "only_folds", "only_seeds"}


@dataclass(frozen=True)
class Lesson:
    """What a part gets beside its modalities: tensors of all patients for `Batch.extra`, and, for a method that needs
    the teacher itself, the teacher's part and its view of the patients."""

    extra: dict[str, Tensor]
    teacher: Part | None = None
    view: PartData | None = None


@dataclass
class Plan:
    """A checked request: everything that is needed to train the parts of a run."""

    settings: Any
    stage: str
    stores: Stores
    method: type[Method]
    options: Any
    modalities: list[str]
    roles: dict[str, str]
    tasks: list[str]
    fold_set: str
    lessons: Callable[[PartName, torch.device], Lesson] | None = None
    maps: dict[str, list[str]] = field(default_factory=dict)  # the method's own
    teachers_maps: dict[str, list[str]] = field(default_factory=dict)
    opened: dict[str, Latents] = field(default_factory=dict)
    request: dict[str, Any] = field(default_factory=dict)

    @property
    def folds(self) -> Roles:
        """(n, K) the fold set."""
        return self.stores.patients.folds[self.fold_set]

    def parts(self, folds: list[int], seeds: list[int]) -> list[PartName]:
        """The grid, fold by fold."""
        return [PartName(self.fold_set, k, s, self.settings.seed) for k in folds for s in seeds]


def choose_method(name: str, stage: str) -> type[Method]:
    """The method of that name; RequestError when it is not one of this stage's."""
    method: type[Method] = METHODS.get(name)
    if stage not in method.stages:
        fitting = [n for n in METHODS.names() if stage in METHODS.get(n).stages]
        raise RequestError(
            f"--method: {name!r} is a method of {', '.join(sorted(method.stages))}, not of {stage} "
            f"(there are: {', '.join(fitting)})"
        )
    return method


def choose_modalities(stores: Stores, names: list[str], option: str = "--modalities") -> list[str]:
    """The named modalities in the stores' order, all without names; each checked for features."""
    known = [*stores.bags, *stores.tables]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            if "did you mean" not in hint:
                hint += "; give its store too: `mmcli preprocess` makes tables, `extract-features` all else"
            raise RequestError(f"{option}: unknown modality {name!r}{hint}")
        if name not in stores.tables:
            stores.bag(name)
    chosen = [n for n in stores.names() if not names or n in names]
    if not chosen:
        bare = next(iter(stores.bags), None)
        if bare is not None:
            stores.bag(bare)
        raise RequestError("the stores hold no modality to learn from")
    return chosen


def make_plan(
    settings: TrainSettings,
    stage: str,
    stores: Stores,
    modalities: list[str],
    roles: dict[str, str],
) -> Plan:
    """Check a request against the stores; RequestError says what is wrong with it."""
    method = choose_method(settings.method, stage)  # type: ignore[attr-defined]
    options = method_settings(method, settings.set)
    tables = [name for name in modalities if name in stores.tables]
    method.check([name for name in modalities if name not in tables], tables, options)
    fold_set = choose_fold_set(stores, settings.folds)
    if not settings.seeds:
        raise RequestError("--seeds: is empty; write for example 0 or 0-4")
    tasks = list(dict.fromkeys(settings.label))
    if not tasks:
        labels = list(stores.patients.labels)
        if len(labels) != 1:
            several = f"choose one of {', '.join(labels)}, or several with commas"
            raise RequestError(f"--label: {several if labels else 'the stores have none: give a --cohort with labels'}")
        tasks = labels
    for task in tasks:
        choose_label(stores, task)
    if settings.cohort is None:
        check_labels(stores, tasks)
    withhold_shares(settings.withhold, modalities)
    if settings.keep_latents and method.latents is Method.latents:
        raise RequestError(f"--keep-latents: the method {method.name!r} has no latents; leave it out")
    count = stores.patients.folds[fold_set].shape[1]
    if wrong := [k for k in settings.only_folds if k >= count]:
        raise RequestError(f"--only-folds: there is no fold {wrong[0]} in {fold_set!r} (0 to {count - 1})")
    if wrong := [s for s in settings.only_seeds if s not in settings.seeds]:
        raise RequestError(f"--only-seeds: {wrong[0]} is not one of --seeds {','.join(map(str, settings.seeds))}")
    plan = Plan(settings, stage, stores, method, options, modalities, roles, tasks, fold_set)
    bags = [name for name in modalities if name not in tables]
    plan.maps = {name: [] for name in bags} | method.maps(bags, options)
    plan.request = settings.request() | {
        "label": tasks,
        "folds": fold_set,
        "modalities": modalities,
        "stores": stores.fingerprints,
        "patients": _patients_digest(plan),
    }
    return plan


def _patients_digest(plan: Plan) -> str:
    """What the labels and folds were, as they may come from a cohort given anew."""
    patients = plan.stores.patients
    labels = {t: [patients.labels[t].classes, patients.labels[t].values.tolist()] for t in plan.tasks}
    return f"{derive(canonical_json([patients.ids, labels, plan.folds.tolist()])):016x}"


def train(plan: Plan) -> Outcome:
    """Train what is missing of the run; nothing when it is complete."""
    settings = plan.settings
    device = choose_device(settings.device)
    grid = plan.parts(list(range(plan.folds.shape[1])), settings.seeds)
    names = [str(p) for p in grid]
    out: Path = settings.out
    refuse_input(out, [*settings.stores, *filter(None, (getattr(settings, "teacher", None), settings.cohort))])
    existing = read_run(out)
    if existing is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(f"{out} exists and is no run; give another --out")
    same = is_done(out, plan.request, existing["request"] if existing else None, settings.force)
    missing = set(missing_parts(out, names) if same else names)
    chosen = [
        p
        for p in grid
        if (not settings.only_folds or p.fold in settings.only_folds)
        and (not settings.only_seeds or p.seed in settings.only_seeds)
        and str(p) in missing
    ]
    if same and not chosen:
        left = f"; {len(missing)} parts that were not asked for now are missing" if missing else ""
        return Outcome(f"nothing to do: {out} has these parts{left}", {"run": str(out), "missing": sorted(missing)})
    shares = withhold_shares(settings.withhold, plan.modalities)
    data = load_cohort(
        plan.stores, plan.tasks, plan.modalities,
        budget=latents_budget(settings.memory), withhold=shares, seed=settings.seed,
        maps=join_maps(plan.maps, plan.teachers_maps), opened=plan.opened,
    )  # fmt: skip
    for line in check_folds(plan, data, sorted({p.fold for p in chosen})):
        note(line, settings.quiet)
    for name in data.latents:
        data.moments(name)  # refuses what is no finite number before anything is written
    imputers = _imputers(plan, list(data.tables))
    for table, imputer in imputers.items():
        for k in sorted({p.fold for p in chosen}):
            plan.stores.filled(table, imputer, plan.fold_set, k)
    torch.set_num_threads(settings.workers or choose_threads(data))
    if settings.dry_run:
        parts = list(map(str, chosen))
        return Outcome(
            f"would train {len(parts)} parts in {out}: {', '.join(parts)}", {"run": str(out), "parts": parts}
        )
    if existing is not None and not same:
        remove_run(out, existing)
    _begin(plan, names)
    started = time.monotonic()
    trained, busy = Parts(plan, data, imputers, device).train(chosen)
    lacking = missing_parts(out, names)
    message = f"trained {len(trained)} parts of {plan.method.name} in {out}"
    if trained:
        message += f" in {time.monotonic() - started:.1f} s"
        known = [row["validation_auc"] for row in trained if not np.isnan(row["validation_auc"])]
        message += f", mean validation AUC {np.mean(known):.3f}" if known else ""
    if working := [name for name in busy if name in lacking]:
        message += f"; {len(working)} are in the hands of another process"
    if lacking:
        message += f"; {len(lacking)} of {len(names)} are missing still"
    rows = [{k: v for k, v in r.items() if k != "validation_auc" or not np.isnan(v)} for r in trained]
    # The lines of progress have told each part already.
    return Outcome(message, {"run": str(out), "missing": lacking}, rows, tables=None if settings.quiet else [])


def _begin(plan: Plan, parts: list[str]) -> None:
    """Write settings.yaml and run.json unless another process has; it must have been asked for the same."""
    settings, out, patients = plan.settings, plan.settings.out, plan.stores.patients
    run = {
        "mmcli_version": __version__,
        "stage": plan.stage,
        "method": plan.method.name,
        "method_settings": plan.options.model_dump(mode="json"),
        "tasks": {t: {"classes": y.classes, "ordinal": y.ordinal} for t in plan.tasks if (y := patients.labels[t])},
        "fold_set": plan.fold_set,
        "folds": list(range(plan.folds.shape[1])),
        "seeds": settings.seeds,
        "parts": parts,
        "modalities": plan.modalities,
        "roles": plan.roles,
        "variants": list(plan.method.variants),
        "stores": [
            {"path": str(f.path.resolve()), "content_sha256": f.content_sha256} for f in plan.stores.files
        ],
        "fold_assignment": {i: "".join(map(str, r)) for i, r in zip(patients.ids, plan.folds.tolist(), strict=True)},
        "request": plan.request,
    }  # fmt: skip
    kept = settings.model_dump(mode="json") | {"label": plan.tasks, "folds": plan.fold_set}
    kept = {k: v for k, v in kept.items() if k not in NOT_KEPT and v is not None}
    for name in ("stores", "out", "cohort", "root", "teacher"):
        value = getattr(settings, name, None)
        if value is not None:
            kept[name] = [str(p.resolve()) for p in value] if isinstance(value, list) else str(value.resolve())
    write_once(out / "settings.yaml", settings_text(kept))
    write_once(out / "run.json", json.dumps(run, indent=2, ensure_ascii=False) + "\n")
    now = read_run(out)
    is_done(out, plan.request, now["request"] if now else None, False)


def _imputers(plan: Plan, tables: list[str]) -> dict[str, str]:
    """Table -> `--imputer`, for the tables that it has filled; the others' holes stay the training mean."""
    name = plan.settings.imputer
    if not name:
        return {}
    if not tables:
        raise RequestError("--imputer: there is no table among the modalities; leave it out")
    filled = [t for t in plan.stores.imputed_tables(name, plan.fold_set) if t in tables]
    rest = [t for t in tables if t not in filled]
    if rest:
        note(f"{', '.join(rest)}: not filled by {name!r}; holes are the training mean", plan.settings.quiet)
    return dict.fromkeys(filled, name)
