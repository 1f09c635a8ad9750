"""Adjusted p against worked examples, SciPy and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from mmcli.evaluation.multiplicity import benjamini_hochberg, holm

FAMILIES = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.05, 1.0])), min_size=1, max_size=20)


def test_by_hand() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert benjamini_hochberg(p) == pytest.approx([0.02, 0.04, 0.04, 0.02])


@settings(deadline=None)
@given(FAMILIES)
def test_equal_scipy_and_the_definition(family: list[float]) -> None:
    p = np.array(family)
    assert benjamini_hochberg(p) == pytest.approx(false_discovery_control(p), abs=1e-12)
    # Holm's p: the largest of (n - rank + 1) p over those that are at most as large.
    order = np.argsort(p, kind="stable")
    steps = [min(1.0, (len(p) - i) * p[j]) for i, j in enumerate(order)]
    expected = {j: max(steps[: i + 1]) for i, j in enumerate(order)}
    assert holm(p) == pytest.approx([expected[j] for j in range(len(p))], abs=1e-12)


def test_equal_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    generator = np.random.default_rng(1)
    for n in (1, 2, 5, 12, 40):
        p = np.round(generator.random(n), 2)
        assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1], abs=1e-12)
        assert benjamini_hochberg(p) == pytest.approx(multitest.multipletests(p, method="fdr_bh")[1], abs=1e-12)


@settings(deadline=None)
@given(FAMILIES, st.lists(st.integers(0, 20), max_size=4))
def test_nan_passes_and_does_not_count(family: list[float], places: list[int]) -> None:
    holes = np.insert(np.array(family), [min(i, len(family)) for i in places], np.nan)
    for adjust in (holm, benjamini_hochberg):
        found = adjust(holes)
        assert np.isnan(found).tolist() == np.isnan(holes).tolist()
        assert found[~np.isnan(holes)].tolist() == adjust(np.array(family)).tolist()


def test_nothing() -> None:
    assert holm(np.array([])).tolist() == []
    assert np.isnan(benjamini_hochberg(np.array([np.nan, np.nan]))).all()
