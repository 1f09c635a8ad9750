"""The comparison against a loop over scikit-learn on the same drawn rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from mmcli.evaluation.compare import Bootstrap, compare
from mmcli.evaluation.predictions import PartPredictions, Predictions
from mmcli.evaluation.resampling import draw

CLASSES = ("no", "yes")


def made(run: str, patients: range, seed: int, strength: float = 1.0) -> Predictions:
    y = np.array([i % 2 for i in patients])
    score = 1 / (1 + np.exp(-(np.random.default_rng(seed).normal(size=len(y)) + strength * (y - 0.5))))
    p = np.stack([1 - score, score], axis=1)
    ids = np.array([f"{i:04d}" for i in patients], dtype=object)
    return Predictions(run, "", "relapse", CLASSES, ids, y, p, (PartPredictions("table", y, p),))


def rows_of(n: int, bootstrap: Bootstrap) -> np.ndarray:
    return draw(np.random.default_rng(bootstrap.seed), n, bootstrap.resamples)


def test_intervals_and_paired_differences_equal_the_loop() -> None:
    bootstrap = Bootstrap(resamples=200, confidence=0.9, seed=5)
    a, b = made("a", range(50), 1, 2.0), made("b", range(50), 2, 0.5)
    figures, differences = compare([a, b], bootstrap, "b")
    loop = {"auc": [], "accuracy": []}
    for rows in rows_of(50, bootstrap):
        loop["auc"].append([roc_auc_score(x.y[rows], x.p[rows, 1]) for x in (a, b)])
        loop["accuracy"].append([accuracy_score(x.y[rows], x.p[rows].argmax(1)) for x in (a, b)])
    for metric, values in loop.items():
        theirs = np.array(values)
        for k, run in enumerate("ab"):
            (f,) = [f for f in figures if (f.run, f.metric) == (run, metric)]
            assert f.interval is not None
            np.testing.assert_allclose([f.interval.low, f.interval.high], np.quantile(theirs[:, k], [0.05, 0.95]))
        (d,) = [d for d in differences if d.metric == metric]
        assert (d.run, d.reference, d.n) == ("a", "b", 50)
        assert d.interval is not None
        expected = np.quantile(theirs[:, 0] - theirs[:, 1], [0.05, 0.95])
        np.testing.assert_allclose([d.interval.low, d.interval.high], expected, atol=1e-12)


def test_without_bootstrap_there_is_no_interval() -> None:
    figures, differences = compare([made("a", range(20), 1)], None)
    assert all(f.interval is None for f in figures)
    assert differences == []


def test_a_run_with_other_patients_sees_its_columns_of_the_shared_draw() -> None:
    """Runs on 0..39 and 20..59: drawn over 0..59; the difference is on 20..39, paired."""
    bootstrap = Bootstrap(resamples=150, confidence=0.9, seed=2)
    a, b = made("a", range(40), 1, 2.0), made("b", range(20, 60), 2, 1.0)
    figures, differences = compare([a, b], bootstrap, "b")
    own, difference = [], []
    for rows in rows_of(60, bootstrap):
        mine = rows[rows < 40]
        own.append(accuracy_score(a.y[mine], a.p[mine].argmax(1)))
        both = rows[(rows >= 20) & (rows < 40)]
        right_a = a.p[both].argmax(1) == a.y[both]
        right_b = b.p[both - 20].argmax(1) == b.y[both - 20]
        difference.append(right_a.mean() - right_b.mean())
    (f,) = [f for f in figures if (f.run, f.metric) == ("a", "accuracy")]
    (d,) = [d for d in differences if d.metric == "accuracy"]
    assert f.interval is not None
    assert d.interval is not None
    assert (f.n, d.n) == (40, 20)
    np.testing.assert_allclose([f.interval.low, f.interval.high], np.quantile(own, [0.05, 0.95]), atol=1e-12)
    np.testing.assert_allclose([d.interval.low, d.interval.high], np.quantile(difference, [0.05, 0.95]), atol=1e-12)


def test_a_run_against_itself_differs_by_nothing() -> None:
    a = made("a", range(30), 1)
    twin = Predictions("twin", "", "relapse", CLASSES, a.ids, a.y, a.p, a.parts)
    _, differences = compare([a, twin], Bootstrap(50), "a")
    for d in differences:
        assert d.interval is not None
        assert (d.value, d.interval.low, d.interval.high) == (0.0, 0.0, 0.0)


def test_undefined_resamples_are_counted() -> None:
    """Of 3 patients one is positive: a resample without it, or with it alone, has no AUC."""
    a = made("a", range(3), 1)
    bootstrap = Bootstrap(resamples=400, seed=0)
    figures, _ = compare([a], bootstrap)
    by_name = {f.metric: f for f in figures}
    expected = sum(len(set(a.y[rows])) < 2 for rows in rows_of(3, bootstrap))
    assert by_name["auc"].interval is not None
    assert by_name["auc"].interval.undefined == expected > 0
    assert by_name["accuracy"].interval is not None
    assert by_name["accuracy"].interval.undefined == 0


def test_mean_and_sd_are_over_the_parts_in_which_the_metric_is_defined() -> None:
    a = made("a", range(12), 1)
    parts = tuple(PartPredictions(str(k), a.y[i], a.p[i]) for k, i in enumerate([slice(0, 5), slice(5, 12), [0, 2, 4]]))
    figures, _ = compare([Predictions("a", "", "relapse", CLASSES, a.ids, a.y, a.p, parts)], None)
    by_name = {f.metric: f for f in figures}
    aucs = [roc_auc_score(p.y, p.p[:, 1]) for p in parts[:2]]
    assert by_name["auc"].parts == 2
    assert by_name["auc"].mean == pytest.approx(np.mean(aucs))
    assert by_name["auc"].sd == pytest.approx(np.std(aucs, ddof=1))
    assert by_name["accuracy"].parts == 3
