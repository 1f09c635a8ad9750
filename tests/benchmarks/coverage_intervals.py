"""How often 95 % intervals hold the truth: every kind, over cohorts whose true AUC, accuracy and so on are known.

A cell draws many cohorts of one size and prevalence. Each is resampled and gets its intervals by the functions that
`mmcli evaluate` calls; counted is how many hold the population's value. Prints the tables of
mmcli/evaluation/README.md, with an asterisk at what is outside 93-97 %. One core, about nine minutes:

    python tests/benchmarks/coverage_intervals.py [COHORTS] [RESAMPLES] [SEED]

COHORTS is per cell (half as many at n = 1000); the Monte Carlo error of a coverage of 95 % is 0.5 points at 2000
cohorts and 0.7 at 1000.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import betainc, betaincinv, expit, logit, ndtr, ndtri
from threadpoolctl import threadpool_limits

from mmcli.evaluation.delong import delong
from mmcli.evaluation.intervals import interval
from mmcli.evaluation.proportions import wilson, wilson_mean
from mmcli.evaluation.resampling import Design, jackknife, resample
from mmcli.metrics import METRICS
from mmcli.metrics.metric import decide

NAMES = ("auc", "accuracy", "balanced_accuracy")
FIGURES = [METRICS.get(name) for name in NAMES]
KINDS = ("percentile", "basic", "bca", "expanded")
COLUMNS = (*KINDS, "stratified percentile", "stratified bca", "stratified expanded", "formula", "formula, logit")
SIZES, PREVALENCES, AUCS = (100, 300, 1000), (0.1, 0.3, 0.5), (0.7, 0.85, 0.95)
CONFIDENCE = 0.95
Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, list[np.ndarray]]]
Truth = dict[str, float]


@dataclass
class Count:
    """Intervals of one kind in one cell, a cohort an entry."""

    held: list[bool] = field(default_factory=list)
    width: list[float] = field(default_factory=list)
    undefined: list[float] = field(default_factory=list)
    fell_back: list[bool] = field(default_factory=list)

    def add(self, low: float, high: float, truth: float, undefined: float = 0.0, fell_back: bool = False) -> None:
        self.held.append(low - 1e-12 <= truth <= high + 1e-12)
        self.width.append(high - low)
        self.undefined.append(undefined)
        self.fell_back.append(fell_back)


Counts = dict[tuple[int, str, str], Count]


def binormal(prevalence: float, aucs: Iterable[float], calibrated: bool = False) -> tuple[Draw, list[Truth]]:
    """Scores N(0, 1) and N(d, 1), one common noise for all `aucs`; every prediction is a posterior.

    Of both classes equally often, so that .5 cuts in the middle (a model with class weights), or, `calibrated`, of
    the prevalence itself, so that .5 is far from most patients of a rare class.
    """
    prior = float(logit(prevalence)) if calibrated else 0.0
    distances = [float(np.sqrt(2) * ndtri(a)) for a in aucs]
    truths = []
    for a, d in zip(aucs, distances, strict=True):
        cut = d / 2 - prior / d
        recall, other = float(ndtr(d - cut)), float(ndtr(cut))
        accuracy = prevalence * recall + (1 - prevalence) * other
        truths.append({"auc": a, "accuracy": accuracy, "balanced_accuracy": (recall + other) / 2})

    def draw(generator: np.random.Generator, n: int) -> tuple[np.ndarray, list[np.ndarray]]:
        y = (generator.random(n) < prevalence).astype(np.int64)
        noise = generator.normal(size=n)
        return y, [two(expit(d * (noise + d * y - d / 2) + prior)) for d in distances]

    return draw, truths


def beta(prevalence: float, concentration: float) -> tuple[Draw, list[Truth]]:
    """Probabilities Beta(c p, c (1 - p)), skewed, calibrated; decided at the prevalence p."""
    a, b = concentration * prevalence, concentration * (1 - prevalence)

    def draw(generator: np.random.Generator, n: int) -> tuple[np.ndarray, list[np.ndarray]]:
        p = np.clip(generator.beta(a, b, size=n), 1e-12, 1 - 1e-12)
        return (generator.random(n) < p).astype(np.int64), [two(expit(logit(p) - logit(prevalence)))]

    # Of the positives p is Beta(a + 1, b), of the others Beta(a, b + 1); the AUC is an integral over quantiles.
    grid = (np.arange(200_000) + 0.5) / 200_000
    recall, other = 1 - betainc(a + 1, b, prevalence), betainc(a, b + 1, prevalence)
    truth = {
        "auc": float(betainc(a, b + 1, betaincinv(a + 1, b, grid)).mean()),
        "accuracy": float(prevalence * recall + (1 - prevalence) * other),
        "balanced_accuracy": float(recall + other) / 2,
    }
    return draw, [truth]


def four_classes(shares: tuple[float, ...], strength: float) -> tuple[Draw, list[Truth]]:
    """Logits N(strength, 1) of the true class and N(0, 1) of the others; the truth from a million patients."""

    def draw(generator: np.random.Generator, n: int) -> tuple[np.ndarray, list[np.ndarray]]:
        y = generator.choice(len(shares), p=shares, size=n).astype(np.int64)
        p = np.exp(generator.normal(size=(n, len(shares))) + strength * np.eye(len(shares))[y])
        return y, [p / p.sum(axis=1, keepdims=True)]

    y, (p,) = draw(np.random.default_rng(99), 1_000_000)
    return draw, [{name: metric.of(y, p) for name, metric in zip(NAMES, FIGURES, strict=True)}]


def two(positive: np.ndarray) -> np.ndarray:
    """Probabilities (n, 2)."""
    return np.stack([1 - positive, positive], axis=1)


def cell(
    draw: Draw, truths: list[Truth], n: int, cohorts: int, resamples: int, seed: int, stratified: bool,
    difference: bool = False,
) -> Counts:  # fmt: skip
    """Intervals of every prediction and metric (or of the first prediction's minus the second's)."""
    counted: Counts = defaultdict(Count)
    generator = np.random.default_rng([seed, n])
    ones = Design.rows(n)
    leaving_out = np.concatenate(list(jackknife(ones, most=250)))
    for cohort in range(cohorts):
        y, predictions = draw(generator, n)
        if np.bincount(y, minlength=predictions[0].shape[1]).min() < 1:
            continue
        designs = [("", ones, leaving_out)]
        if stratified:
            within = Design.rows(n, y)
            designs.append(("stratified ", within, np.concatenate(list(jackknife(within, most=250)))))
        for prefix, design, out in designs:
            weights = np.concatenate(list(resample(design, resamples, seed * cohorts + cohort)))
            rows = np.concatenate([np.ones((1, n)), weights, out])
            values = np.array([[metric(y, p, rows) for metric in FIGURES] for p in predictions])
            truth = np.array([[t[m] for m in NAMES] for t in truths])
            if difference:
                values, truth = values[:1] - values[1:], truth[:1] - truth[1:]
            for i, j in np.ndindex(truth.shape):
                estimate, drawn, left = values[i, j, 0], values[i, j, 1 : resamples + 1], values[i, j, resamples + 1 :]
                for kind in KINDS:
                    found = interval(kind, float(estimate), drawn, left, CONFIDENCE)
                    counted[i, NAMES[j], prefix + kind].add(
                        found.low, found.high, truth[i, j], found.undefined / resamples, found.kind != kind
                    )
        if not difference:
            for i, p in enumerate(predictions):
                for name, column, low, high in formulas(y, p):
                    counted[i, name, column].add(low, high, truths[i][name])
    return counted


def formulas(y: np.ndarray, p: np.ndarray) -> list[tuple[str, str, float, float]]:
    """Wilson for accuracy, MOVER of Wilson's limits for balanced accuracy, DeLong for AUC; NaN counts as a miss."""
    right = decide(p) == y
    sizes = np.bincount(y).tolist()
    recalls = np.bincount(y, weights=right).astype(int).tolist()
    areas = delong(y, [p])
    return [
        ("accuracy", "formula", *wilson(int(right.sum()), len(y), CONFIDENCE)),
        ("balanced_accuracy", "formula", *wilson_mean(recalls, sizes, CONFIDENCE)),
        ("auc", "formula", *areas.interval(CONFIDENCE, logit=False)),
        ("auc", "formula, logit", *areas.interval(CONFIDENCE)),
    ]


