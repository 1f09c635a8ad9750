"""Figures and their intervals: every metric of every run on the same patients and the same resamples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from mmcli.errors import RequestError
from mmcli.evaluation.intervals import JACKKNIFED, KINDS, Interval, interval, p_value
from mmcli.evaluation.predictions import Predictions
from mmcli.evaluation.resampling import Design, jackknife, resample
from mmcli.metrics import Metric
from mmcli.metrics.metric import Floats, Ints, values_of

# (Predictions, imputation or None, weights (b, n)) to (Q, b) values.
Quantities = Callable[[Predictions, int | None, Floats], Floats]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: `resamples` of the units, the units within each class where `stratify` (each class keeps
    its size), `cluster` the column whose values are the units ("" = patients).

    `kind` is one of `intervals.KINDS`, or "auto", what held its level in simulations (README.md beside this): Wilson's
    limits for proportions, MOVER's for balanced accuracy, as far as rows are independent and drawn at random, and
    "expanded" for everything else.
    """

    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0
    kind: str = "auto"
    stratify: bool = False
    cluster: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise RequestError(f"confidence: lies between 0 and 1 (given: {self.confidence}); 95 percent is 0.95")
        if self.resamples < 1:
            raise RequestError(f"resamples: at least 1 (given: {self.resamples})")
        if self.kind not in ("auto", *KINDS):
            raise RequestError(f"kind: {self.kind!r} is none of auto, {', '.join(KINDS)}")

    @property
    def drawn_kind(self) -> str:
        """The kind that is made of resamples."""
        return "expanded" if self.kind == "auto" else self.kind


@dataclass(frozen=True)
class Sample:
    """Quantities of some predictions: `values` (P, Q), over the resamples `drawn` (P, Q, B), with one unit (or one
    group of units) left out `left_out` (P, Q, J); None without a bootstrap, or where the kind needs no jackknife."""

    values: Floats
    drawn: Floats | None = None
    left_out: Floats | None = None

    def minus(self, i: int, j: int) -> Sample:
        """Predictions i minus j, as the only ones: a paired difference."""
        return Sample(
            (self.values[i] - self.values[j])[None],
            None if self.drawn is None else (self.drawn[i] - self.drawn[j])[None],
            None if self.left_out is None else (self.left_out[i] - self.left_out[j])[None],
        )

    def beside(self, more: Sample) -> Sample:
        """These predictions and then those of `more`, of the same resamples."""
        pairs = ((self.values, more.values), (self.drawn, more.drawn), (self.left_out, more.left_out))
        values, drawn, left_out = (None if a is None or b is None else np.concatenate([a, b]) for a, b in pairs)
        assert values is not None
        return Sample(values, drawn, left_out)

    def mean(self) -> Sample:
        """The mean over the predictions, as the only ones."""
        return Sample(
            self.values.mean(0)[None],
            None if self.drawn is None else self.drawn.mean(0)[None],
            None if self.left_out is None else self.left_out.mean(0)[None],
        )


