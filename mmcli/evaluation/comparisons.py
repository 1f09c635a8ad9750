"""Runs against each other: paired differences with intervals and p, and the tests that a referee knows by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mmcli.evaluation.delong import delong
from mmcli.evaluation.estimates import Resampler, Sample, of_metrics
from mmcli.evaluation.folds import corrected_t, wilcoxon
from mmcli.evaluation.mcnemar import mcnemar
from mmcli.evaluation.multiplicity import benjamini_hochberg, holm
from mmcli.evaluation.predictions import PartPredictions, Predictions
from mmcli.evaluation.result import COMPARISONS
from mmcli.evaluation.rubin import rubin
from mmcli.metrics import Metric
from mmcli.metrics.metric import Floats

Row = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """Two predictions of one task: as they are, and on the rows that both have."""

    one: Predictions
    two: Predictions
    common_one: Predictions
    common_two: Predictions


def pairs_of(group: Sequence[Predictions], reference: str | None) -> list[Pair]:
    """Everything against the main variant of the run `reference`; without one, every pair of main variants."""
    main = [p for p in group if p.main]
    if reference is not None:
        base = next(p for p in main if p.run == reference)
        chosen = [(p, base) for p in group if p is not base]
    else:
        chosen = [(two, one) for i, one in enumerate(main) for two in main[i + 1 :]]
    found = []
    for one, two in chosen:
        if np.array_equal(one.ids, two.ids):
            found.append(Pair(one, two, one, two))
        else:
            a, b = np.isin(one.ids, two.ids), np.isin(two.ids, one.ids)
            found.append(Pair(one, two, one.subset(a), two.subset(b)))
    return [pair for pair in found if len(pair.common_one.ids)]


def compare(
    pairs: Sequence[Pair], group: Sequence[Predictions], sample: Sample, resampler: Resampler,
    metrics: Sequence[Metric], confidence: float, clusters: Mapping[str, str] | None,
) -> list[Row]:  # fmt: skip
    """Rows of `result.COMPARISONS` for the pairs of one task, p not yet adjusted; `sample` holds the metrics of all
    the predictions of `group`, so that only pairs with other patients in common are sampled here."""
    known = {id(p) for p in group}
    parts = {id(p): p for pair in pairs for p in (pair.common_one, pair.common_two) if id(p) not in known}
    number = {id(p): i for i, p in enumerate([*group, *parts.values()])}
    if parts:
        sample = sample.beside(resampler.sample([*parts.values()], of_metrics(metrics)))
    rows: list[Row] = []
    for pair in pairs:
        difference = sample.minus(number[id(pair.common_one)], number[id(pair.common_two)])
        rows += _by_bootstrap(pair, difference, resampler, metrics)
        rows += _by_delong(pair, confidence, clusters)
        if not pair.common_one.clustered and clusters is None:
            rows += _by_mcnemar(pair)
        rows += _by_folds(pair, metrics, confidence)
    return rows


def adjusted(rows: Sequence[Row]) -> pd.DataFrame:
    """The table, with p adjusted over each family: all pairs and tasks of one metric and test."""
    frame: pd.DataFrame = pd.DataFrame(list(rows), columns=COMPARISONS)
    for _, family in frame.groupby(["metric", "test"], sort=False):
        p = family["p"].to_numpy(dtype=np.float64)
        frame.loc[family.index, "p_holm"] = holm(p)
        frame.loc[family.index, "p_bh"] = benjamini_hochberg(p)
    return frame


def _row(pair: Pair, metric: str, test: str, n: int, **found: Any) -> Row:
    who = {"run": pair.one.run, "variant": pair.one.variant, "task": pair.one.task, "other": pair.two.title}
    return {**who, "metric": metric, "test": test, "n": n, **found}


def _by_bootstrap(pair: Pair, difference: Sample, resampler: Resampler, metrics: Sequence[Metric]) -> list[Row]:
    rows = []
    for q, metric in enumerate(metrics):
        found = resampler.interval(difference, 0, q)
        limits = {} if found is None else {"low": found.low, "high": found.high, "interval": found.kind}
        p = resampler.p_value(difference, 0, q)
        value = float(difference.values[0, q])
        rows.append(_row(pair, metric.name, "bootstrap", len(pair.common_one.ids), value=value, p=p, **limits))
    return rows


def _by_delong(pair: Pair, confidence: float, clusters: Mapping[str, str] | None) -> list[Row]:
    one, two = pair.common_one, pair.common_two
    names = one.units(clusters)
    row = {"interval": "delong"}
    if one.draws is None or two.draws is None or len(one.draws) != len(two.draws):
        d = delong(one.y, [one.p, two.p], names).difference(0, 1, confidence)
        if np.isnan(d.p):
            return []
        return [_row(pair, "auc", "delong", len(one.ids), value=d.value, low=d.low, high=d.high, statistic=d.z, p=d.p,
                     **row)]  # fmt: skip
    each = [delong(one.y, [a, b], names).difference(0, 1, confidence)
            for a, b in zip(one.draws, two.draws, strict=True)]  # fmt: skip
    pooled = rubin(np.array([d.value for d in each]), np.array([d.se**2 for d in each]), confidence=confidence)
    if np.isnan(pooled.p):
        return []
    return [_row(pair, "auc", "delong", len(one.ids), value=pooled.estimate, low=pooled.low, high=pooled.high,
                 statistic=pooled.t, p=pooled.p, **row)]  # fmt: skip


def _by_mcnemar(pair: Pair) -> list[Row]:
    one, two = pair.common_one, pair.common_two
    right = [p.answers("decisions").argmax(axis=1) == p.y for p in (one, two)]
    m = mcnemar(*right)
    value = float(right[0].mean() - right[1].mean())
    n = len(one.ids)
    return [
        _row(pair, "accuracy", "mcnemar_exact", n, value=value, statistic=float(m.b), p=m.exact_p),
        _row(pair, "accuracy", "mcnemar", n, value=value, statistic=m.statistic, p=m.corrected_p),
    ]


def _by_folds(pair: Pair, metrics: Sequence[Metric], confidence: float) -> list[Row]:
    """Nadeau and Bengio's corrected t and Wilcoxon's test over the folds that both have with the same patients."""
    one, two = _folds(pair.one), _folds(pair.two)
    shared = [k for k in one if k in two and one[k].patients == two[k].patients]
    if len(shared) < 2 or len(shared) < max(len(one), len(two)):
        return []
    if len({one[k].patients for k in shared}) == 1:
        return []  # one split whose folds differ in who validates: their spread says nothing of other test patients
    share = float(np.mean([one[k].tested for k in shared]) / max(np.mean([one[k].trained for k in shared]), 1e-300))
    rows = []
    for metric in metrics:
        d: Floats = np.array([one[k].value(metric) - two[k].value(metric) for k in shared])
        if np.isnan(d).any():
            continue
        n = len(shared)
        if all(one[k].trained for k in shared):
            t = corrected_t(d, share, confidence)
            rows.append(_row(pair, metric.name, "corrected_t", n, value=t.mean, low=t.low, high=t.high,
                             interval="corrected_t", statistic=t.t, p=t.p))  # fmt: skip
        w = wilcoxon(d)
        rows.append(_row(pair, metric.name, "wilcoxon", n, value=float(d.mean()), statistic=w.statistic, p=w.p))
    return rows


@dataclass(frozen=True)
class _Fold:
    """The parts of one fold: seeds on the same patients."""

    parts: list[PartPredictions]
    patients: frozenset[str]

    @property
    def tested(self) -> int:
        return len(self.patients)

    @property
    def trained(self) -> int:
        return min(p.trained for p in self.parts)

    def value(self, metric: Metric) -> float:
        """The mean over the seeds, so that a fold counts once."""
        return float(np.mean([p.value(metric) for p in self.parts]))


def _folds(p: Predictions) -> dict[str, _Fold]:
    parts: dict[str, list[PartPredictions]] = {}
    for part in p.parts:
        parts.setdefault(part.fold, []).append(part)
    return {k: _Fold(v, frozenset(p.ids[np.concatenate([x.rows for x in v])])) for k, v in parts.items()}
