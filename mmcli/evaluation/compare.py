"""The figures of a comparison: every metric of every run on the same patients and the same resamples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from mmcli.evaluation.intervals import Interval, percentile
from mmcli.evaluation.predictions import Predictions
from mmcli.evaluation.resampling import resample
from mmcli.metrics import Metric, load_metrics
from mmcli.metrics.metric import Floats


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made."""

    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Figure:
    """One metric of one run (or variant) for one task.

    `value` is the pooled figure: of the patients, each with the average of the parts' probabilities; `interval` is
    its. `mean` and `sd` (n - 1) are over the `parts` parts in which the metric is defined, each on its own patients.
    """

    run: str
    variant: str
    task: str
    metric: str
    title: str
    n: int
    value: float
    interval: Interval | None
    mean: float
    sd: float
    parts: int


@dataclass(frozen=True)
class Difference:
    """A run's metric minus the reference's, on the `n` patients that both have, resampled together."""

    run: str
    variant: str
    reference: str
    task: str
    metric: str
    title: str
    n: int
    value: float
    interval: Interval | None


def compare(
    all_predictions: Sequence[Predictions], bootstrap: Bootstrap | None, reference: str | None = None
) -> tuple[list[Figure], list[Difference]]:
    """Figures of all predictions, and differences to the main variant of the run named `reference`.

    Without `bootstrap` there are no intervals.
    """
    figures: list[Figure] = []
    differences: list[Difference] = []
    for task in dict.fromkeys(p.task for p in all_predictions):
        group = [p for p in all_predictions if p.task == task]
        metrics = load_metrics(len(group[0].classes))
        base = next((p for p in group if p.run == reference and p.main), None)
        pairs = [(p, *_same_patients(p, base)) for p in group if base is not None and p is not base]
        # A pair on other patients than a run's own is evaluated anew; most are the very objects of the group.
        each = list({id(p): p for p in [*group, *(q for _, *pair in pairs for q in pair)]}.values())
        number = {id(p): i for i, p in enumerate(each)}
        values = np.array([[m.of(p.y, p.p) for m in metrics.values()] for p in each])
        # The products are too thin to gain by threads; on a busy machine, waiting threads make them 100 times slower.
        with threadpool_limits(1, user_api="blas"):
            drawn = _resampled(each, list(metrics.values()), bootstrap) if bootstrap else None
        for p in group:
            figures += [_figure(p, m, j, values[number[id(p)]], drawn, number[id(p)], bootstrap)
                        for j, m in enumerate(metrics.values())]  # fmt: skip
        for p, own, other in pairs:
            a, b = number[id(own)], number[id(other)]
            for j, m in enumerate(metrics.values()):
                interval = None
                if drawn is not None and bootstrap is not None:
                    interval = percentile(drawn[a, j] - drawn[b, j], bootstrap.confidence)
                difference = float(values[a, j] - values[b, j])
                differences.append(
                    Difference(p.run, p.variant, other.title, task, m.name, m.title, len(own.ids), difference, interval)
                )
    return figures, differences


def _same_patients(p: Predictions, base: Predictions) -> tuple[Predictions, Predictions]:
    if np.array_equal(p.ids, base.ids):
        return p, base
    common = sorted(set(p.ids) & set(base.ids))
    return p.of_patients(common), base.of_patients(common)


def _resampled(each: Sequence[Predictions], metrics: Sequence[Metric], bootstrap: Bootstrap) -> Floats:
    """Values (predictions, metrics, resamples) over shared resamples of the union of the patients."""
    union = sorted({i for p in each for i in p.ids})
    place = {patient: i for i, patient in enumerate(union)}
    columns = [np.array([place[i] for i in p.ids], dtype=np.int64) for p in each]
    values = np.full((len(each), len(metrics), bootstrap.resamples), np.nan)
    start = 0
    for weights in resample(len(union), bootstrap.resamples, bootstrap.seed):
        stop = start + len(weights)
        for i, (p, own) in enumerate(zip(each, columns, strict=True)):
            w = weights if len(own) == len(union) else weights[:, own]
            for j, metric in enumerate(metrics):
                values[i, j, start:stop] = metric(p.y, p.p, w)
        start = stop
    return values


def _figure(
    p: Predictions, metric: Metric, j: int, values: Floats, drawn: Floats | None, i: int, bootstrap: Bootstrap | None
) -> Figure:
    parts = np.array([metric.of(part.y, part.p) for part in p.parts])
    defined = parts[~np.isnan(parts)]
    return Figure(
        run=p.run,
        variant=p.variant,
        task=p.task,
        metric=metric.name,
        title=metric.title,
        n=len(p.ids),
        value=float(values[j]),
        interval=percentile(drawn[i, j], bootstrap.confidence) if drawn is not None and bootstrap else None,
        mean=float(defined.mean()) if len(defined) else math.nan,
        sd=float(defined.std(ddof=1)) if len(defined) > 1 else math.nan,
        parts=len(defined),
    )
