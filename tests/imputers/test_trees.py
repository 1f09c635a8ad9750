"""Extremely randomised trees: what a split and a leaf must be, and their error beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesRegressor

from mmcli.imputers.trees import Forest, grow, join


def walk(forest, root, row):
    """The leaf of one row in one tree, step by step."""
    at = root
    while forest.feature[at] >= 0:
        at = forest.left[at] + (row[forest.feature[at]] > forest.threshold[at])
    return at


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 5), st.integers(1, 3), st.integers(1, 4))
def test_leaves_hold_enough_rows_and_their_mean(seed, n, p, q, leaf):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 6, (n, p)).astype(float), rng.normal(size=(n, q))
    forest = grow(x, y, rng, trees=3, leaf=leaf, features=2)
    leaves = forest.leaves(x)
    for t, root in enumerate(forest.roots):
        assert [walk(forest, root, row) for row in x] == leaves[:, t].tolist()
        for node in np.unique(leaves[:, t]):
            own = leaves[:, t] == node
            assert own.sum() >= min(leaf, n)
            np.testing.assert_allclose(forest.value[node], y[own].mean(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(forest.predict(x), forest.value[leaves].mean(1))


def test_the_only_useful_split_is_found():
    x = np.array([[0, 5.0], [0, 1], [0, 4], [1, 2], [1, 3], [1, 6]])
    y = np.array([[0.0], [0], [0], [1], [1], [1]])
    forest = grow(x, y, np.random.default_rng(0), trees=20, leaf=3, features=20)
    # With at least three rows a leaf, the best split parts the first feature, and no further split exists.
    assert set(forest.feature.tolist()) == {0, -1} and len(forest.feature) == 60
    assert forest.predict(np.array([[0.0, 9], [1, 9]])).tolist() == [[0], [1]]


def test_equal_targets_are_one_leaf():
    forest = grow(np.random.default_rng(0).normal(size=(50, 3)), np.full((50, 1), 0.1), np.random.default_rng(0),
                  trees=2, leaf=1, features=3)  # fmt: skip
    assert len(forest.feature) == 2


@pytest.mark.parametrize("leaf", [3, 8])
def test_as_good_as_scikit_learns(leaf):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 10))
    y = 2 * x[:, 0] + np.sin(3 * x[:, 1]) + x[:, 2] * x[:, 3] + 0.3 * rng.normal(size=900)
    train, test = slice(0, 500), slice(500, 900)
    ours = grow(x[train], y[train, None], rng, trees=100, leaf=leaf, features=15).predict(x[test])[:, 0]
    theirs = ExtraTreesRegressor(100, min_samples_leaf=leaf, random_state=0).fit(x[train], y[train]).predict(x[test])
    error = [np.mean((p - y[test]) ** 2) for p in (ours, theirs)]
    assert error[0] < 1.1 * error[1]


def test_joined_forests_predict_their_mean_and_survive_storage():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(60, 4)), rng.normal(size=(60, 2))
    forests = [grow(x, y, rng, trees=4, leaf=2, features=3) for _ in range(3)]
    one = join(forests)
    np.testing.assert_allclose(one.predict(x), np.mean([f.predict(x) for f in forests], 0))
    again = Forest.from_arrays("a", one.arrays("a"))
    assert again.predict(x).tobytes() == one.predict(x).tobytes()