def table(title: str, rows: dict[str, list[tuple[Counts, int]]]) -> None:
    """Markdown tables, one a metric: coverages in per cent of a row's cells side by side, * where not 93 to 97.

    The last row is the mean over all cells of the kind's mean width over the percentile interval's.
    """
    cells = [c for row in rows.values() for c in row]
    for name in NAMES:
        shown = [k for k in COLUMNS if any((i, name, k) in counts for counts, i in cells)]
        widths = [float(np.mean(counts[i, name, "percentile"].width)) for counts, i in cells]
        undefined = max(float(np.mean(counts[i, name, "percentile"].undefined)) for counts, i in cells)
        print(f"\n{title}: {name.replace('_', ' ')}\n\n| | {' | '.join(shown)} |\n|---|{'---|' * len(shown)}")
        for label, row in rows.items():
            texts = [" ".join(_coverage(counts.get((i, name, k))) for counts, i in row).strip() for k in shown]
            print(f"| {label} | {' | '.join(texts)} |")
        ratios = []
        for kind in shown:
            found = [counts.get((i, name, kind)) for counts, i in cells]
            each = [float(np.nanmean(c.width)) / w for c, w in zip(found, widths, strict=True) if c]
            ratios.append(f"{np.mean(each):.2f}")
        print(f"| width | {' | '.join(ratios)} |")
        fell = max(float(np.mean(counts[i, name, "bca"].fell_back)) for counts, i in cells)
        print(
            f"\nPercentile widths {min(widths):.3f} to {max(widths):.3f}; at most {100 * undefined:.2g} % of a cell's "
            f"resamples are undefined, and {100 * fell:.2g} % of its BCa and expanded intervals percentile ones.",
            flush=True,
        )


