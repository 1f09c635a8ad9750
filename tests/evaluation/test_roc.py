"""ROC curves against scikit-learn's, and against the AUC."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mmcli.evaluation.roc import macro_roc, roc_curve
from mmcli.metrics.auc import AUC


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 40), levels=st.sampled_from([2, 6, 10_000]))
def test_corners_are_scikit_learns(seed: int, n: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    positive = np.append([True, False], generator.random(n) < 0.4)
    score = generator.integers(levels, size=n + 2) / levels
    false, true = roc_curve(positive, score)
    expected = sk.roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(false, expected[0], atol=1e-12)
    np.testing.assert_allclose(true, expected[1], atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 5), levels=st.sampled_from([2, 6, 10_000]))
def test_area_under_the_mean_curve_is_the_macro_auc(seed: int, classes: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    y = np.append(np.arange(classes), generator.integers(classes, size=20))
    p = generator.integers(levels, size=(len(y), classes)) + 0.01
    p /= p.sum(axis=1, keepdims=True)
    curve = macro_roc(y, p)
    assert curve is not None
    false, true = curve
    assert (np.diff(false) >= 0).all()
    np.testing.assert_allclose(sk.auc(false, true), AUC.of(y, p), atol=1e-12)


def test_no_curve_without_a_class() -> None:
    assert macro_roc(np.array([0, 0]), np.full((2, 2), 0.5)) is None
