"""What a method answers for a set of patients, with the rules that hold for every method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmcli.errors import DamagedError
from mmcli.metrics.auc import AUC
from mmcli.store.parts import ROLES, VALIDATION
from mmcli.training.data import PartData, Preparation
from mmcli.training.method import Method
from mmcli.training.seeds import derive

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Answer:
    """One variant's prediction of one task for `rows` (n,): probabilities (n, K), their spread where the method samples
    (n,), and for each patient the modalities that it rests on, as a comma list."""

    rows: Ints
    probabilities: NDArray[np.float64]
    uncertainty: NDArray[np.float64] | None
    modalities: list[str]


@torch.no_grad()
def answer(method: Method, data: PartData, rows: Ints, key: tuple[object, ...]) -> dict[str, dict[str, Answer]]:
    """Answers of each variant and task for patients `rows`.

    A variant answers for the patients for whom it can use a modality. In the main variant, the first, a patient with
    nothing to go by gets the training prior and "" as modalities. `key` seeds methods that sample. What training alone
    has (`extra`, the teacher's other modalities) is not shown.
    """
    method.eval()
    torch.manual_seed(derive(*key, "predict"))
    data = data.at_inference()
    found: dict[str, dict[str, list[Tensor]]] = {}
    for piece in data.pieces(rows):
        batch = data.batch(piece).with_noise_keys(data.noise_keys(piece, key))
        for variant, tasks in method.predict(batch).items():
            for task, p in tasks.items():
                found.setdefault(variant, {}).setdefault(task, []).append(p.double().cpu())
    used = {v: {m: u.numpy() for m, u in of.items()} for v, of in method.used(data.roster(rows).present).items()}
    answers: dict[str, dict[str, Answer]] = {}
    for number, variant in enumerate(method.variants):
        answers[variant] = {}
        masks = used[variant]
        anything = np.any(list(masks.values()), axis=0)
        kept = np.flatnonzero(anything) if number else np.arange(len(rows))
        names = [",".join(m for m, mask in masks.items() if mask[i]) for i in kept]
        for spec in method.spec.tasks:
            drawn: NDArray[np.float64] = torch.cat(found[variant][spec.name], dim=-2).numpy()
            spread = drawn.std(0).mean(-1)[kept] if drawn.ndim == 3 else None
            mean = (drawn.mean(0) if drawn.ndim == 3 else drawn)[kept]
            mean[~anything[kept]] = spec.prior
            if len(bad := np.flatnonzero(~np.isfinite(mean).all(1))):
                raise DamagedError(
                    f"patient {data.data.ids[int(rows[kept][bad[0]])]}: no finite prediction ({len(bad)} patients): "
                    "features or cells of the store are not finite numbers; make it again"
                )
            answers[variant][spec.name] = Answer(rows[kept], mean / mean.sum(1, keepdims=True), spread, names)
    return answers


def answer_draws(
    method: Method,
    data: PartData,
    prepared: Preparation,
    filled: dict[str, NDArray[np.float64]],
    rows: Ints,
    key: tuple[object, ...],
) -> list[dict[str, Answer]]:
    """The main variant's answers of each task for each draw of a multiple imputation alone, where `filled` (table ->
    (m, n, f)) has several; the ordinary answer sees the mean of the encoded draws.

    A table with one answer keeps it in all of them; where tables have several numbers of draws, the least one counts,
    so that each draw is used once.
    """
    several = [len(draws) for draws in filled.values() if len(draws) > 1]
    found = []
    for d in range(min(several, default=0)):
        one = {table: draws[d : d + 1] if len(draws) > 1 else draws for table, draws in filled.items()}
        view = PartData(data.data, prepared, one, data.extra, data.device)
        found.append(answer(method, view, rows, key)[method.variants[0]])
    return found


def predictions_frame(
    method: Method,
    data: PartData,
    roles: NDArray[np.int8],
    task: str,
    answers: dict[str, dict[str, Answer]],
    draws: Sequence[dict[str, Answer]] = (),
) -> pd.DataFrame:
    """The rows of predictions-<task>.parquet: patient_id, split, label, p_<class> ..., modalities, and where they
    apply variant, draw and uncertainty. With `draws`, the main variant has a row for each of them (0 ... m-1) below the
    ordinary rows, whose draw is -1."""
    label = data.data.tasks[task]
    splits = {role: name for name, role in ROLES.items()}
    frames = []
    told = [(variant, -1, answers[variant][task]) for variant in method.variants]
    for variant, draw, a in told + [(method.variants[0], d, of[task]) for d, of in enumerate(draws)]:
        y = label.values[a.rows]
        columns: dict[str, Any] = {
            "patient_id": [data.data.ids[i] for i in a.rows],
            "split": [splits[int(roles[i])] for i in a.rows],
            "label": pd.Series([label.classes[v] if v >= 0 else None for v in y], dtype="object"),
        }
        columns |= {f"p_{name}": a.probabilities[:, k] for k, name in enumerate(label.classes)}
        columns["modalities"] = a.modalities
        if len(method.variants) > 1:
            columns["variant"] = variant
        if draws:
            columns["draw"] = draw
        if a.uncertainty is not None:
            columns["uncertainty"] = a.uncertainty
        frames.append(pd.DataFrame(columns))
    whole: pd.DataFrame = pd.concat(frames, ignore_index=True)
    return whole


def validation_auc(data: PartData, roles: NDArray[np.int8], task: str, main: dict[str, Answer]) -> float:
    """AUC of the main variant on the labelled validation patients; NaN where a class is missing there."""
    a = main[task]
    y = data.data.tasks[task].values[a.rows]
    chosen = roles[a.rows] == VALIDATION
    return defined_auc(y[chosen], a.probabilities[chosen])


def defined_auc(y: NDArray[Any], p: NDArray[np.float64]) -> float:
    """AUC of the labelled patients (label >= 0) with probabilities p (n, K); NaN where one class alone is there."""
    known = y >= 0
    if len(np.unique(y[known])) < 2:
        return float("nan")
    return AUC.of(y[known].astype(np.int64), p[known])
