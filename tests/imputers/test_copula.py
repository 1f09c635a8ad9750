"""`copula` against normal distributions worked by hand, and its draws."""

from __future__ import annotations

import numpy as np
from scipy import stats

from mmcli.imputers import make_imputer
from mmcli.imputers.imputer import Columns


def numeric(f):
    return Columns([f"x{j}" for j in range(f)], ["numeric"] * f, {})


def bivariate(n, rho=0.8, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    return np.stack([a, rho * a + np.sqrt(1 - rho**2) * rng.normal(size=n)], 1)


def test_mean_and_median_of_normal_and_lognormal_columns():
    # y = exp(z2), z2 | z1 ~ N(.8 z1, .36): median exp(.8 z1), mean exp(.8 z1 + .18).
    z = bivariate(6000)
    imputer = make_imputer("copula").fit(np.stack([z[:, 0], np.exp(z[:, 1])], 1), numeric(2))
    at = np.array([-1.0, 0.0, 0.5, 1.0])
    holed = np.stack([at, np.full(4, np.nan)], 1)
    median = imputer.transform(holed, list("abcd"), answer="median")[0, :, 1]
    mean = imputer.transform(holed, list("abcd"), answer="mean")[0, :, 1]
    np.testing.assert_allclose(median, np.exp(0.8 * at), rtol=0.06)
    np.testing.assert_allclose(mean, np.exp(0.8 * at + 0.18), rtol=0.06)


def test_a_monotone_change_of_a_column_changes_nothing_else():
    z = bivariate(256)  # as many as the stored quantiles: they are the values themselves
    z[::4, 1] = np.nan
    ids = [str(i) for i in range(256)]
    plain = make_imputer("copula").fit(z, numeric(2)).transform(z, ids, answer="median")[0]
    other = np.stack([np.exp(3 * z[:, 0]), z[:, 1]], 1)
    turned = make_imputer("copula").fit(other, numeric(2)).transform(other, ids, answer="median")[0]
    np.testing.assert_allclose(turned[:, 1], plain[:, 1], rtol=1e-9)


def test_draws_cover_and_follow_the_conditional_distribution():
    train, test = bivariate(1500, seed=1), bivariate(400, seed=2)
    imputer = make_imputer("copula").fit(train, numeric(2), draws=200)
    holed = np.stack([test[:, 0], np.full(400, np.nan)], 1)
    drawn = imputer.transform(holed, [str(i) for i in range(400)], draws=200, answer="draw")[..., 1]
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    assert 0.86 < ((test[:, 1] >= low) & (test[:, 1] <= high)).mean() < 0.94
    # The rank of the truth among its draws is uniform.
    assert stats.kstest((drawn < test[:, 1]).mean(0), "uniform").pvalue > 0.01
    np.testing.assert_allclose(drawn.std(0).mean(), 0.6, rtol=0.08)


def test_holes_of_a_patient_are_drawn_jointly():
    imputer = make_imputer("copula").fit(bivariate(1500, seed=1), numeric(2), draws=50)
    drawn = imputer.transform(np.full((200, 2), np.nan), [str(i) for i in range(200)], draws=50, answer="draw")
    assert abs(np.corrcoef(drawn[..., 0].ravel(), drawn[..., 1].ravel())[0, 1] - 0.8) < 0.05


def test_categories_and_levels_follow_the_number_that_made_them():
    rng = np.random.default_rng(0)
    x = rng.normal(size=800)
    noisy = x + 0.3 * rng.normal(size=800)
    values = np.stack([x, np.digitize(noisy, [-0.6, 0.6]), noisy > 0, np.digitize(noisy, [-1, 0, 1])], 1)
    columns = Columns(list("xsbo"), ["numeric", "categorical", "categorical", "ordinal"],
                      {"s": ["l", "m", "h"], "b": ["n", "y"], "o": ["1", "2", "3", "4"]})  # fmt: skip
    imputer = make_imputer("copula").fit(values[:600], columns, draws=1)
    holed = np.where(np.arange(4) > 0, np.nan, values[600:])
    ids = [str(i) for i in range(200)]
    point = imputer.transform(holed, ids)[0]
    for j, least in ((1, 0.75), (2, 0.85), (3, 0.7)):
        assert (point[:, j] == values[600:, j]).mean() > least
    drawn = imputer.transform(holed, ids, answer="draw")[0]
    for j in (1, 2, 3):
        got, trained = (np.bincount(v.astype(int), minlength=4) / len(v) for v in (drawn[:, j], values[:600, j]))
        assert np.abs(got - trained).max() < 0.12
