"""All methods, ways of hiding and measures in one table, each figure with its interval over the same resamples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from mmcli.evaluation.imputation import measures
from mmcli.evaluation.imputation.experiment import Answers, Hidden, Plan, answer, boosting, hide_all
from mmcli.evaluation.imputation.hiding import WAYS
from mmcli.evaluation.imputation.measures import Correlations
from mmcli.evaluation.intervals import interval
from mmcli.evaluation.resampling import Design, jackknife, resample
from mmcli.metrics.metric import Floats, Ints, mean_of_defined
from mmcli.store.parts import TEST

BASELINE = "mean"
RAW = "boosting on raw holes"
KIND = "bca"
# Measures that are a distance, never negative: in resamples, which hold patients twice, they are larger than in the
# sample, so that other kinds of interval would lie above the value.
DISTANCES = ("w1", "ks", "correlation")
MOST_CORRELATED = 40  # columns of the correlation matrix: its pairs grow with the square
RATIOS = ("rmse", "mae", "w1", "ks", "correlation")
COLUMNS = ["way", "method", "answer", "column", "task", "measure", "cells", "value", "low", "high", "against", "how",
           "relative", "relative_low", "relative_high"]  # fmt: skip


class Keeper(Protocol):
    """Where finished answers are kept, so that an interrupted benchmark need not make them again."""

    def load(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Arrays that were kept under a name, None where there are none."""

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep arrays under a name."""


@dataclass(frozen=True)
class Found:
    """Values of one measure over the estimate (first), the resamples and the jackknife: (1 + B + J,)."""

    answer: str
    column: str
    task: str
    measure: str
    cells: int
    values: Floats


@dataclass
class Benchmark:
    """`table` has the columns COLUMNS, a row a figure; "column" is empty for all columns together, `how` says whether
    `relative` is a ratio or a difference, and `against` whom. `hidden` and `drawn[way][method]` are what was hidden
    and the first draw for it; `seconds[method]` CPU time."""

    table: pd.DataFrame
    plan: Plan
    methods: list[str]
    hidden: dict[str, Hidden] = field(default_factory=dict)
    drawn: dict[str, dict[str, Floats]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Resamples:
    """The weights that all figures share: everybody once, `count` resamples, one patient left out."""

    n: int
    count: int
    confidence: float
    seed: int
    tested: Ints  # the patients who are in some fold's test: the units

    def blocks(self) -> Iterator[Floats]:
        """Weights (b, n), block by block; patients who are never tested weigh nothing."""
        design = Design.rows(len(self.tested))
        yield self._all(np.ones((1, len(self.tested))))
        for weights in (*resample(design, self.count, self.seed), *jackknife(design)):
            yield self._all(weights)

    def _all(self, own: Floats) -> Floats:
        weights = np.zeros((len(own), self.n))
        weights[:, self.tested] = own
        return weights

    def limits(self, values: Floats, distance: bool = False) -> tuple[float, float, float]:
        """Value, low, high of the values (1 + B + J,) over the blocks.

        The interval is BCa; of a `distance` the central share of the resampled values, multiplied by what brings
        their median to the value: how far it would move with other patients, at this number of them.
        """
        estimate, drawn = float(values[0]), values[1 : 1 + self.count]
        if distance:
            middle = np.nanmedian(drawn) if np.isfinite(drawn).any() else np.nan
            drawn = drawn * (estimate / middle) if middle > 0 else drawn
        kind = "percentile" if distance else KIND
        found = interval(kind, estimate, drawn, values[1 + self.count :], self.confidence)
        return estimate, found.low, found.high


def run(
    plan: Plan, methods: Sequence[str], options: Mapping[str, str], ways: Sequence[str], resamples: int,
    confidence: float, tell: Callable[[str], None] = lambda said: None, kept: Keeper | None = None,
) -> Benchmark:  # fmt: skip
    """Measure `methods` (and `mean`, which all are compared with) for each of the `ways`; `tell` is called before
    each method is fitted; answers that are `kept` are not made again. The same arguments give the same table."""
    names = [BASELINE, *(m for m in methods if m != BASELINE)]
    tested = np.flatnonzero((plan.roles == TEST).any(1)).astype(np.int64)
    weights = Resamples(len(plan.ids), resamples, confidence, plan.seed, tested)
    result = Benchmark(pd.DataFrame(columns=COLUMNS), plan, names)
    rows: list[dict[str, Any]] = []
    for way in ways:
        hidden = hide_all(plan, way)
        result.hidden[way] = hidden
        raw = {}
        for task in plan.labels:
            tell(f"{WAYS[way]}: {RAW}")
            raw[task] = _auc(plan, task, boosting(plan, hidden, task), weights)
            rows += _rows(way, RAW, [raw[task]], {}, {}, weights)
        baseline: dict[tuple[str, str, str], Floats] = {}
        for method in names:
            tell(f"{WAYS[way]}: {method}")
            arrays = kept.load(f"{way}-{method}") if kept else None
            own = Answers.of(method, arrays, plan) if arrays else answer(plan, hidden, method, options)
            if kept and not arrays:
                kept.save(f"{way}-{method}", own.arrays())
            found = list(_measure(plan, hidden, own, weights))
            if method == BASELINE:
                baseline = {(f.column, f.task, f.measure): f.values for f in found if f.answer == "mean"}
            rows += _rows(way, method, found, baseline, raw, weights)
            result.drawn.setdefault(way, {})[method] = own.draws[0]
            result.seconds[method] = result.seconds.get(method, 0.0) + own.seconds
    result.table = pd.DataFrame(rows, columns=COLUMNS)
    return result


def _measure(plan: Plan, hidden: Hidden, own: Answers, weights: Resamples) -> Iterator[Found]:
    """All measures of one method's answers."""
    collected: dict[tuple[str, str, str], list[Floats]] = {}
    scored = measures.scored_columns(plan, hidden)
    kinds = plan.columns.kinds
    ordered = [int(j) for j in scored if kinds[j] != "categorical"][:MOST_CORRELATED]
    true, where = _test_rows(plan, hidden)
    pairs = Correlations.of(true, where[0], ordered)
    covered = measures.covered(hidden.truth, own.draws)
    with threadpool_limits(1, user_api="blas"):
        for w in weights.blocks():
            for answer in ("mean", "median", "draw"):
                got = measures.answer_of(own, answer)
                for name, values in _by_column(plan, hidden, got, answer, covered, scored, w).items():
                    collected.setdefault((answer, "columns", name), []).append(values)
                if answer != "median" and len(ordered) > 1:
                    imputed = true.copy()
                    imputed[where[1], hidden.column] = got
                    change, total = measures.correlation_change(pairs, true, imputed, w, len(kinds))
                    collected.setdefault((answer, "columns", "correlation"), []).append(change)
                    collected.setdefault((answer, "total", "correlation"), []).append(total[None])
    counts = np.bincount(hidden.column, minlength=len(kinds))
    for (answer, what, measure), parts in collected.items():
        values = np.concatenate(parts, 1)
        if what == "total":
            yield Found(answer, "", "", measure, int(counts[ordered].sum()), values[0])
            continue
        known = [j for j in range(len(kinds)) if not np.isnan(values[j, 0])]
        for j in known:
            yield Found(answer, plan.columns.names[j], "", measure, int(counts[j]), values[j])
        if known and measure != "correlation":
            yield Found(answer, "", "", measure, int(counts[known].sum()), mean_of_defined(values[known].T))
    for task, probabilities in own.probabilities.items():
        yield _auc(plan, task, probabilities, weights)


