"""McNemar's test against statsmodels, SciPy and a published table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from mmcli.evaluation.mcnemar import mcnemar


def answers(both: int, b: int, c: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    first = np.repeat([True, True, False, False], [both, b, c, neither])
    second = np.repeat([True, False, True, False], [both, b, c, neither])
    order = np.random.default_rng(0).permutation(len(first))
    return first[order], second[order]


@settings(deadline=None)
@given(st.integers(0, 5), st.integers(0, 60), st.integers(0, 60), st.integers(0, 5))
def test_exact_is_the_binomial_test(both: int, b: int, c: int, neither: int) -> None:
    found = mcnemar(*answers(both, b, c, neither))
    assert (found.b, found.c) == (b, c)
    expected = binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert found.exact_p == pytest.approx(expected, abs=1e-12)


def test_equals_statsmodels() -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    for both, b, c, neither in ((10, 3, 8, 4), (0, 1, 0, 0), (30, 40, 22, 5), (5, 0, 6, 5), (9, 12, 13, 1)):
        found = mcnemar(*answers(both, b, c, neither))
        table = [[both, b], [c, neither]]
        assert found.exact_p == pytest.approx(tables.mcnemar(table, exact=True).pvalue, abs=1e-12)
        corrected = tables.mcnemar(table, exact=False, correction=True)
        assert found.statistic == pytest.approx(corrected.statistic, abs=1e-12)
        assert found.corrected_p == pytest.approx(corrected.pvalue, abs=1e-12)


def test_corrected_by_hand() -> None:
    found = mcnemar(*answers(794, 150, 86, 570))
    assert found.statistic == pytest.approx((64 - 1) ** 2 / 236)
    # The two tails of a normal beyond 63 / sqrt(236) = 4.100950.
    assert found.corrected_p == pytest.approx(2 * norm.sf(4.100950), rel=1e-5)


def test_as_many_each_way_is_no_evidence() -> None:
    for b in (0, 1, 7):
        found = mcnemar(*answers(3, b, b, 2))
        assert (found.exact_p, found.statistic, found.corrected_p) == (1.0, 0.0, 1.0)
    assert mcnemar(np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)).exact_p == 1.0
