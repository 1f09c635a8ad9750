"""Rubin's rules against hand-worked numbers and a simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mmcli.evaluation.rubin import rubin


def test_by_hand() -> None:
    # Mean 4, mean variance 2, variance of the estimates 1, so total 2 + 4/3; share (4/3) / (10/3) = 0.4.
    found = rubin(np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0]))
    assert (found.estimate, found.se) == pytest.approx((4.0, math.sqrt(10 / 3)))
    assert found.df == pytest.approx(2 / 0.16)
    # t(0.975; 12.5 df) = 2.169.
    assert found.high - 4.0 == pytest.approx(2.1691 * math.sqrt(10 / 3), rel=1e-4)
    assert found.t == pytest.approx(4 / math.sqrt(10 / 3))
    assert found.p == pytest.approx(2 * stats.t.sf(found.t, 12.5), rel=1e-10)


def test_barnard_and_rubin_by_hand() -> None:
    # Observed: 21 / 23 * 20 * 0.6 = 10.9565; with 12.5 by imputation 1 / (0.08 + 0.0912698) = 5.8387.
    found = rubin(np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0]), df_complete=20)
    assert found.df == pytest.approx(5.8387, abs=5e-5)
    assert found.low == pytest.approx(4 - stats.t.ppf(0.975, found.df) * found.se, rel=1e-10)


def test_logit_by_hand() -> None:
    aucs, se = np.array([0.8, 0.9]), np.array([0.04, 0.03])
    logits, variances = np.log(aucs / (1 - aucs)), (se / (aucs * (1 - aucs))) ** 2
    plain, found = rubin(logits, variances, 0.9), rubin(aucs, se**2, 0.9, logit=True)
    assert (found.low, found.high) == pytest.approx(tuple(1 / (1 + np.exp([-plain.low, -plain.high]))))
    # logit(0.8) = ln 4, logit(0.9) = ln 9, their mean is ln 6.
    assert found.estimate == pytest.approx(6 / 7)
    assert found.se == pytest.approx(plain.se * 6 / 49)
    assert (found.t, found.p, found.df) == (plain.t, plain.p, plain.df)


def test_equal_imputations_are_one() -> None:
    z = stats.norm.ppf(0.975)
    for m in (1, 5):
        found = rubin(np.full(m, 0.5), np.full(m, 0.04))
        assert (found.estimate, found.se, found.df) == pytest.approx((0.5, 0.2, math.inf))
        assert (found.low, found.high) == pytest.approx((0.5 - 0.2 * z, 0.5 + 0.2 * z))
        assert rubin(np.full(m, 0.5), np.full(m, 0.04), df_complete=30).df == pytest.approx(31 / 33 * 30)


@pytest.mark.filterwarnings("error")
def test_undefined() -> None:
    for found in (
        rubin(np.array([0.9, 1.0]), np.array([0.01, 0.0]), logit=True),
        rubin(np.array([0.9, math.nan]), np.array([0.01, 0.01]), logit=True),
        rubin(np.array([0.1, 0.2]), np.array([0.01, math.nan])),
        rubin(np.array([0.1, 0.1]), np.zeros(2)),
    ):
        assert np.isnan([found.se, found.p, found.t, found.low, found.high]).all()
    nothing = rubin(np.zeros(3), np.zeros(3))
    assert (nothing.estimate, nothing.t, nothing.p) == (0.0, 0.0, 1.0)
    assert math.isnan(nothing.low)
    # All of the variance is due to the imputations: no observed degree of freedom is left.
    assert math.isnan(rubin(np.array([0.1, 0.2]), np.zeros(2), df_complete=10).low)


def test_interval_holds_over_imputed_studies() -> None:
    """A mean with half of the values missing completely at random, imputed five times from a normal whose mean and
    variance are drawn: a proper imputation."""
    generator = np.random.default_rng(2)
    held = 0
    for _ in range(1000):
        seen = generator.normal(1.0, 1.0, 20)
        estimates, variances = [], []
        for _ in range(5):
            variance = 19 * seen.var(ddof=1) / generator.chisquare(19)
            centre = generator.normal(seen.mean(), math.sqrt(variance / 20))
            full = np.append(seen, generator.normal(centre, math.sqrt(variance), 20))
            estimates.append(full.mean())
            variances.append(full.var(ddof=1) / 40)
        found = rubin(np.array(estimates), np.array(variances), df_complete=39)
        held += found.low <= 1.0 <= found.high
    assert held / 1000 == pytest.approx(0.95, abs=0.025)
