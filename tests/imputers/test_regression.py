"""`regression` against scikit-learn's regressions on the determinants."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import BayesianRidge, LogisticRegression

from mmcli.errors import RequestError
from mmcli.imputers import make_imputer
from mmcli.imputers.imputer import Columns


def table(n=200, seed=0):
    """Age and sex known for all; a number and a site with holes that depend on both."""
    rng = np.random.default_rng(seed)
    age, sex = rng.normal(60, 10, n), rng.integers(0, 2, n).astype(float)
    number = 2 * age + 30 * sex + rng.normal(0, 10, n)
    site = np.digitize(age + 5 * rng.normal(size=n), [54, 66]).astype(float)
    values = np.stack([age, sex, number, site], 1)
    values[rng.random(n) < 0.3, 2] = np.nan
    values[rng.random(n) < 0.3, 3] = np.nan
    columns = Columns(["age", "sex", "number", "site"], ["numeric", "categorical", "numeric", "categorical"],
                      {"sex": ["f", "m"], "site": ["a", "b", "c"]})  # fmt: skip
    return values, columns


def test_numbers_and_categories_are_scikit_learns():
    values, columns = table()
    train, test = values[:150], values[150:].copy()
    test[:, 2:] = np.nan
    imputer = make_imputer("regression").fit(train, columns)
    filled = imputer.transform(test, [str(i) for i in range(50)])[0]

    def inputs(rows):
        share = train[:, 1].mean()
        male = (rows[:, 1] - share) / np.sqrt(share * (1 - share))
        return np.stack([(rows[:, 0] - train[:, 0].mean()) / train[:, 0].std(), -male, male], 1)

    seen = ~np.isnan(train[:, 2])
    ridge = BayesianRidge().fit(inputs(train[seen]), (train[seen, 2] - train[seen, 2].mean()) / train[seen, 2].std())
    expected = ridge.predict(inputs(test)) * train[seen, 2].std() + train[seen, 2].mean()
    np.testing.assert_allclose(filled[:, 2], expected, rtol=1e-6)
    seen = ~np.isnan(train[:, 3])
    logistic = LogisticRegression(C=1, tol=1e-8, max_iter=2000).fit(inputs(train[seen]), train[seen, 3])
    assert np.array_equal(filled[:, 3], logistic.predict(inputs(test)))


def test_given_determinants_and_their_own_holes():
    values, columns = table()
    values[5, 0] = np.nan
    imputer = make_imputer("regression", {"determinants": "age"}).fit(values, columns)
    filled = imputer.transform(values, [str(i) for i in range(200)])[0]
    np.testing.assert_allclose(filled[5, 0], np.nanmean(values[:, 0]))
    holes = np.isnan(values[:, 2]) & ~np.isnan(values[:, 0])
    # From the age alone: a line.
    x, y = values[holes, 0], filled[holes, 2]
    np.testing.assert_allclose(np.polyval(np.polyfit(x, y, 1), x), y, rtol=1e-6)
    with pytest.raises(RequestError, match="unknown column 'agee'; did you mean 'age'"):
        make_imputer("regression", {"determinants": "agee"}).fit(values, columns)


def test_without_determinants_it_is_the_mean():
    values, columns = table()
    values[0] = np.nan
    ids = [str(i) for i in range(200)]
    for answer in ("mean", "draw"):
        got, mean = (
            make_imputer(name).fit(values, columns, draws=1).transform(values, ids, answer=answer)
            for name in ("regression", "mean")
        )
        assert np.array_equal(got, mean)


def test_draws_cover():
    values, columns = table(1200)
    full = values.copy()
    test = np.arange(1200) >= 800
    full[:, 2:] = np.where(test[:, None], np.nan, full[:, 2:])
    imputer = make_imputer("regression").fit(full[~test], columns, draws=100)
    drawn = imputer.transform(full[test], [str(i) for i in range(400)], draws=100, answer="draw")
    low, high = np.quantile(drawn[..., 2], [0.05, 0.95], axis=0)
    truth = values[test, 2]
    seen = ~np.isnan(truth)
    assert 0.84 < ((truth >= low) & (truth <= high))[seen].mean() < 0.95
    share = [(drawn[..., 3] == c).mean() for c in range(3)]
    np.testing.assert_allclose(
        share, [np.nanmean(values[~np.isnan(values[:, 3]), 3] == c) for c in range(3)], atol=0.06
    )
