"""Each column on its own, against numbers worked by hand and NumPy."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmcli.imputers.marginals import Marginals

NAN = np.nan
# A numeric column 1 2 3 10, an ordinal one 0 0 2 3 of 4 levels, a categorical one 1 1 0 (2 never) of 3.
VALUES = np.array([[1, 0, 1], [2, 0, 1], [NAN, NAN, NAN], [3, 2, 0], [10, 3, NAN]])
KINDS = ["numeric", "ordinal", "categorical"]


def test_hand_worked():
    m = Marginals.fit(VALUES, [0, 4, 3])
    assert m.count.tolist() == [4, 4, 3]
    assert m.mean.tolist() == [4, 1.25, 2 / 3]
    assert m.quantiles[[0, -1], 0].tolist() == [1, 10]
    assert m.shares[1].tolist() == [0.5, 0, 0.25, 0.25]
    assert m.levels(2).tolist() == [0, 1] and m.coded.tolist() == [False, True, True]
    # The ordinal mean 1.25 is nearer to level 2 than to level 0; its median level is 0; the mode of the third is 1.
    assert m.snap(m.point(KINDS, "mean")).tolist() == [4, 2, 1]
    assert m.snap(m.point(KINDS, "median")).tolist() == [2.5, 0, 1]


def test_snap_takes_the_nearest_level_and_the_lower_of_two():
    m = Marginals.fit(VALUES, [0, 4, 3])
    proposed = np.array([[-5, 0.9, 0], [11, 1.0, 2], [5, 2.6, 1]])
    assert m.snap(proposed).tolist() == [[1, 0, 0], [10, 0, 1], [5, 3, 1]]


def test_draws_have_the_training_distribution():
    rng = np.random.default_rng(0)
    values = np.stack([rng.gamma(2, size=400), rng.choice(3, 400, p=[0.6, 0, 0.4])], 1)
    m = Marginals.fit(values, [0, 3])
    drawn = m.draw((np.arange(4000)[:, None] + 0.5) / 4000 * np.ones(2))
    grid = np.linspace(0.02, 0.98, 25)
    np.testing.assert_allclose(np.quantile(drawn[:, 0], grid), np.quantile(values[:, 0], grid), atol=0.03)
    assert (drawn[:, 1] == 2).mean() == (values[:, 1] == 2).mean() and not (drawn[:, 1] == 1).any()


@given(arrays(np.float64, (7, 1), elements=st.floats(-1e100, 1e100).map(lambda x: x if abs(x) > 1e-100 else 0.0)))
def test_moments_are_numpys(values):
    m = Marginals.fit(values, [0])
    scale = np.abs(values).max()
    np.testing.assert_allclose(m.mean[0], values.mean(), rtol=1e-12, atol=1e-12 * scale)
    np.testing.assert_allclose(m.sd[0], values.std(), rtol=1e-9, atol=1e-12 * scale)
