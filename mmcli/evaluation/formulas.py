"""Limits that need no resampling, and which limits a figure gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmcli.evaluation.delong import Delong, delong
from mmcli.evaluation.estimates import Resampler, Sample, limits
from mmcli.evaluation.predictions import Predictions
from mmcli.evaluation.proportions import wilson, wilson_mean
from mmcli.evaluation.rubin import rubin
from mmcli.metrics import Metric
from mmcli.metrics.metric import confusion, decide

Row = dict[str, Any]
# Formulas that hold their level where the bootstrap does not, with few patients in a class.
FORMULAS = ("wilson", "mover")


def by_formula(p: Predictions, metric: Metric, level: float, clusters: Mapping[str, str] | None) -> Row:
    """The columns `analytic`, `analytic_low`, `analytic_high` of `result.METRICS`; none where there is no formula.

    DeLong's limits for AUC (over imputations by Rubin's rules), Wilson's for proportions, and for balanced accuracy
    those of the mean of the classes' recalls. The last two only where rows are independent and imputed once.
    """
    if metric.name == "auc":
        names = p.units(clusters)
        if p.draws is None:
            low, high = delong(p.y, [p.p], names).interval(level)
        else:
            each = [delong(p.y, [drawn], names) for drawn in p.draws]
            pooled = rubin(np.array([float(d.auc[0]) for d in each]),
                           np.array([float(d.covariance[0, 0]) for d in each]), confidence=level,
                           logit=True)  # fmt: skip
            low, high = pooled.low, pooled.high
        return {"analytic": "delong", "analytic_low": low, "analytic_high": high} if not np.isnan(low) else {}
    if p.draws is not None or p.clustered or clusters is not None:
        return {}
    if metric.proportion is not None:
        return _wilson(*metric.proportion(p.y, p.answers(metric.about)), level)
    if metric.name == "balanced_accuracy":
        matrix = confusion(p.y, p.answers(metric.about), np.ones((1, len(p.y))))[0].astype(int)
        low, high = wilson_mean(matrix.diagonal().tolist(), matrix.sum(axis=1).tolist(), level)
        return {"analytic": "mover", "analytic_low": low, "analytic_high": high} if not np.isnan(low) else {}
    return {}


def class_by_formula(
    p: Predictions, k: int, metric: Metric, areas: Delong | None, level: float, clusters: Mapping[str, str] | None
) -> Row:
    """As `by_formula` for class k against the rest; `areas` are DeLong's of the predictions."""
    if metric.name == "auc" and areas is not None:
        low, high = areas.class_interval(k, level)
        return {"analytic": "delong", "analytic_low": low, "analytic_high": high} if not np.isnan(low) else {}
    if metric.proportion is None or p.draws is not None or p.clustered or clusters is not None:
        return {}
    called = decide(p.p) == k
    return _wilson(*metric.proportion((p.y == k).astype(np.int64), np.stack([~called, called], 1).astype(float)), level)


def _wilson(successes: int, trials: int, level: float) -> Row:
    if not trials:
        return {}
    low, high = wilson(successes, trials, level)
    return {"analytic": "wilson", "analytic_low": low, "analytic_high": high}


def best_limits(resampler: Resampler, sample: Sample, i: int, q: int, formula: Row) -> Row:
    """The columns `result.INTERVAL` of quantity q of predictions i, whose limits by formula are given: these where the
    kind is "auto" and they hold better; none without a bootstrap."""
    found = limits(resampler.interval(sample, i, q))
    b = resampler.bootstrap
    if b is not None and b.kind == "auto" and not b.stratify and formula.get("analytic") in FORMULAS:
        found |= {"low": formula["analytic_low"], "high": formula["analytic_high"], "interval": formula["analytic"]}
    return found
