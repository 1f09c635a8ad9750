"""Calibration slope and intercept against statsmodels, closed forms, and the cases that have none."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from mmcli.metrics import METRICS
from mmcli.metrics.calibration import CLIP, intercept, overlapping, slope

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def outcomes(draw: st.DrawFn) -> Sample:
    """What happened (n,), probabilities (n,) with ties and some of 0 and 1, weights (2, n): counts, and real ones."""
    n = draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    happened = (generator.random(n) < draw(st.sampled_from([0.1, 0.5]))).astype(float)
    p = np.round(expit(generator.normal(happened, 1.5)), draw(st.sampled_from([1, 2, 12])))
    counts = np.bincount(generator.integers(n, size=n), minlength=n)
    return happened, p, np.stack([counts, generator.uniform(0.1, 3, n)]).astype(float)


def glm(happened: np.ndarray, x: np.ndarray, w: np.ndarray, offset: np.ndarray | None = None) -> np.ndarray:
    there = w > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = sm.GLM(happened[there], x[there], sm.families.Binomial(), freq_weights=w[there],
                       offset=None if offset is None else offset[there])  # fmt: skip
        return np.asarray(model.fit(tol=1e-14, tol_criterion="params", maxiter=200).params)


@settings(max_examples=60, deadline=None)
@given(sample=outcomes())
def test_slope_equals_statsmodels(sample: Sample) -> None:
    happened, p, w = sample
    x = logit(np.clip(p, CLIP, 1 - CLIP))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = slope(happened, p, w)
    for row, value in zip(w, ours, strict=True):
        mine, rest = x[(happened == 1) & (row > 0)], x[(happened == 0) & (row > 0)]
        if not (len(mine) and len(rest) and mine.min() < rest.max() and rest.min() < mine.max()):
            assert math.isnan(value)
        else:
            assert value == pytest.approx(glm(happened, sm.add_constant(x), row)[1], rel=1e-8, abs=1e-8)


@settings(max_examples=60, deadline=None)
@given(sample=outcomes())
def test_intercept_equals_statsmodels(sample: Sample) -> None:
    happened, p, w = sample
    x = logit(np.clip(p, CLIP, 1 - CLIP))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = intercept(happened, p, w)
    for row, value in zip(w, ours, strict=True):
        if len(np.unique(happened[row > 0])) < 2:
            assert math.isnan(value)
            continue
        # What defines it: as many are expected as happened.
        assert row @ expit(value + x) == pytest.approx(row @ happened, rel=1e-9)
        if np.abs(x).max() < 10:
            assert value == pytest.approx(glm(happened, np.ones((len(x), 1)), row, x)[0], abs=1e-8)


def test_two_probabilities_have_a_closed_form() -> None:
    """One of four who were said 0.2, six of eight who were said 0.6: a line through two points, log 9 over log 6."""
    happened = np.array([1.0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0])
    p = np.repeat([0.2, 0.6], [4, 8])
    expected = math.log(9) / math.log(6)
    assert METRICS.get("calibration_slope").of(happened.astype(int), np.stack([1 - p, p], axis=1)) == pytest.approx(
        expected, abs=1e-9
    )


def test_one_probability_has_an_intercept_and_no_slope() -> None:
    """One half was said, three of four happened: log 3 too low."""
    y, p = np.array([1, 1, 1, 0]), np.full((4, 2), 0.5)
    assert METRICS.get("calibration_intercept").of(y, p) == pytest.approx(math.log(3), abs=1e-12)
    assert math.isnan(METRICS.get("calibration_slope").of(y, p))


@pytest.mark.parametrize("p", [[0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1], [0.1, 0.5, 0.5, 0.9], [0.5] * 4])
def test_separated_outcomes_have_no_slope(p: list[float]) -> None:
    """Complete, upside down, and touching at the border."""
    happened = np.array([0.0, 0, 1, 1])
    assert np.isnan(slope(happened, np.array(p), np.ones((1, 4)))).all()
    assert not overlapping(happened == 1, np.array(p), np.ones((1, 4))).any()


def test_nearly_separated_outcomes_have_a_large_slope() -> None:
    happened = np.array([0.0, 0, 1, 0, 1, 1])
    x = np.array([-9, -8, 0, 1e-4, 8, 9])
    value = slope(happened, expit(x), np.ones((1, 6)))[0]
    assert value == pytest.approx(glm(happened, sm.add_constant(x), np.ones(6))[1], rel=1e-6)


def test_outcomes_that_only_some_resamples_separate() -> None:
    happened, p = np.array([0.0, 1, 0, 1]), np.array([0.2, 0.3, 0.6, 0.7])
    w = np.array([[1.0, 1, 1, 1], [1, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0], [0, 2, 0, 2]])
    np.testing.assert_array_equal(np.isnan(slope(happened, p, w)), [False, True, True, True, True])
    np.testing.assert_array_equal(np.isnan(intercept(happened, p, w)), [False, False, False, True, True])


def test_flat_stretches_of_the_likelihood_do_not_stop_the_intercept() -> None:
    """Probabilities of exactly 0 and 1 make the score a staircase, on which Newton's method alone runs to and fro."""
    happened = np.array([0.0, 0, 0, 1, 1, 0, 0])
    x = np.array([-18.42, 18.42, 18.42, -1.1, -1.39, -18.42, -18.42])
    w = np.array([[1.17, 2.09, 2.09, 0.3, 0.51, 1.65, 1.3]])
    a = intercept(happened, expit(x), w)[0]
    assert w[0] @ expit(a + x) == pytest.approx(w[0] @ happened, rel=1e-6)


def test_of_more_classes_it_is_the_mean_of_one_against_the_rest() -> None:
    generator = np.random.default_rng(3)
    y = generator.integers(3, size=200)
    p = np.exp(generator.normal(size=(200, 3)) + np.eye(3)[y])
    p /= p.sum(axis=1, keepdims=True)
    w = np.stack([np.ones(200), generator.poisson(1, 200)])
    each = [slope((y == k).astype(float), p[:, k], w) for k in range(3)]
    np.testing.assert_allclose(METRICS.get("calibration_slope")(y, p, w), np.mean(each, axis=0), atol=1e-12)


def test_what_a_model_that_is_right_gets() -> None:
    """Of many patients the slope is near 1 and the intercept near 0; probabilities twice as extreme halve the slope."""
    generator = np.random.default_rng(4)
    x = generator.normal(size=50_000)
    happened, w = (generator.random(50_000) < expit(x)).astype(float), np.ones((1, 50_000))
    assert slope(happened, expit(x), w)[0] == pytest.approx(1, abs=0.05)
    assert intercept(happened, expit(x), w)[0] == pytest.approx(0, abs=0.03)
    assert slope(happened, expit(2 * x), w)[0] == pytest.approx(0.5, abs=0.03)
    assert intercept(happened, expit(x - 1), w)[0] == pytest.approx(1, abs=0.03)
