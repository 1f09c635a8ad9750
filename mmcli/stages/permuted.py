"""A run's training, repeated with permuted labels: what it then finds is not in the data."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from mmcli.errors import RequestError
from mmcli.evaluation.audit.report import FINDING, WARNING, Report, count
from mmcli.evaluation.audit.subject import AuditedRun, ordinary
from mmcli.metrics.auc import auc
from mmcli.progress import track
from mmcli.settings import SETTINGS, AuditSettings
from mmcli.stages.train import choose_modalities, make_plan, train
from mmcli.store import Patients, Stores
from mmcli.store.parts import TEST, TRAIN

CONFIDENCE = 0.99
LEVEL = 0.05
DRAWS = 100  # before a permutation that leaves every fold its classes is given up


def permuted_training(run: AuditedRun, settings: AuditSettings) -> Report:
    """Train the run's whole grid `--permute` times, each on labels permuted among the labelled patients (patients with
    several labels keep theirs together), with the folds and settings of the run. A mean pooled test AUC whose 99 %
    interval lies above .5 is a finding; the run's own AUC that permutations reach with p > .05 is a warning, from 19 of
    them on. AUC pooled over cross-validation is slightly below .5 by chance, as each test fold lacks what its training
    has more of.
    """
    report = Report()
    if run.about["stage"] == "distill":
        report.skipped.append(
            f"permutation: {run.name}: not supported for distill, as its teacher learned the true labels; permute the "
            "teacher's run"
        )
        return report
    if run.stores is None:
        report.skipped.append(f"permutation: {run.name}: {run.reason}")
        return report
    tasks = list(run.about["tasks"])
    own = {task: pooled_auc(run.path, run.about, task) for task in tasks}
    found: dict[str, list[float]] = {task: [] for task in tasks}
    for i in track(range(settings.permute), settings.permute, f"permute {run.path.name}", settings.quiet):
        for task, value in _once(run, settings, i).items():
            found[task].append(value)
    for task in tasks:
        _tell(report, f"{run.name}, {task}", own[task], np.array(found[task]))
    return report


def _once(run: AuditedRun, settings: AuditSettings, number: int) -> dict[str, float]:
    """Pooled test AUC of each task after one permutation."""
    assert run.stores is not None
    patients = permuted_patients(run, np.random.default_rng([settings.seed, number]))
    with tempfile.TemporaryDirectory(prefix="mmcli-permuted-") as folder:
        out = Path(folder) / "run"
        changed: dict[str, Any] = {
            "stores": [file.path for file in run.stores.files], "out": out, "cohort": None, "root": None,
            "keep_latents": False, "quiet": True, "device": settings.device, "workers": settings.workers,
            "memory": settings.memory,
        }  # fmt: skip
        wanted: Any = SETTINGS[run.about["stage"]](**run.settings | changed)
        roles = dict(run.about.get("roles", {}))
        with Stores(wanted.stores, patients) as stores:
            modalities = choose_modalities(stores, list(run.about["modalities"]))
            train(make_plan(wanted, run.about["stage"], stores, modalities, roles))
        return {task: pooled_auc(out, run.about, task) for task in run.about["tasks"]}


def permuted_patients(run: AuditedRun, rng: np.random.Generator) -> Patients:
    """The run's patients and folds with permuted labels; drawn again where a fold would lose a class."""
    assert run.stores is not None
    patients = run.stores.patients
    tasks = list(run.about["tasks"])
    folds = np.stack([run.roles(k) for k in run.about["folds"]], 1)
    known = np.stack([patients.labels[task].values >= 0 for task in tasks], 1)
    patterns = np.unique(known, axis=0)
    for _ in range(DRAWS):
        order = np.arange(len(patients))
        for pattern in patterns:
            rows = np.flatnonzero((known == pattern).all(1))
            order[rows] = rng.permutation(rows)
        labels = {task: replace(y, values=y.values[order]) for task, y in patients.labels.items() if task in tasks}
        if all(_complete(y.values, len(y.classes), folds) for y in labels.values()):
            return replace(patients, labels=labels, folds={run.about["fold_set"]: folds})
    raise RequestError(f"--permute: {run.name}: no permutation leaves every fold a training patient of every class")


def _complete(y: np.ndarray, classes: int, folds: np.ndarray) -> bool:
    """Whether every fold can be trained and its AUC tells: all classes in training, a labelled patient in test."""
    train = all(len(np.unique(y[(roles == TRAIN) & (y >= 0)])) == classes for roles in folds.T)
    return train and all(((roles == TEST) & (y >= 0)).any() for roles in folds.T)


def pooled_auc(path: Path, about: dict[str, Any], task: str) -> float:
    """AUC of the test patients' probabilities in the main variant, each patient's averaged over the parts."""
    classes = about["tasks"][task]["classes"]
    frames = []
    for part in about["parts"]:
        frame = pd.read_parquet(path / part / f"predictions-{task}.parquet")
        frames.append(frame[ordinary(frame) & (frame["split"] == "test") & frame["label"].notna()])
    rows = pd.concat(frames)
    columns = [f"p_{c}" for c in classes]
    means = rows.groupby("patient_id")[columns].mean()
    label = rows.drop_duplicates("patient_id").set_index("patient_id")["label"].reindex(means.index)
    y = label.map({c: k for k, c in enumerate(classes)}).to_numpy(np.int64)
    return float(auc(y, means.to_numpy(np.float64), np.ones((1, len(y))))[0])


def _tell(report: Report, where: str, own: float, values: np.ndarray) -> None:
    known = values[np.isfinite(values)]
    if not len(known) or not np.isfinite(own):
        report.skipped.append(f"permutation: {where}: AUC is undefined (a class has no test patient)")
        return
    p = (1 + int((known >= own).sum())) / (len(known) + 1)
    mean = float(known.mean())
    line = f"permutation: {where}: AUC {own:.3f}; {count(len(known), 'permutation')} gave {mean:.3f}"
    low, high = float("nan"), float("nan")
    if len(known) > 1:
        half = float(t.ppf((1 + CONFIDENCE) / 2, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known)))
        low, high = max(mean - half, 0.0), min(mean + half, 1.0)
        line += f" [{low:.3f}, {high:.3f}], at most {known.max():.3f}"
    report.checked.append(f"{line}; p = {p:.3g}")
    if low > 0.5:
        report.add(
            FINDING, "permutation", where,
            f"with permuted labels its test AUC is {mean:.3f} [{low:.3f}, {high:.3f}] over {len(known)} permutations, "
            f"{mean - 0.5:.3f} above chance: the labels of test patients reach the model",
            "look for what the method reads at prediction, and for test patients in what it was fitted on",
        )  # fmt: skip
    if p > LEVEL and len(known) >= round(1 / LEVEL) - 1:
        report.add(
            WARNING, "permutation", where,
            f"its test AUC of {own:.3f} is what permuted labels give (p = {p:.3g} of {len(known)} permutations)",
            "do not report it as a model that works",
        )  # fmt: skip
