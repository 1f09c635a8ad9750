"""Intervals and p-values of the bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from mmcli.evaluation.intervals import JACKKNIFED, KINDS, interval, p_value
from mmcli.evaluation.resampling import Design, jackknife, resample
from mmcli.metrics import METRICS

SCIPY = {"percentile": "percentile", "basic": "basic", "bca": "BCa"}


def of_mean(x: np.ndarray, resamples: int = 999, seed: int = 0) -> tuple[float, np.ndarray, np.ndarray]:
    """Estimate, resampled and jackknifed values of a mean."""

    def means(blocks: object) -> np.ndarray:
        return np.concatenate([w @ x / w.sum(axis=1) for w in blocks])  # type: ignore[attr-defined]

    design = Design.rows(len(x))
    return float(x.mean()), means(resample(design, resamples, seed)), means(jackknife(design))


@pytest.mark.parametrize("kind", SCIPY)
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_equal_to_scipy_at_equal_resamples(kind: str, confidence: float) -> None:
    x = np.random.default_rng(1).exponential(size=23)
    estimate, values, left_out = of_mean(x)
    ours = interval(kind, estimate, values, left_out, confidence)
    theirs = stats.bootstrap(
        (x,), np.mean, n_resamples=0, bootstrap_result=_given(values), confidence_level=confidence, method=SCIPY[kind]
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert (ours.kind, ours.undefined) == (kind, 0)


def test_equal_to_scipy_with_ties() -> None:
    """Of a proportion many resamples equal the estimate, and count one half in the bias correction."""
    x = (np.random.default_rng(2).random(40) < 0.85).astype(float)
    estimate, values, left_out = of_mean(x)
    assert (values == estimate).mean() > 0.1
    ours = interval("bca", estimate, values, left_out, 0.95)
    theirs = stats.bootstrap((x,), np.mean, n_resamples=0, bootstrap_result=_given(values)).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def _given(values: np.ndarray) -> object:
    """What scipy.stats.bootstrap takes over from an earlier call: the resampled values."""

    class Result:
        bootstrap_distribution = values

    return Result()


def test_central_share_by_hand() -> None:
    found = interval("percentile", 50.0, np.arange(101, dtype=float), None, 0.9)
    assert (found.low, found.high, found.undefined) == (pytest.approx(5.0), pytest.approx(95.0), 0)
    mirrored = interval("basic", 60.0, np.arange(101, dtype=float), None, 0.9)
    assert (mirrored.low, mirrored.high, mirrored.kind) == (pytest.approx(25.0), pytest.approx(115.0), "basic")


def test_undefined_resamples_are_counted_and_left_out() -> None:
    values = np.append(np.arange(101, dtype=float), [math.nan] * 7)
    found = interval("percentile", 50.0, values, None, 0.9)
    assert (found.low, found.undefined) == (pytest.approx(5.0), 7)
    for kind in KINDS:
        for estimate, drawn in ((math.nan, values), (50.0, np.full(4, math.nan)), (50.0, np.zeros(0))):
            nothing = interval(kind, estimate, drawn, np.arange(3.0), 0.9)
            assert math.isnan(nothing.low)
            assert math.isnan(nothing.high)
            assert nothing.undefined == np.isnan(drawn).sum()
            assert math.isnan(p_value(kind, estimate, drawn, np.arange(3.0)))


@pytest.mark.parametrize("kind", JACKKNIFED)
def test_falls_back_openly(kind: str) -> None:
    spread, jack = np.linspace(0, 1, 101), np.array([0.1, 0.5, 0.6])
    plain = interval("percentile", 0.4, spread, None, 0.9)
    for estimate, left_out in (
        (2.0, jack),  # all resamples below
        (-1.0, jack),  # all above
        (0.4, np.array([0.3, 0.3 + 1e-16, 0.3])),  # leaving out any patient changes nothing
        (0.4, np.array([0.1, math.nan, 0.6])),
        (0.4, np.zeros(0)),
    ):
        assert interval(kind, estimate, spread, left_out, 0.9) == plain
        assert p_value(kind, estimate, spread, left_out) == p_value("percentile", estimate, spread, None)
    assert interval(kind, 0.4, spread, jack, 0.9).kind == kind


def test_auc_of_one_falls_back() -> None:
    y, p = np.array([0, 0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.8, 0.9])
    metric, both = METRICS.get("auc"), np.stack([1 - p, p], axis=1)
    values, left_out = (
        np.concatenate([metric(y, both, w) for w in rows])
        for rows in (resample(Design.rows(5), 500, 0), jackknife(Design.rows(5)))
    )
    found = interval("bca", 1.0, values, left_out, 0.95)
    assert (found.low, found.high, found.kind) == (1.0, 1.0, "percentile")
    assert found.undefined == np.isnan(values).sum() > 10


def test_unknown_kinds_and_a_missing_jackknife_are_refused() -> None:
    with pytest.raises(ValueError, match="studentised"):
        interval("studentised", 0.0, np.zeros(3), None, 0.9)
    for kind in JACKKNIFED:
        with pytest.raises(ValueError, match="jackknife"):
            interval(kind, 0.0, np.zeros(3), None, 0.9)


def test_expanded_is_hesterbergs_percentile_where_nothing_is_skewed() -> None:
    """Symmetric resamples and jackknife: z0 = a = 0, and only the levels move, by formula."""
    x = np.array([-2.0, -1.0, -1.0, 1.0, 1.0, 2.0])
    values = np.linspace(-1, 1, 2001)
    d2, d4 = (x**2).sum(), (x**4).sum()
    df = 2 * d2**2 / (d4 - d2**2 / 6)  # over J - 1 = 5, which is the most
    assert df > 5
    level = stats.norm.cdf(math.sqrt(6 / 5) * stats.t.ppf(0.025, 5))
    found = interval("expanded", 0.0, values, x, 0.95)
    assert (found.low, found.high) == pytest.approx((-1 + 2 * level, 1 - 2 * level), abs=1e-9)


def test_expanded_knows_how_few_patients_carry_the_figure() -> None:
    """Two of a hundred: two degrees of freedom. All hundred alike: hardly wider than BCa."""
    values, two = np.linspace(-1, 1, 2001), np.append(np.zeros(98), [1.0, -1.0])
    df = 2 * 4 / (2 - 4 / 100)
    level = stats.norm.cdf(math.sqrt((df + 1) / df) * stats.t.ppf(0.05, df))
    assert interval("expanded", 0.0, values, two, 0.9).low == pytest.approx(-1 + 2 * level, abs=1e-9)
    many = np.tile([1.0, -1.0], 5000)
    assert interval("expanded", 0.0, values, many, 0.9).low == pytest.approx(-0.9, abs=1e-3)


numbers = st.lists(st.sampled_from([-2.0, -0.5, -0.1, 0.0, 0.1, 0.3, 1.0]) | st.floats(-3, 3), min_size=5, max_size=60)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(values=numbers, shift=st.floats(-1, 1), left_out=numbers, alpha=st.floats(0.001, 0.999))
def test_the_interval_leaves_zero_out_where_p_is_less(
    kind: str, values: list[float], shift: float, left_out: list[float], alpha: float
) -> None:
    drawn, jack = np.array(values), np.array(left_out)
    estimate = float(np.median(drawn)) + shift * 0.1
    p = p_value(kind, estimate, drawn, jack)
    assert 2 / (len(drawn) + 1) <= p <= 1
    assume(alpha > 2 / (len(drawn) + 1) and abs(alpha - p) > 1e-6)
    found = interval(kind, estimate, drawn, jack, 1 - alpha)
    # What is nearer than rounding to zero may be on either side of it.
    assume(min(abs(found.low), abs(found.high)) > 1e-9 or 0.0 in (found.low, found.high))
    assert (found.low > 0 or found.high < 0) == (p < alpha)


def test_p_by_hand_and_never_zero() -> None:
    values = np.arange(1000) / 999 - 0.01
    assert p_value("percentile", 0.5, values, None) == pytest.approx(2 * 0.01)
    assert p_value("percentile", -0.5, -values, None) == pytest.approx(2 * 0.01)
    assert p_value("percentile", 1.0, values + 1, None) == pytest.approx(2 / 1001)
    assert p_value("percentile", 0.0, np.zeros(99), None) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_p_is_uniform_where_nothing_differs(kind: str) -> None:
    """The share of p < 0.1 among 400 pairs of equal runs: 0.1 with a standard error of 0.015."""
    generator = np.random.default_rng(5)
    small = 0
    for seed in range(400):
        estimate, values, left_out = of_mean(generator.normal(size=50), 400, seed)
        small += p_value(kind, estimate, values, left_out) < 0.1
    assert 0.06 < small / 400 < 0.15


@pytest.mark.parametrize(("kind", "least", "most"), [("percentile", 84, 93), ("bca", 88.5, 95), ("expanded", 93, 98)])
def test_coverage_of_a_rare_class(kind: str, least: float, most: float) -> None:
    """AUC of .85, ten positives among sixty: the percentile interval is too narrow, expanded is not.

    The full simulation is tests/benchmarks/coverage_intervals.py.
    """
    metric, generator, d = METRICS.get("auc"), np.random.default_rng(3), math.sqrt(2) * stats.norm.ppf(0.85)
    y, design, held = (np.arange(60) < 10).astype(np.int64), Design.rows(60), []
    weights, out = (np.concatenate(list(rows)) for rows in (resample(design, 600, 1), jackknife(design)))
    for _ in range(600):
        p = stats.norm.cdf(generator.normal(size=60) + d * y)
        both = np.stack([1 - p, p], axis=1)
        order = generator.permutation(60)  # another match of patients and columns: other resamples
        values = metric(y, both, weights[:, order])
        found = interval(kind, metric.of(y, both), values, metric(y, both, out), 0.95)
        held.append(found.low <= 0.85 <= found.high)
    assert least < 100 * np.mean(held) < most
