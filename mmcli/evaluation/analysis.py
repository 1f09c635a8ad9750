"""One evaluation from predictions to tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from mmcli.errors import RequestError
from mmcli.evaluation.checks import check_same_patients_and_classes
from mmcli.evaluation.comparisons import adjusted, compare, pairs_of
from mmcli.evaluation.deciding import decide_by, thresholds_said
from mmcli.evaluation.delong import delong
from mmcli.evaluation.estimates import Bootstrap, Resampler, Sample, of_metrics
from mmcli.evaluation.formulas import FORMULAS, best_limits, by_formula, class_by_formula
from mmcli.evaluation.intervals import KINDS
from mmcli.evaluation.predictions import Predictions
from mmcli.evaluation.result import CLASSES, CONFORMAL, METRICS, SUBGROUPS, WITHHELD, Result
from mmcli.evaluation.sets import conformal_rows
from mmcli.evaluation.subgroups import subgroup_rows
from mmcli.evaluation.thresholds import parse_rule
from mmcli.evaluation.withheld import Condition, withheld_rows
from mmcli.metrics import Metric, load_metrics
from mmcli.metrics.by_class import PER_CLASS, per_class
from mmcli.metrics.metric import Floats

Row = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """What is asked of predictions. `by[column][patient]` names subgroups, `clusters[patient]` the units that are
    resampled where they are not patients; `level` is that of all intervals, also without a bootstrap."""

    bootstrap: Bootstrap | None = None
    reference: str | None = None
    threshold: str = "argmax"
    coverage: float = 0.9
    by: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    clusters: Mapping[str, str] | None = None
    level: float = 0.95


def analyse(predictions: Sequence[Predictions], question: Question, conditions: Iterable[Condition] = ()) -> Result:
    """All tables of `Result` for predictions that were read and pooled; `conditions` feed the table `withheld`.

    RequestError where runs cannot be compared or a rule has nothing to find its threshold on.
    """
    check_same_patients_and_classes(predictions)
    check_coverage(question.coverage)
    rule = parse_rule(question.threshold)
    everyone = decide_by(predictions, rule)
    conditions = [replace(c, predictions=decide_by(c.predictions, rule, everyone)) for c in conditions]
    tables: dict[str, list[Row]] = {name: [] for name in ("metrics", "classes", "comparisons", "subgroups", "sets",
                                                          "withheld")}  # fmt: skip
    for task in dict.fromkeys(p.task for p in everyone):
        group = [p for p in everyone if p.task == task]
        metrics = [*load_metrics(len(group[0].classes), any(p.ordinal for p in group)).values()]
        resampler = Resampler.over(group, question.bootstrap, question.clusters)
        sample = resampler.sample(group, of_metrics(metrics))
        tables["metrics"] += _metric_rows(group, metrics, sample, resampler, question)
        tables["classes"] += _class_rows(group, resampler, question)
        pairs = pairs_of(group, question.reference)
        tables["comparisons"] += compare(pairs, group, sample, resampler, metrics, question.level, question.clusters)
        tables["subgroups"] += subgroup_rows(group, question.by, resampler, metrics, question.level, question.clusters)
        tables["sets"] += conformal_rows([p for p in group if p.main], question.by, resampler, question.coverage)
        tables["withheld"] += withheld_rows(conditions, task, resampler, metrics)
    frames = {
        "metrics": pd.DataFrame(tables["metrics"], columns=METRICS),
        "classes": pd.DataFrame(tables["classes"], columns=CLASSES),
        "comparisons": adjusted(tables["comparisons"]),
        "subgroups": pd.DataFrame(tables["subgroups"], columns=SUBGROUPS),
        "conformal": pd.DataFrame(tables["sets"], columns=CONFORMAL),
        "withheld": pd.DataFrame(tables["withheld"], columns=WITHHELD),
    }
    notes = [*_apart(everyone, question.reference), *_notes(everyone, frames["metrics"], question)]
    return Result(**frames, predictions=everyone, notes=notes)


def check_coverage(coverage: float) -> None:
    """RequestError unless it is a share between 0 and 1."""
    if not 0 < coverage < 1:
        raise RequestError(f"--coverage: lies between 0 and 1 (given: {coverage}); 90 percent is 0.9")


def _apart(predictions: Sequence[Predictions], reference: str | None) -> list[str]:
    """Which runs could not be compared as they share no row."""
    main = [p for p in predictions if p.main]
    return [
        f"{two.title} and {one.title} have no {'row' if one.clustered or two.clustered else 'patient'} in common for "
        f"{one.task}: they are not compared."
        for i, one in enumerate(main)
        for two in main[i + 1 :]
        if one.task == two.task and reference in (None, one.run, two.run) and not np.isin(one.ids, two.ids).any()
    ]


def _who(p: Predictions) -> Row:
    return {"run": p.run, "variant": p.variant, "task": p.task}


def _metric_rows(
    group: Sequence[Predictions], metrics: Sequence[Metric], sample: Sample, resampler: Resampler, question: Question
) -> list[Row]:
    rows = []
    for i, p in enumerate(group):
        for q, metric in enumerate(metrics):
            parts = np.array([part.value(metric) for part in p.parts])
            defined = parts[~np.isnan(parts)]
            over_parts = {"mean": float(defined.mean()) if len(defined) else np.nan,
                          "sd": float(defined.std(ddof=1)) if len(defined) > 1 else np.nan,
                          "parts": len(defined)}  # fmt: skip
            formula = by_formula(p, metric, question.level, question.clusters)
            rows.append({**_who(p), "metric": metric.name, "n": len(p.ids), "value": float(sample.values[i, q]),
                         **best_limits(resampler, sample, i, q, formula), **formula, **over_parts})  # fmt: skip
    return rows


def _class_rows(group: Sequence[Predictions], resampler: Resampler, question: Question) -> list[Row]:
    """Of more than two classes, each against the rest."""
    classes = group[0].classes
    if len(classes) == 2:
        return []

    def quantities(p: Predictions, draw: int | None, w: Floats) -> Floats:
        found = per_class(p.y, p.answers("ranking", draw), w)
        return np.concatenate([values.T for values in found.values()])

    names = list(PER_CLASS)
    metrics = load_metrics(2)
    sample = resampler.sample(group, quantities)
    rows = []
    for i, p in enumerate(group):
        areas = delong(p.y, [p.p], p.units(question.clusters)) if p.draws is None else None
        for q, (name, k) in enumerate((name, k) for name in names for k in range(len(classes))):
            formula = class_by_formula(p, k, metrics[name], areas, question.level, question.clusters)
            rows.append({**_who(p), "class": classes[k], "metric": name, "n": int((p.y == k).sum()),
                         "value": float(sample.values[i, q]), **best_limits(resampler, sample, i, q, formula),
                         **formula})  # fmt: skip
    return rows


def _notes(predictions: Sequence[Predictions], metrics: pd.DataFrame, question: Question) -> list[str]:
    """What a reader must know beside the figures."""
    said = thresholds_said([p for p in predictions if p.main])
    several = [p for p in predictions if p.thresholds is None and len(p.classes) > 2]
    if question.threshold != "argmax" and several:
        said.append(
            f"{several[0].task} has more than two classes: decided by the likeliest, whatever --threshold says."
        )
    said += [
        f"{p.title}, {p.task}: figures are means over {len(p.draws)} imputations, and intervals cover their spread."
        for p in predictions
        if p.main and p.draws is not None
    ]
    if question.bootstrap is not None:
        said += _bootstrap_notes(metrics, question.bootstrap)
    return said


def _bootstrap_notes(metrics: pd.DataFrame, bootstrap: Bootstrap) -> list[str]:
    said = []
    # A figure that does not exist at all has no interval to speak of.
    metrics = metrics[metrics["value"].notna() & metrics["low"].notna()]
    undefined = metrics[metrics["undefined"].fillna(0).astype(int) > 0]
    if len(undefined):
        worst = undefined.loc[undefined["undefined"].astype(int).idxmax()]
        said.append(
            f"In up to {int(worst['undefined'])} of {bootstrap.resamples} resamples a metric was undefined "
            f"({worst['metric']} of {worst['run']}: a class was not drawn, or not predicted); its interval is over the "
            "others. metrics.csv counts them for each."
        )
    expected = {bootstrap.drawn_kind, *(FORMULAS if bootstrap.kind == "auto" else ())}
    fallen = metrics[metrics["interval"].notna() & ~metrics["interval"].isin(expected)]
    for kind, rows in fallen.groupby("interval", sort=True):
        names = ", ".join(dict.fromkeys(rows["metric"]))
        said.append(f"No {bootstrap.drawn_kind} interval could be made for {names}: it is a {kind} one there.")
    points = metrics[metrics["interval"].isin(KINDS) & (metrics["low"] == metrics["high"])]
    if len(points):
        names = ", ".join(dict.fromkeys(points["metric"]))
        said.append(
            f"Intervals without width ({names}): all resamples agree, which does not make the figure certain; "
            "patients like these cannot show how far it may be off."
        )
    return said
