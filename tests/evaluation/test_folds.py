"""Tests over folds against SciPy, enumeration and simulated cross-validations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmcli.evaluation.folds import corrected_t, wilcoxon


def test_without_overlap_it_is_students_t() -> None:
    d = np.array([0.03, -0.01, 0.05, 0.02, 0.04])
    found = corrected_t(d, 0.0, 0.9)
    expected = stats.ttest_1samp(d, 0.0)
    limits = expected.confidence_interval(0.9)
    assert (found.t, found.p, found.df) == pytest.approx((expected.statistic, expected.pvalue, 4), rel=1e-12)
    assert (found.low, found.high) == pytest.approx((limits.low, limits.high), rel=1e-12)


def test_corrected_by_hand() -> None:
    # The mean is 0.03, the deviations 2, 1, 1 and 2 hundredths, s^2 = 0.001 / 3.
    found = corrected_t(np.array([0.01, 0.02, 0.04, 0.05]), 1 / 3)
    se = math.sqrt(0.001 / 3 * (1 / 4 + 1 / 3))
    assert (found.mean, found.t) == pytest.approx((0.03, 0.03 / se))
    # t(0.975; 3 df) = 3.182446.
    assert (found.low, found.high) == pytest.approx((0.03 - 3.182446 * se, 0.03 + 3.182446 * se), abs=1e-6)


def test_constant_differences() -> None:
    same = corrected_t(np.zeros(5), 0.25)
    assert (same.mean, same.t, same.p) == (0.0, 0.0, 1.0)
    assert math.isnan(same.low)
    # Three equal differences but for rounding.
    constant = corrected_t(np.array([0.1, 0.3 - 0.2, 0.1]), 0.5)
    assert constant.mean == pytest.approx(0.1)
    assert math.isnan(constant.p)
    assert math.isnan(corrected_t(np.array([0.2]), 1.0).p)
    assert math.isnan(corrected_t(np.array([0.2, math.nan]), 1.0).p)


def test_level_in_cross_validation() -> None:
    """Nearest-mean classifiers on one of two equally good columns, 15 random splits into 80 and 20 of 100 patients: the
    corrected t finds a difference about as often as it may, the plain t far more often."""
    generator = np.random.default_rng(3)
    corrected = plain = 0
    studies = 400
    for _ in range(studies):
        y = generator.integers(0, 2, 100)
        x = y[:, None] * 0.8 + generator.normal(size=(100, 2))
        d = []
        for _ in range(15):
            order = generator.permutation(100)
            train, test = order[:80], order[80:]
            cut = (x[train][y[train] == 0].mean(axis=0) + x[train][y[train] == 1].mean(axis=0)) / 2
            right = (x[test] > cut) == (y[test] == 1)[:, None]
            d.append(right[:, 0].mean() - right[:, 1].mean())
        corrected += corrected_t(np.array(d), 20 / 80).p < 0.05
        plain += corrected_t(np.array(d), 0.0).p < 0.05
    assert corrected / studies == pytest.approx(0.05, abs=0.03)
    assert plain / studies > 0.25


@settings(deadline=None)
@given(st.lists(st.integers(-6, 6), min_size=1, max_size=10))
def test_wilcoxon_is_all_signs(numbers: list[int]) -> None:
    found = wilcoxon(np.array(numbers) / 100)
    d = np.array([x for x in numbers if x])
    if not len(d):
        assert (found.statistic, found.p) == (0.0, 1.0)
        return
    ranks = stats.rankdata(np.abs(d))
    sums = [
        sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in itertools.product([0, 1], repeat=len(d))
    ]
    smaller = min(ranks[d > 0].sum(), ranks[d < 0].sum())
    assert found.statistic == smaller
    assert found.p == pytest.approx(min(1.0, 2 * np.mean([s <= smaller for s in sums])), abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40))
def test_wilcoxon_equals_scipy_without_ties(seed: int, folds: int) -> None:
    d = np.random.default_rng(seed).normal(0.3, 1, folds)
    expected = stats.wilcoxon(d, method="exact")
    found = wilcoxon(d)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue), abs=1e-12)


def test_rounding_makes_neither_ranks_nor_signs() -> None:
    assert wilcoxon(np.array([0.1 + 0.2 - 0.3, 0.0])).p == 1.0
    assert wilcoxon(np.array([0.1, 0.2 - 0.3, 0.4])).statistic == 1.5
    assert wilcoxon(np.full(5, 0.1)).p == 1 / 16
    assert math.isnan(wilcoxon(np.array([0.1, math.nan])).p)
