"""`mean` against scikit-learn's SimpleImputer and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.impute import SimpleImputer

from mmcli.imputers import make_imputer


@pytest.mark.parametrize("answer,strategy", [("mean", "mean"), ("median", "median")])
def test_numeric_columns_are_scikit_learns(answer, strategy, made):
    filled = make_imputer("mean").fit(made.values[:40], made.columns).transform(made.values, made.ids, answer=answer)
    theirs = SimpleImputer(strategy=strategy).fit(made.values[:40, :3]).transform(made.values[:, :3])
    np.testing.assert_allclose(filled[0, :, :3], theirs, rtol=1e-12)


def test_categories_are_the_most_frequent(made):
    filled = make_imputer("mean").fit(made.values[:40], made.columns).transform(made.values, made.ids)
    theirs = SimpleImputer(strategy="most_frequent").fit(made.values[:40, 4:]).transform(made.values[:, 4:])
    assert np.array_equal(filled[0, :, 4:], theirs)


def test_draws_follow_the_training_patients(made):
    imputer = make_imputer("mean").fit(made.values, made.columns, draws=50)
    drawn = imputer.transform(np.full((100, 5), np.nan), [f"N{i}" for i in range(100)], draws=50, answer="draw")
    for j in range(3):
        seen = made.values[~np.isnan(made.values[:, j]), j]
        np.testing.assert_allclose(
            np.quantile(drawn[..., j], [0.25, 0.5, 0.75]), np.quantile(seen, [0.25, 0.5, 0.75]), rtol=0.1, atol=0.1
        )
    seen = made.values[~np.isnan(made.values[:, 4]), 4]
    for code in range(3):
        assert abs((drawn[..., 4] == code).mean() - (seen == code).mean()) < 0.03
