"""`knn` against scikit-learn's KNNImputer, and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.impute import KNNImputer

from mmcli.imputers import make_imputer
from mmcli.imputers.imputer import Columns


def standardised(values, train):
    return (values - np.nanmean(train, 0)) / np.nanstd(train, 0)


@pytest.mark.parametrize("k", [1, 5, 200])
def test_numbers_are_scikit_learns(k):
    rng = np.random.default_rng(k)
    x = rng.normal(size=(150, 6)) @ rng.normal(size=(6, 6)) * np.array([1, 10, 0.1, 3, 5, 1000]) + 7
    x[rng.random(x.shape) < 0.25] = np.nan
    x[149] = np.nan
    train, test = x[:100], x[100:]
    imputer = make_imputer("knn", {"neighbours": str(k)}).fit(train, Columns(list("abcdef"), ["numeric"] * 6, {}))
    got = imputer.transform(test, [str(i) for i in range(50)])[0]
    theirs = KNNImputer(n_neighbors=k).fit(standardised(train, train)).transform(standardised(test, train))
    np.testing.assert_allclose(standardised(got, train), theirs, rtol=1e-9, atol=1e-9)


def test_answers_on_mixed_columns_by_a_plain_loop(made):
    train = made.values[:40]
    imputer = make_imputer("knn", {"neighbours": "4"}).fit(train, made.columns, draws=30)
    sd, mean = np.nanstd(train, 0), np.nanmean(train, 0)
    share = np.array([(train[:, 4] == c).sum() / (~np.isnan(train[:, 4])).sum() for c in range(3)])

    def design(row):
        site = (
            [np.nan] * 3
            if np.isnan(row[4])
            else list(((row[4] == np.arange(3)) - share) / np.sqrt(share * (1 - share)))
        )
        return np.array([*((row[:4] - mean[:4]) / sd[:4]), *site])

    mean_of, median_of = (imputer.transform(made.values, made.ids, answer=a)[0] for a in ("mean", "median"))
    drawn = imputer.transform(made.values, made.ids, draws=30, answer="draw")
    for i, row in enumerate(made.values):
        for j in np.flatnonzero(np.isnan(row)):
            reach = []
            for r, other in enumerate(train):
                gap = design(row) - design(other)
                if not np.isnan(other[j]) and (~np.isnan(gap)).any():
                    reach.append((np.nanmean(gap**2), r))
            cells = np.array([train[r, j] for _, r in sorted(reach)[:4]])
            if not len(cells):
                continue
            assert set(drawn[:, i, j]) <= set(cells)
            if j == 4:
                counts = np.bincount(cells.astype(int))
                assert mean_of[i, j] == median_of[i, j] == counts.argmax()
            elif j < 3:
                np.testing.assert_allclose([mean_of[i, j], median_of[i, j]], [cells.mean(), np.median(cells)])
