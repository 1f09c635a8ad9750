"""How much faster the vectorised bootstrap is than the loop over scikit-learn that people write.

Both sides get the same drawn indices (620 patients, 5 classes) and one thread, and must give the same values; then the
ratio of their times is printed. After that, every metric for 6 runs on shared resamples. Times are the processor's, so
that a busy machine does not matter much. Run it with:

    python tests/benchmarks/bench_bootstrap.py [RESAMPLES OF OURS] [RESAMPLES OF THE LOOP]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from sklearn import metrics as sk
from threadpoolctl import threadpool_limits

from mmcli.evaluation.resampling import Design, draw, resample
from mmcli.metrics import METRICS, Metric, load_metrics, values_of

PATIENTS, CLASSES, RUNS, SEED = 620, 5, 6, 0
Answers = tuple[np.ndarray, np.ndarray]
# As people write them: of labels, probabilities and decisions of the drawn rows.
LOOP: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], float]] = {
    "auc": lambda y, p, d: sk.roc_auc_score(y, p, multi_class="ovr", average="macro"),
    "average_precision": lambda y, p, d: sk.average_precision_score(y, p, average="macro"),
    "accuracy": lambda y, p, d: sk.accuracy_score(y, d),
    "balanced_accuracy": lambda y, p, d: sk.balanced_accuracy_score(y, d),
    "f1_macro": lambda y, p, d: sk.f1_score(y, d, average="macro"),
    "mcc": lambda y, p, d: sk.matthews_corrcoef(y, d),
    "kappa": lambda y, p, d: sk.cohen_kappa_score(y, d),
    "log_loss": lambda y, p, d: sk.log_loss(y, p, labels=range(CLASSES)),
}


def runs() -> list[Answers]:
    """Labels and probabilities of several runs on the same patients."""
    generator = np.random.default_rng(1)
    y = generator.integers(CLASSES, size=PATIENTS)
    logits = generator.normal(size=(RUNS, PATIENTS, CLASSES)) + np.eye(CLASSES)[y]
    p = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return [(y, each) for each in p]


def ours(answers: list[Answers], resamples: int, metrics: list[Metric]) -> np.ndarray:
    """Values (runs, metrics, resamples), the drawing included."""
    design = Design(units=np.arange(PATIENTS), strata=None)
    blocks = [[values_of(metrics, y, p, w) for y, p in answers] for w in resample(design, resamples, SEED)]
    return np.concatenate(blocks, axis=2)


def loop(y: np.ndarray, p: np.ndarray, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """The same by scikit-learn, one resample after the other: values (metrics, resamples), seconds (metrics,)."""
    values, seconds = np.empty((len(LOOP), resamples)), np.zeros(len(LOOP))
    for b, rows in enumerate(draw(np.random.default_rng(SEED), len(y), resamples)):
        drawn = y[rows], p[rows], p[rows].argmax(axis=1)
        for i, function in enumerate(LOOP.values()):
            start = time.process_time()
            values[i, b] = function(*drawn)
            seconds[i] += time.process_time() - start
    return values, seconds


def timed(answers: list[Answers], resamples: int, metrics: list[Metric]) -> tuple[np.ndarray, float]:
    """Values (runs, metrics, resamples) and seconds."""
    start = time.process_time()
    values = ours(answers, resamples, metrics)
    return values, time.process_time() - start


def main(resamples: int = 10_000, of_loop: int = 200) -> float:
    """Print the times and return the ratio of the rates."""
    answers = runs()
    compared = [METRICS.get(name) for name in LOOP]
    ours(answers[:1], 10, compared)
    loop(*answers[0], 2)
    theirs, their_seconds = loop(*answers[0], of_loop)
    mine, seconds = timed(answers[:1], resamples, compared)
    np.testing.assert_allclose(mine[0, :, :of_loop], theirs, rtol=0, atol=1e-12)
    print("milliseconds a resample:     mmcli   scikit-learn    ratio")
    for metric, of_theirs in zip(compared, their_seconds, strict=True):
        row(metric.name, timed(answers[:1], resamples, [metric])[1] / resamples, of_theirs / of_loop)
    ratio = row("all of these", seconds / resamples, their_seconds.sum() / of_loop)
    print(f"the same values to 1e-12 in {of_loop} resamples at equal indices")
    everything = list(load_metrics(CLASSES, ordinal=True).values())
    _, seconds = timed(answers, resamples, everything)
    print(f"{len(everything)} metrics x {RUNS} runs x {resamples} resamples: {seconds:.1f} s")
    return ratio


def row(name: str, mine: float, theirs: float) -> float:
    """Print a line of the table (seconds in, milliseconds out) and return the ratio."""
    print(f"{name:24s} {1000 * mine:10.4f} {1000 * theirs:14.2f} {theirs / mine:8.0f}")
    return theirs / mine


if __name__ == "__main__":
    with threadpool_limits(1):
        main(*map(int, sys.argv[1:]))
