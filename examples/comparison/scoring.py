"""From runs to figures: AUC by fold, paired differences, figures by seed, with a modality withheld."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from mmcli.evaluation.delong import Difference, delong
from mmcli.evaluation.folds import CorrectedT, corrected_t
from mmcli.evaluation.predictions import PartPredictions, Predictions
from mmcli.evaluation.repredict import Repredictor
from mmcli.evaluation.sources import Run, open_source
from mmcli.methods import METHODS
from mmcli.metrics import load_metrics

METRICS = load_metrics(2)
AUC = METRICS["auc"]


@dataclass(frozen=True)
class BySeed:
    """Mean and sd over seeds of AUC, accuracy and F1, each seed's predictions averaged over the folds that share their
    test patients."""

    auc: tuple[float, float]
    accuracy: tuple[float, float]
    f1: tuple[float, float]


@cache
def read(folder: Path, task: str) -> Predictions:
    """A run's predictions of the test patients, each patient's averaged over the parts."""
    return _run(folder).predictions(task, "test")[0]


def fold_aucs(p: Predictions, seeds: frozenset[str] | None = None) -> dict[int, float]:
    """Of each fold, by its number in the set, the AUC of the mean prediction of its parts, one a seed; of `seeds` alone
    where they are given."""
    folds: dict[int, list[PartPredictions]] = {}
    for part in p.parts:
        if seeds is None or _seed(part) in seeds:
            folds.setdefault(_number(part.fold), []).append(part)
    assert all(np.array_equal(part.rows, parts[0].rows) for parts in folds.values() for part in parts)
    return {fold: AUC.of(parts[0].y, np.mean([part.p for part in parts], 0)) for fold, parts in folds.items()}


def single(p: Predictions) -> float:
    """The mean AUC of the single parts."""
    return float(np.mean([part.value(AUC) for part in p.parts]))


def difference(one: Predictions, two: Predictions, same_seeds: bool = False) -> CorrectedT:
    """The paired difference of the folds' AUC with the corrected t's 95 % limits (Nadeau & Bengio 2003). With
    `same_seeds`, of the seeds that both have.

    That both test the same patients in each fold is checked.
    """
    seeds = frozenset(map(_seed, one.parts)) & frozenset(map(_seed, two.parts)) if same_seeds else None
    a, b = fold_aucs(one, seeds), fold_aucs(two, seeds)
    tested = [{_number(part.fold): frozenset(p.ids[part.rows]) for part in p.parts} for p in (one, two)]
    assert tested[0] == tested[1]
    share = float(np.mean([len(part.y) for part in one.parts]) / np.mean([part.trained for part in one.parts]))
    return corrected_t(np.array([a[fold] - b[fold] for fold in a]), share)


def interval(p: Predictions) -> tuple[float, float, float]:
    """The AUC of the pooled predictions with DeLong's 95 % limits."""
    found = delong(p.y, [p.p])
    low, high = found.interval(0.95)
    return float(found.auc[0]), low, high


def paired(one: Predictions, two: Predictions) -> Difference:
    """The difference of the pooled predictions' AUC on the same test patients with DeLong's 95 % limits."""
    assert list(one.ids) == list(two.ids)
    return delong(one.y, [one.p, two.p]).difference(0, 1)


def by_seed(folder: Path, task: str, stores: list[Path], hidden: str = "") -> BySeed:
    """Figures by seed; with `hidden`, predicted again by the same trained parts without that modality."""
    run = _run(folder)
    if hidden:
        torch.set_num_threads(1)
        with Repredictor(folder, METHODS, stores) as again:
            made = again.frames({hidden: np.ones(len(again.ids), dtype=bool)}, ["test"])
        frames = {part: frame[task] for part, frame in made.items()}
    else:
        frames = {part: run._frame(part, task) for part in run.parts}
    seeds = sorted({part.rsplit("-seed-", 1)[1] for part in frames})
    rows = []
    for seed in seeds:
        own = {part: frame for part, frame in frames.items() if part.endswith(f"-seed-{seed}")}
        p = run.pooled(own, task, "test")[0]
        rows.append([p.value(METRICS[name]) for name in ("auc", "accuracy", "f1")])
    values = np.array(rows)
    spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros(3)
    return BySeed(*((float(m), float(s)) for m, s in zip(values.mean(0), spread, strict=True)))


def _seed(part: PartPredictions) -> str:
    return part.name.rsplit("-seed-", 1)[1]


def _number(fold: str) -> int:
    return int(fold.rsplit("-", 1)[1])


def _run(folder: Path) -> Run:
    source = open_source(folder, folder.name, False)
    assert isinstance(source, Run)
    return source
