"""The curve of a metric while a modality is withheld from more and more of the patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmcli.evaluation.estimates import Resampler, limits, of_metrics
from mmcli.evaluation.predictions import Predictions
from mmcli.metrics import Metric

Row = dict[str, Any]


@dataclass(frozen=True)
class Condition:
    """Predictions of runs with one modality withheld from a share of the patients, drawn with a seed."""

    modality: str
    share: float
    seed: int
    predictions: Sequence[Predictions]


def withheld_rows(
    conditions: Sequence[Condition], task: str, resampler: Resampler, metrics: Sequence[Metric]
) -> list[Row]:
    """Rows of `result.WITHHELD` for one task and the main variants: the mean over the seeds, with the interval of that
    mean over the shared resamples."""
    rows: list[Row] = []
    runs = dict.fromkeys(p.run for c in conditions for p in c.predictions)
    for run in runs:
        for modality, share in dict.fromkeys((c.modality, c.share) for c in conditions):
            each = [
                p
                for c in conditions
                if (c.modality, c.share) == (modality, share)
                for p in c.predictions
                if p.run == run and p.task == task and p.main
            ]
            if not each:
                continue
            sample = resampler.sample(each, of_metrics(metrics))
            mean = sample.mean()
            for q, metric in enumerate(metrics):
                values = sample.values[:, q]
                sd = float(values.std(ddof=1)) if len(values) > 1 else np.nan
                rows.append({"run": run, "task": task, "modality": modality, "share": share, "metric": metric.name,
                             "n": len(each[0].ids), "value": float(mean.values[0, q]),
                             **limits(resampler.interval(mean, 0, q)), "sd_seeds": sd,
                             "seeds": len(each)})  # fmt: skip
    return rows