@dataclass(frozen=True)
class Resampler:
    """The resamples that everything about one task shares.

    Units are drawn from the union of all predictions' patients in the order of their ids (see `resampling`)."""

    bootstrap: Bootstrap | None
    design: Design
    place: dict[str, int] = field(repr=False)

    @classmethod
    def over(
        cls, everyone: Sequence[Predictions], bootstrap: Bootstrap | None, clusters: Mapping[str, str] | None = None
    ) -> Resampler:
        """`clusters` names each patient's cluster; RequestError where stratified resampling has no meaning."""
        rows = {i: (patient, int(y)) for p in everyone for i, patient, y in zip(p.ids, p.patients, p.y, strict=True)}
        ids = sorted(rows)
        names = [(clusters or {}).get(rows[i][0], rows[i][0]) if clusters is not None else rows[i][0] for i in ids]
        units, unit = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)
        strata = None
        if bootstrap is not None and bootstrap.stratify:
            y = np.array([rows[i][1] for i in ids], dtype=np.int64)
            strata = np.zeros(len(units), dtype=np.int64)
            strata[unit] = y
            if (strata[unit] != y).any():
                mixed = units[unit[np.flatnonzero(strata[unit] != y)[0]]]
                raise RequestError(
                    f"--stratify: {str(mixed)!r} has rows of several classes, so that whole units cannot be drawn "
                    "within the classes; leave --stratify out"
                )
        return cls(bootstrap, Design(unit.astype(np.int64), strata), {i: k for k, i in enumerate(ids)})

    def sample(self, each: Sequence[Predictions], quantities: Quantities) -> Sample:
        """The quantities of each of the predictions, over the shared resamples."""
        values = np.array([_over_draws(p, quantities, np.ones((1, len(p.ids))))[:, 0] for p in each])
        if self.bootstrap is None:
            return Sample(values)
        # The products are too thin to gain by threads; on a busy machine, waiting threads make them 100 times slower.
        with threadpool_limits(1, user_api="blas"):
            b = self.bootstrap
            drawn = self._over(each, quantities, resample(self.design, b.resamples, b.seed), one_draw=True)
            left_out = self._over(each, quantities, jackknife(self.design)) if b.drawn_kind in JACKKNIFED else None
        return Sample(values, drawn, left_out)

    def _over(
        self, each: Sequence[Predictions], quantities: Quantities, blocks: Iterator[Floats], one_draw: bool = False
    ) -> Floats:
        """(P, Q, B) values over all blocks of weights. With `one_draw` each resample sees one imputation, drawn at
        random: the interval then covers the imputations' spread (Schomaker & Heumann 2018, MI Boot pooled)."""
        columns = [np.array([self.place[i] for i in p.ids], dtype=np.int64) for p in each]
        generators = [np.random.default_rng([self.bootstrap.seed if self.bootstrap else 0, 1]) for _ in each]
        collected: list[Floats] = []
        for weights in blocks:
            block = []
            for p, own, generator in zip(each, columns, generators, strict=True):
                w = weights if len(own) == weights.shape[1] else weights[:, own]
                if p.draws is not None and one_draw:
                    block.append(_one_draw(p, quantities, w, generator.integers(len(p.draws), size=len(w))))
                else:
                    block.append(_over_draws(p, quantities, w))
            collected.append(np.array(block))
        return np.concatenate(collected, axis=2)

    def weights(self, p: Predictions) -> Iterator[Floats]:
        """The resamples' weights (b, n) of the predictions' rows, block by block; none without a bootstrap."""
        if self.bootstrap is None:
            return
        own = np.array([self.place[i] for i in p.ids], dtype=np.int64)
        for weights in resample(self.design, self.bootstrap.resamples, self.bootstrap.seed):
            yield weights[:, own]

    def interval(self, sample: Sample, i: int, q: int) -> Interval | None:
        """The interval of quantity q of predictions i; None without a bootstrap."""
        if self.bootstrap is None or sample.drawn is None:
            return None
        left_out = None if sample.left_out is None else sample.left_out[i, q]
        b = self.bootstrap
        return interval(b.drawn_kind, float(sample.values[i, q]), sample.drawn[i, q], left_out, b.confidence)

    def p_value(self, sample: Sample, i: int, q: int) -> float:
        """Two-sided p of the hypothesis that the quantity is 0, dual to its interval; NaN without a bootstrap."""
        if self.bootstrap is None or sample.drawn is None:
            return float("nan")
        left_out = None if sample.left_out is None else sample.left_out[i, q]
        return p_value(self.bootstrap.drawn_kind, float(sample.values[i, q]), sample.drawn[i, q], left_out)


def _one_draw(p: Predictions, quantities: Quantities, w: Floats, drawn: Ints) -> Floats:
    values: Floats | None = None
    for d in np.unique(drawn):
        chosen = drawn == d
        found = quantities(p, int(d), w[chosen])
        values = np.full((len(found), len(w)), np.nan) if values is None else values
        values[:, chosen] = found
    assert values is not None
    return values


def _over_draws(p: Predictions, quantities: Quantities, w: Floats) -> Floats:
    if p.draws is None:
        return quantities(p, None, w)
    mean: Floats = np.mean([quantities(p, d, w) for d in range(len(p.draws))], axis=0)
    return mean


def of_metrics(metrics: Sequence[Metric]) -> Quantities:
    """The metrics as quantities."""

    def quantities(p: Predictions, draw: int | None, w: Floats) -> Floats:
        decisions = None if p.thresholds is None else p.answers("decisions", draw)
        return values_of(metrics, p.y, p.answers("ranking", draw), w, decisions)

    return quantities


def limits(found: Interval | None) -> dict[str, Any]:
    """An interval as the columns `result.INTERVAL`; none without a bootstrap."""
    if found is None:
        return {}
    return {"low": found.low, "high": found.high, "interval": found.kind, "undefined": found.undefined}