def _by_column(
    plan: Plan, hidden: Hidden, got: Floats, answer: str, covered: Floats | None, scored: Ints, w: Floats
) -> dict[str, Floats]:
    """Values (f, b) of the measures of an answer; NaN for columns that they are not for."""
    found: dict[str, Floats] = {}
    shape = (len(plan.columns.kinds), len(w))

    def put(name: str, j: int, values: Floats) -> None:
        found.setdefault(name, np.full(shape, np.nan))[j] = values

    for j in scored.tolist():
        cells = hidden.column == j
        patient, truth, answered = hidden.patient[cells], hidden.truth[cells], got[cells]
        if plan.columns.kinds[j] != "categorical" and answer == "draw" and covered is not None:
            put("coverage", j, measures.share_of(covered[cells], patient, w))
        if plan.columns.kinds[j] != "numeric":
            if answer == "mean":
                put("accuracy", j, measures.share_of((answered == truth).astype(np.float64), patient, w))
                put("balanced_accuracy", j, measures.balanced(truth, answered, patient, w))
            continue
        off = (answered - truth) / hidden.sd[cells]
        if answer == "mean":
            put("rmse", j, np.sqrt(measures.share_of(off**2, patient, w)))
        if answer != "draw":
            put("mae", j, measures.share_of(np.abs(off), patient, w))
        if answer != "median":
            unit = float(np.mean(hidden.sd[cells]))
            w1, ks = measures.distances(truth / unit, answered / unit, patient, w)
            put("w1", j, w1)
            put("ks", j, ks)
    return found


def _test_rows(plan: Plan, hidden: Hidden) -> tuple[Floats, tuple[Ints, Ints]]:
    """Each fold's test rows (r, f) as they are in the table, their patients (r,), and each hidden cell's row (c,)."""
    tests = [plan.rows(k, TEST) for k in range(plan.folds)]
    place = np.full((plan.folds, len(plan.ids)), -1, np.int64)
    start = 0
    for k, test in enumerate(tests):
        place[k, test] = np.arange(start, start + len(test))
        start += len(test)
    patient = np.concatenate(tests)
    return plan.table.values[patient], (patient, place[hidden.fold, hidden.patient])


def _auc(plan: Plan, task: str, probabilities: Sequence[Floats | None], weights: Resamples) -> Found:
    values = [measures.fold_auc(plan, task, probabilities, w) for w in weights.blocks()]
    return Found("mean", "", task, "auc", 0, np.concatenate(values))


def _rows(
    way: str, method: str, found: Sequence[Found], baseline: Mapping[tuple[str, str, str], Floats],
    raw: Mapping[str, Found], weights: Resamples,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row a figure, with its ratio to (or difference from) `mean`; an AUC also against boosting on raw holes."""
    rows = []
    for f in found:
        value, low, high = weights.limits(f.values, f.measure in DISTANCES)
        row = {"way": way, "method": method, "answer": f.answer, "column": f.column, "task": f.task,
               "measure": f.measure, "cells": f.cells, "value": value, "low": low, "high": high}  # fmt: skip
        row |= dict.fromkeys(("against", "how"), "") | dict.fromkeys(COLUMNS[-3:], np.nan)
        other = baseline.get((f.column, f.task, f.measure))
        if other is not None and f.measure != "coverage":
            ratio = f.measure in RATIOS
            with np.errstate(divide="ignore", invalid="ignore"):
                relative = f.values / np.where(other == 0, np.nan, other) if ratio else f.values - other
            row |= {"against": BASELINE, "how": "ratio" if ratio else "difference"}
            row |= dict(zip(COLUMNS[-3:], weights.limits(relative, f.measure in DISTANCES), strict=True))
        rows.append(row)
        if f.task and f.task in raw:
            compared = {"against": RAW, "how": "difference"}
            limits = dict(zip(COLUMNS[-3:], weights.limits(f.values - raw[f.task].values), strict=True))
            rows.append({**row, **compared, **limits})
    return rows
