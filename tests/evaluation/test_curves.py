"""Curves against scikit-learn's, against the areas under them, and their bands against resampled rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from mmcli.evaluation.curves import (
    GRID,
    macro_precision_recall,
    macro_roc,
    net_benefit,
    precision_at,
    precision_recall_band,
    precision_recall_curve,
    reliability,
    roc_at,
    roc_band,
    roc_curve,
)
from mmcli.metrics.auc import AUC
from mmcli.metrics.ece import ece

seeds = st.integers(0, 2**32 - 1)
levels = st.sampled_from([2, 6, 10_000])


def drawn_scores(seed: int, n: int, level: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    positive = np.append([True, False], generator.random(n) < 0.4)
    return positive, generator.integers(level, size=n + 2) / level


def drawn_classes(seed: int, classes: int, level: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = np.append(np.arange(classes), generator.integers(classes, size=20))
    p = generator.integers(level, size=(len(y), classes)) + 0.01
    return y, p / p.sum(axis=1, keepdims=True)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, n=st.integers(2, 40), level=levels)
def test_corners_are_scikit_learns(seed: int, n: int, level: int) -> None:
    positive, score = drawn_scores(seed, n, level)
    false, true = roc_curve(positive, score)
    expected = sk.roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(false, expected[0], atol=1e-12)
    np.testing.assert_allclose(true, expected[1], atol=1e-12)
    recall, precision = precision_recall_curve(positive, score)
    expected = sk.precision_recall_curve(positive, score)
    np.testing.assert_allclose(recall, expected[1][::-1], atol=1e-12)
    np.testing.assert_allclose(precision, expected[0][::-1], atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, classes=st.integers(2, 5), level=levels)
def test_areas_under_the_mean_curves_are_the_macro_figures(seed: int, classes: int, level: int) -> None:
    y, p = drawn_classes(seed, classes, level)
    curve = macro_roc(y, p)
    assert curve is not None
    false, true = curve
    assert (np.diff(false) >= 0).all()
    np.testing.assert_allclose(sk.auc(false, true), AUC.of(y, p), atol=1e-12)
    curve = macro_precision_recall(y, p)
    assert curve is not None
    recall, precision = curve
    which = [1] if classes == 2 else range(classes)
    expected = np.mean([sk.average_precision_score(y == k, p[:, k]) for k in which])
    np.testing.assert_allclose((np.diff(recall) * precision[1:]).sum(), expected, atol=1e-12)


def test_no_curve_without_a_class() -> None:
    y, p, w = np.array([0, 0]), np.full((2, 2), 0.5), np.ones((1, 2))
    assert macro_roc(y, p) is None
    assert macro_precision_recall(y, p) is None
    assert roc_band(y, p, w) is None
    assert precision_recall_band(y, p, w) is None


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=st.integers(2, 30), level=levels)
def test_weighted_curves_are_those_of_repeated_rows(seed: int, n: int, level: int) -> None:
    positive, score = drawn_scores(seed, n, level)
    w = np.random.default_rng(seed).multinomial(n + 2, np.full(n + 2, 1 / (n + 2)), size=6).astype(float)
    rates, precisions = roc_at(positive, score, w, GRID), precision_at(positive, score, w, GRID)
    for b in range(6):
        rows = np.repeat(np.arange(n + 2), w[b].astype(int))
        if positive[rows].all() or not positive[rows].any():
            assert np.isnan(rates[b]).all()
            assert np.isnan(precisions[b]).all()
            continue
        false, true, _ = sk.roc_curve(positive[rows], score[rows], drop_intermediate=False)
        precision, recall, _ = sk.precision_recall_curve(positive[rows], score[rows])
        precision, recall = precision[::-1], recall[::-1]
        for g in (0, 1, 37, 100, 150, 199, 200):
            x = GRID[g]
            after = np.flatnonzero(false <= x)[-1]
            height = true[after]
            if false[after] < x:
                height += (true[after + 1] - height) * (x - false[after]) / (false[after + 1] - false[after])
            assert rates[b, g] == pytest.approx(height, abs=1e-12)
            reached = np.flatnonzero(recall >= x if x else recall > 0)[0]
            assert precisions[b, g] == pytest.approx(precision[reached], abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("band_of", "at"), [(roc_band, roc_at), (precision_recall_band, precision_at)])
def test_band_is_the_quantiles_of_the_resamples_curves(classes: int, band_of: Callable, at: Callable) -> None:
    y, p = drawn_classes(3, classes, 10_000)
    n = len(y)
    w = np.random.default_rng(1).multinomial(n, np.full(n, 1 / n), size=300).astype(float)
    w[7, y == 0] = 0
    band = band_of(y, p, w, 0.9)
    assert band is not None
    slow = []
    for row in w:
        if all(row[y == k].any() for k in range(classes)):
            drawn = np.repeat(np.arange(n), row.astype(int))
            one = np.ones((1, len(drawn)))
            which = [1] if classes == 2 else range(classes)
            slow.append(np.mean([at(y[drawn] == k, p[drawn, k], one, GRID)[0] for k in which], axis=0))
    low, high = np.quantile(slow, [0.05, 0.95], axis=0)
    np.testing.assert_allclose(band.low, low, atol=1e-12)
    np.testing.assert_allclose(band.high, high, atol=1e-12)
    assert (band.resamples, band.undefined, band.confidence) == (300, 300 - len(slow), 0.9)
    assert band.undefined >= 1
    # In chunks, as the resampling gives them, it is the same.
    chunked = band_of(y, p, (w[i : i + 70] for i in range(0, 300, 70)), 0.9)
    np.testing.assert_array_equal(chunked.low, band.low)
    np.testing.assert_array_equal(chunked.high, band.high)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, level=levels)
def test_reliability_is_scikit_learns(seed: int, level: int) -> None:
    positive, score = drawn_scores(seed, 50, level)
    bins = reliability(positive, score)
    share, mean = calibration_curve(positive, score, n_bins=10)
    filled = bins.n > 0
    np.testing.assert_allclose(bins.share[filled], share, atol=1e-12)
    np.testing.assert_allclose(bins.mean[filled], mean, atol=1e-12)
    assert np.isnan(bins.share[~filled]).all()
    assert bins.n.sum() == 52


def test_reliability_has_the_bins_of_the_calibration_error() -> None:
    y, p = drawn_classes(5, 3, 10_000)
    bins = reliability(p.argmax(axis=1) == y, p.max(axis=1))
    gaps = np.nansum(bins.n * np.abs(bins.share - bins.mean)) / len(y)
    assert gaps == pytest.approx(ece(y, p, np.ones((1, len(y))))[0], abs=1e-12)


def test_net_benefit_by_hand() -> None:
    positive = np.array([True, True, True, False, False, False, False, False])
    score = np.array([0.9, 0.5, 0.1, 0.8, 0.5, 0.2, 0.1, 0.0])
    # At 0.5: two true, two false positives of eight patients, each of the false costs 0.5/0.5.
    # At 0.2: two true, three false ones that cost a quarter each. At 0.95 nobody is treated; at 0 everybody.
    found = net_benefit(positive, score, np.array([0.0, 0.2, 0.5, 0.95]))
    np.testing.assert_allclose(found, [3 / 8, (2 - 3 * 0.25) / 8, (2 - 2) / 8, 0.0], atol=1e-15)


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_net_benefit_is_the_formula_at_each_threshold(seed: int) -> None:
    positive, score = drawn_scores(seed, 30, 6)
    thresholds = np.array([0.05, 1 / 6, 0.4, 0.5, 0.9])
    for t, benefit in zip(thresholds, net_benefit(positive, score, thresholds), strict=True):
        treated = score >= t
        true, false = (treated & positive).mean(), (treated & ~positive).mean()
        assert math.isclose(benefit, true - false * t / (1 - t), abs_tol=1e-12)
