"""Limits of proportions against SciPy, statsmodels and Newcombe's table."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mmcli.evaluation.proportions import wilson, wilson_mean


@settings(deadline=None)
@given(st.integers(1, 400), st.data(), st.floats(0.5, 0.999))
def test_wilson_equals_scipy(trials: int, data: st.DataObject, confidence: float) -> None:
    successes = data.draw(st.integers(0, trials))
    expected = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert wilson(successes, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_equals_statsmodels() -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for successes, trials in ((0, 7), (7, 7), (81, 263), (15, 148), (1, 29)):
        expected = proportion.proportion_confint(successes, trials, 0.05, method="wilson")
        assert wilson(successes, trials) == pytest.approx(expected, abs=1e-12)


def test_wilson_in_newcombes_first_paper() -> None:
    """Statistics in Medicine 17, 1998, pages 857-872, table I."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_mean_is_newcombes_difference() -> None:
    """p1 - p2 is twice the mean of p1 and 1 - p2, less 1; his second paper, pages 873-890, table II, method 10."""
    for (a, m), (b, n), expected in (((56, 70), (48, 80), (0.0524, 0.3339)), ((9, 10), (3, 10), (0.1705, 0.8090)),
                                     ((10, 10), (0, 20), (0.6791, 1.0))):  # fmt: skip
        low, high = wilson_mean([a, n - b], [m, n])
        assert (2 * low - 1, 2 * high - 1) == pytest.approx(expected, abs=5e-5)


def test_mean_of_one_is_wilson_and_no_trials_are_nan() -> None:
    assert wilson_mean([5], [9], 0.9) == pytest.approx(wilson(5, 9, 0.9), abs=1e-15)
    assert all(math.isnan(x) for x in (*wilson(0, 0), *wilson_mean([3, 0], [4, 0]), *wilson_mean([], [])))
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0
