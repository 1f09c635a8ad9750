"""Every metric for parts of the patients: subgroups by a column, and the patterns of available modalities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmcli.evaluation.attributes import MISSING
from mmcli.evaluation.estimates import Resampler, of_metrics
from mmcli.evaluation.formulas import best_limits, by_formula
from mmcli.evaluation.predictions import Predictions
from mmcli.metrics import Metric

PATTERNS, NOTHING = "modalities", "(none)"
# Of fewer patients no subgroup is called the worst: chance alone would make it so.
FEWEST = 10

Row = dict[str, Any]
Groups = dict[str, npt.NDArray[np.bool_]]


def subgroup_rows(
    group: Sequence[Predictions],
    by: Mapping[str, Mapping[str, str]],
    resampler: Resampler,
    metrics: Sequence[Metric],
    level: float,
    clusters: Mapping[str, str] | None,
) -> list[Row]:
    """Rows of `result.SUBGROUPS`: the predictions of one task in each subgroup of `by[column][patient]`, and in each
    pattern of modalities where a run has several. The resamples are those of all patients, so that subgroups and runs
    are compared on the same draws."""
    rows: list[Row] = []
    for p in group:
        for column, members in parts_of(p, by):
            views = [p.subset(keep) for keep in members.values()]
            sample = resampler.sample(views, of_metrics(metrics))
            own = []
            for i, (name, view) in enumerate(zip(members, views, strict=True)):
                for q, metric in enumerate(metrics):
                    formula = by_formula(view, metric, level, clusters)
                    own.append({"run": p.run, "variant": p.variant, "task": p.task, "by": column, "subgroup": name,
                                "metric": metric.name, "n": len(view.ids), "value": float(sample.values[i, q]),
                                "worst": False, **best_limits(resampler, sample, i, q, formula)})  # fmt: skip
            _mark_worst(own, metrics)
            rows += own
    return rows


def parts_of(p: Predictions, by: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, Groups]]:
    """The columns with the rows (n,) of each of their subgroups, in the order of the names, not observed last."""
    for column, subgroup in by.items():
        yield column, _groups(np.array([subgroup.get(i, MISSING) for i in p.patients], dtype=object))
    if p.modalities is not None and len(set(p.modalities)) > 1:
        yield PATTERNS, _groups(np.array([m or NOTHING for m in p.modalities], dtype=object))


def _groups(names: npt.NDArray[np.object_]) -> Groups:
    order = sorted(set(names), key=lambda name: (name == MISSING, _number(name), name))
    return {name: names == name for name in order}


def _number(name: str) -> float:
    """Where a subgroup stands among those of a cut column: "< 50" first, then by their lower limits."""
    if name.startswith("< "):
        return -np.inf
    try:
        return float(name.removeprefix(">= ").split(" to ")[0])
    except ValueError:
        return np.inf


def _mark_worst(rows: Sequence[Row], metrics: Sequence[Metric]) -> None:
    for metric in metrics:
        able = [r for r in rows if r["metric"] == metric.name and not np.isnan(r["value"]) and r["n"] >= FEWEST]
        if len(able) > 1:
            max(able, key=lambda r: metric.badness(r["value"]))["worst"] = True
