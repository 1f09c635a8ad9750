"""What metrics have in common: which apply, which value is worse, shares for Wilson, memory, nobody drawn."""

from __future__ import annotations

import math
import tracemalloc
import warnings

import numpy as np
import pytest

from mmcli.errors import RequestError
from mmcli.metrics import METRICS, load_metrics, per_class, values_of
from mmcli.metrics.metric import BLOCK_BYTES, Metric, shared, weighted_mean


def answers(n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    y, p = generator.integers(classes, size=n), generator.random((n, classes))
    return y, p / p.sum(axis=1, keepdims=True)


def test_which_metrics_apply() -> None:
    two, three, ordered = set(load_metrics(2)), set(load_metrics(3)), set(load_metrics(3, ordinal=True))
    assert two - three == {"sensitivity", "specificity", "precision", "npv", "f1", "calibration_intercept",
                           "sensitivity_at_90_specificity", "sensitivity_at_95_specificity"}  # fmt: skip
    assert ordered - three == {"kappa_quadratic", "ordinal_mae"}
    assert load_metrics(2, ordinal=True).keys() == two
    assert two | ordered == set(METRICS.names())


def test_no_two_metrics_of_two_classes_say_the_same() -> None:
    y, p = answers(50, 2)
    values = {name: metric.of(y, p) for name, metric in load_metrics(2).items()}
    for name, value in values.items():
        other = [b for b, v in values.items() if b != name and min(abs(v - value), abs(v - 1 + value)) < 1e-12]
        assert not other, (name, other)


def test_names_are_those_of_the_registry_and_titles_differ() -> None:
    metrics = [METRICS.get(name) for name in METRICS.names()]
    assert [m.name for m in metrics] == METRICS.names()
    assert len({m.title for m in metrics}) == len(metrics)


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [("auc", 0.9, 0.8), ("brier", 0.1, 0.2), ("ordinal_mae", 0, 1), ("aurc", 0.1, 0.2), ("ece", 0, 0.1),
     ("log_loss", 0.1, 2), ("calibration_slope", 1.1, 0.8), ("calibration_slope", 0.9, 1.3),
     ("calibration_intercept", -0.1, 0.2), ("kappa", 0.1, -0.1)],
)  # fmt: skip
def test_which_value_is_worse(name: str, better: float, worse: float) -> None:
    metric = METRICS.get(name)
    assert metric.badness(worse) > metric.badness(better)
    assert metric.better(better, worse)
    assert not metric.better(worse, better)
    assert not metric.better(better, better)
    assert not metric.better(math.nan, worse)
    assert not metric.better(better, math.nan)
    assert math.isnan(metric.badness(math.nan))


def test_shares_are_the_metrics_values() -> None:
    y, p = answers(40, 2)
    metrics = load_metrics(2)
    shares = {name for name, metric in metrics.items() if metric.proportion is not None}
    assert shares == {"accuracy", "sensitivity", "specificity", "precision", "npv"}
    for name in shares:
        successes, trials = metrics[name].proportion(y, p)
        assert (type(successes), type(trials)) == (int, int)
        assert metrics[name].of(y, p) == pytest.approx(successes / trials)
    nobody = np.array([[1.0, 0], [1, 0]])
    assert metrics["precision"].proportion(np.array([0, 1]), nobody) == (0, 0)
    assert metrics["npv"].proportion(np.array([0, 1]), nobody) == (1, 2)


def test_nobody_gives_no_figure_and_no_warning() -> None:
    for classes in (2, 4):
        metrics = load_metrics(classes, ordinal=True)
        y, p = answers(6, classes)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for metric in metrics.values():
                assert math.isnan(metric.of(np.zeros(0, dtype=int), np.zeros((0, classes))))
                assert np.isnan(metric(y, p, np.zeros((2, 6)))).all(), metric.name
                assert np.isnan(metric(y[:0], p[:0], np.zeros((2, 0)))).all(), metric.name
                assert metric(y, p, np.zeros((0, 6))).shape == (0,)
            assert values_of(metrics.values(), y, p, np.zeros((0, 6))).shape == (len(metrics), 0)
            assert all(v.shape == (0, classes) for v in per_class(y, p, np.zeros((0, 6))).values())
    assert values_of([], y, p, np.ones((3, 6))).shape == (0, 3)


def test_blocks_do_not_show() -> None:
    """More rows than a block has: the same values, in order."""
    y, p = answers(50, 3)
    rows = 2 * BLOCK_BYTES // (8 * 50) + 7
    w = np.random.default_rng(1).poisson(1, (rows, 50)).astype(float)
    metrics = [METRICS.get("auc"), METRICS.get("accuracy"), METRICS.get("brier")]
    values = values_of(metrics, y, p, w)
    assert values.shape == (3, rows)
    np.testing.assert_allclose(values, [m(y, p, w) for m in metrics], rtol=0, atol=1e-14)


def test_what_is_shared_is_computed_once_and_only_within_one_call() -> None:
    calls = []

    @shared
    def costly(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
        calls.append(w)
        return weighted_mean(p[:, 1], w)

    metrics = [Metric(str(i), str(i), "decisions", lambda y, p, w: costly(y, p, w)) for i in range(3)]
    y, p = answers(4, 2)
    w = np.ones((2, 4))
    first = values_of(metrics, y, p, w)
    assert len(calls) == 1
    w *= 0
    w[:, 0] = 1
    second = values_of(metrics, y, p, w)
    assert len(calls) == 2
    assert first[0, 0] == pytest.approx(p[:, 1].mean())
    assert (second == p[0, 1]).all()


def test_a_failing_metric_leaves_nothing_behind() -> None:
    def fail(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
        raise ValueError("no")

    y, p = answers(4, 2)
    w = np.ones((1, 4))
    with pytest.raises(ValueError, match="no"):
        values_of([METRICS.get("accuracy"), Metric("x", "x", "ranking", fail)], y, p, w)
    before = METRICS.get("accuracy")(y, p, w)[0]
    y[:] = 1 - y
    assert METRICS.get("accuracy")(y, p, w)[0] == pytest.approx(1 - before)


def test_memory_is_bounded_for_many_patients() -> None:
    """100 000 patients, five classes, every metric: some dozens of rows times the classes, however many resamples."""
    n, classes = 100_000, 5
    y, p = answers(n, classes)
    w = np.ones((4, n))
    w[:, ::3] = 2
    tracemalloc.start()
    values = values_of(load_metrics(classes, ordinal=True).values(), y, p, w)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.isfinite(values).all()
    assert peak < 24 * classes * 8 * n


def test_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(RequestError, match="did you mean 'accuracy'"):
        METRICS.get("acuracy")