def _coverage(count: Count | None) -> str:
    if count is None:
        return ""
    coverage = 100 * float(np.mean(count.held))
    return f"{coverage:.1f}" + ("" if 93 <= coverage <= 97 else "*")


def main(cohorts: int = 2000, resamples: int = 1000, seed: int = 1) -> None:
    """Print all tables."""
    start = time.perf_counter()
    rows: dict[str, list[tuple[Counts, int]]] = {}
    for n in SIZES:
        for prevalence in PREVALENCES:
            draw, truths = binormal(prevalence, AUCS)
            many = cohorts if n < 1000 else cohorts // 2
            counts = cell(draw, truths, n, many, resamples, seed, stratified=n <= 300)
            rows[f"{n}, {prevalence}"] = [(counts, i) for i in range(len(AUCS))]
            print(f"{n}, {prevalence}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    table(f"Binormal (n, prevalence; AUC {', '.join(map(str, AUCS))})", rows)
    others = {
        "binormal at argmax, prevalence .1": binormal(0.1, [0.85], calibrated=True),
        "binormal at argmax, prevalence .3": binormal(0.3, [0.85], calibrated=True),
        "beta, prevalence .1": beta(0.1, 2.0),
        "beta, prevalence .3": beta(0.3, 2.0),
        "four classes of .1, .2, .3, .4": four_classes((0.1, 0.2, 0.3, 0.4), 1.5),
    }
    pairs = {f"prevalence {q}, AUC .85 - .75": paired(q) for q in (0.1, 0.3)}
    for title, kinds in (("Other cohorts", others), ("Paired differences", pairs)):
        rows = {}
        for label, (draw, truths) in kinds.items():
            found = [cell(draw, truths, n, cohorts, resamples, seed, False, kinds is pairs) for n in (100, 300)]
            rows[label] = [(counts, 0) for counts in found]
        table(f"{title} (n 100, 300)", rows)
    print(f"\n{cohorts} cohorts, {resamples} resamples, {time.perf_counter() - start:.0f} s")


def paired(prevalence: float) -> tuple[Draw, list[Truth]]:
    """Two binormal predictions whose noises correlate by one half."""
    truths = binormal(prevalence, [0.85, 0.75])[1]
    d = [float(np.sqrt(2) * ndtri(a)) for a in (0.85, 0.75)]

    def draw(generator: np.random.Generator, n: int) -> tuple[np.ndarray, list[np.ndarray]]:
        y = (generator.random(n) < prevalence).astype(np.int64)
        shared = generator.normal(size=n)
        noises = [(shared + generator.normal(size=n)) / np.sqrt(2) for _ in d]
        return y, [two(expit(e * (noise + e * y - e / 2))) for e, noise in zip(d, noises, strict=True)]

    return draw, truths


if __name__ == "__main__":
    with threadpool_limits(1):
        main(*map(int, sys.argv[1:]))
