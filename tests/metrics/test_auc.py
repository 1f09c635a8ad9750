"""The AUC of many sets at once is that of each alone, to the bit, and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mmcli.metrics.auc import auc_of_each
from mmcli.training.predicting import defined_auc


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 40),
    classes=st.integers(2, 5),
    levels=st.sampled_from([1, 2, 5, 1000]),
)
def test_of_each_is_of_one(seed: int, n: int, classes: int, levels: int) -> None:
    """Many ties with few levels; patients without a label; sets that lack a class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(-1, classes, (6, n))
    y[0] = -1
    y[1] = 0
    p = rng.integers(1, levels + 1, (6, n, classes)).astype(float)
    p /= p.sum(2, keepdims=True)
    expected = [defined_auc(one, other) for one, other in zip(y, p, strict=True)]
    assert np.array_equal(auc_of_each(y, p), expected, equal_nan=True)


def test_by_hand_and_by_scikit_learn() -> None:
    p = np.array([[0.1, 0.4, 0.4, 0.8, 0.9]])
    y = np.array([[0, 0, 1, 1, -1]])
    found = auc_of_each(y, np.stack([1 - p, p], 2))
    assert found.tolist() == [3.5 / 4]  # of four pairs three are in order and one is a tie
    assert found[0] == roc_auc_score(y[0, :4], p[0, :4])


@pytest.mark.parametrize("n", [0, 3])
def test_nobody_with_a_label_has_none(n: int) -> None:
    assert np.isnan(auc_of_each(np.full((2, n), -1), np.full((2, n, 3), 1 / 3))).all()
