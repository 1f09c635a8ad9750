"""From runs to figures: AUC by fold, paired differences, figures by seed, with a modality withheld."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from mmcli.evaluation.delong import Difference, delong
from mmcli.evaluation.folds import CorrectedT, corrected_t
from mmcli.evaluation.predictions import Predictions
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


def fold_aucs(p: Predictions) -> dict[int, float]:
    """The mean AUC over the seeds of each fold, by its number in the set."""
    folds: dict[int, list[float]] = {}
    for part in p.parts:
        folds.setdefault(_number(part.fold), []).append(part.value(AUC))
    return {fold: float(np.mean(values)) for fold, values in folds.items()}


def difference(one: Predictions, two: Predictions) -> CorrectedT:
    """The paired difference of the folds' AUC with the corrected t's 95 % limits (Nadeau & Bengio 2003).

    A set with one repeat has the first folds of one with several, so that the folds of `one` are found in `two`; that
    they test the same patients is checked.
    """
    a, b = fold_aucs(one), fold_aucs(two)
    tested = [{_number(part.fold): frozenset(p.ids[part.rows]) for part in p.parts} for p in (one, two)]
    assert all(tested[0][fold] == tested[1][fold] for fold in a)
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


def _number(fold: str) -> int:
    return int(fold.rsplit("-", 1)[1])


def _run(folder: Path) -> Run:
    source = open_source(folder, folder.name, False)
    assert isinstance(source, Run)
    return source
