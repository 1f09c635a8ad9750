"""How much faster the vectorised bootstrap is than the loop over scikit-learn that people write.

Both sides get the same drawn indices (620 patients, 5 classes) and one thread, and must give the same values; then the
ratio of their times is printed. Run it with:

    python tests/benchmarks/bench_bootstrap.py [RESAMPLES OF OURS] [RESAMPLES OF THE LOOP]
"""

from __future__ import annotations

import sys
import time

import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from threadpoolctl import threadpool_limits

from mmcli.evaluation.resampling import draw, resample
from mmcli.metrics import METRICS

PATIENTS, CLASSES, SEED = 620, 5, 0
NAMES = ("auc", "accuracy", "balanced_accuracy")


def ours(y: np.ndarray, p: np.ndarray, resamples: int, names: tuple[str, ...] = NAMES) -> np.ndarray:
    """Values (metrics, resamples), the drawing included."""
    metrics = [METRICS.get(name) for name in names]
    blocks = [[m(y, p, w) for m in metrics] for w in resample(len(y), resamples, SEED)]
    return np.concatenate(blocks, axis=1)


def loop(y: np.ndarray, p: np.ndarray, resamples: int) -> np.ndarray:
    """The same by scikit-learn, one resample after the other."""
    values = []
    for rows in draw(np.random.default_rng(SEED), len(y), resamples):
        decided = p[rows].argmax(axis=1)
        values.append(
            (
                roc_auc_score(y[rows], p[rows], multi_class="ovr", average="macro"),
                accuracy_score(y[rows], decided),
                balanced_accuracy_score(y[rows], decided),
            )
        )
    return np.array(values).T


def main(resamples: int = 10_000, of_loop: int = 500) -> float:
    """Print the rates and return their ratio."""
    generator = np.random.default_rng(1)
    y = generator.integers(CLASSES, size=PATIENTS)
    logits = generator.normal(size=(PATIENTS, CLASSES)) + np.eye(CLASSES)[y]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ours(y, p, 10)
    loop(y, p, 2)
    start = time.perf_counter()
    mine = ours(y, p, resamples)
    middle = time.perf_counter()
    theirs = loop(y, p, of_loop)
    end = time.perf_counter()
    np.testing.assert_allclose(mine[:, :of_loop], theirs, rtol=0, atol=1e-12)
    rate, their_rate = resamples / (middle - start), of_loop / (end - middle)
    print(f"mmcli         {rate:10.0f} resamples/s  ({resamples} in {middle - start:.2f} s)")
    print(f"scikit-learn  {their_rate:10.0f} resamples/s  ({of_loop} in {end - middle:.2f} s)")
    print(f"ratio         {rate / their_rate:10.0f}, the same values to 1e-12")
    everything = tuple(n for n in METRICS.names() if METRICS.get(n).applies(CLASSES))
    start = time.perf_counter()
    ours(y, p, resamples, everything)
    print(f"all {len(everything)} metrics: {resamples} resamples in {time.perf_counter() - start:.2f} s a run")
    return rate / their_rate


if __name__ == "__main__":
    with threadpool_limits(1):
        main(*map(int, sys.argv[1:]))
