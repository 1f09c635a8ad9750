"""The normal distribution with holes against the textbook's block formulas, one row at a time."""

from __future__ import annotations

import numpy as np
import pytest

from mmcli.imputers.gaussian import conditional, fit_correlation, precision, predict_each


def example(n=40, d=6, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(d, d)) + np.eye(d)
    covariance = root @ root.T
    sd = np.sqrt(np.diag(covariance))
    matrix = covariance / (sd[:, None] * sd)
    rows = rng.multivariate_normal(np.zeros(d), matrix, size=n)
    rows[rng.random(rows.shape) < 0.4] = np.nan
    rows[0], rows[1, :] = np.nan, 1.0
    return matrix, rows


def by_hand(matrix, row):
    """Mean and covariance of a row's holes: S_mo S_oo^-1 z_o and S_mm - S_mo S_oo^-1 S_om."""
    o, m = ~np.isnan(row), np.isnan(row)
    weights = matrix[np.ix_(m, o)] @ np.linalg.pinv(matrix[np.ix_(o, o)])
    return weights @ row[o], matrix[np.ix_(m, m)] - weights @ matrix[np.ix_(o, m)]


def test_conditional_is_the_block_formula():
    matrix, rows = example()
    mean, covariance = conditional(precision(matrix), rows)
    for i, row in enumerate(rows):
        holes = np.isnan(row)
        expected, spread = by_hand(matrix, row)
        np.testing.assert_allclose(mean[i, holes], expected, atol=1e-4)
        np.testing.assert_allclose(covariance[i][np.ix_(holes, holes)], spread, atol=1e-4)
        assert np.array_equal(mean[i, ~holes], row[~holes])
        assert not covariance[i][~holes].any() and not covariance[i][:, ~holes].any()


def test_two_correlated_columns_by_hand():
    # z2 given z1 = 2 at correlation .6: mean 1.2, variance .64.
    mean, covariance = conditional(precision(np.array([[1, 0.6], [0.6, 1]])), np.array([[2, np.nan]]))
    np.testing.assert_allclose(mean[0], [2, 1.2], rtol=1e-5)
    np.testing.assert_allclose(covariance[0], [[0, 0], [0, 0.64]], atol=1e-5)


def test_every_cell_predicted_without_itself():
    matrix, rows = example(n=15)
    mean, variance = predict_each(precision(matrix), rows)
    for i, row in enumerate(rows):
        for j in range(len(row)):
            without = row.copy()
            without[j] = np.nan
            expected, spread = by_hand(matrix, without)
            at = np.isnan(without)[:j].sum()
            np.testing.assert_allclose([mean[i, j], variance[i, j]], [expected[at], spread[at, at]], atol=1e-3)


def plain_em(rows, shrink, steps):
    """The same, a row at a time, from the block formulas."""
    matrix = np.eye(rows.shape[1])
    for _ in range(steps):
        total = shrink * np.eye(len(matrix))
        for row in rows:
            holes = np.isnan(row)
            full = row.copy()
            full[holes], spread = by_hand(matrix, row)
            total += np.outer(full, full)
            total[np.ix_(holes, holes)] += spread
        sd = np.sqrt(np.diag(total))
        matrix = total / (sd[:, None] * sd)
    return matrix


@pytest.mark.parametrize("shrink", [0.5, 10])
def test_expectation_maximisation_is_the_plain_one(shrink):
    _, rows = example(n=30, d=4)
    got = fit_correlation(rows, shrink, 3)
    np.testing.assert_allclose(got, plain_em(rows[1:], shrink, 3), atol=1e-4)


def test_it_finds_the_correlations_that_made_the_data():
    matrix, _ = example(d=5)
    rng = np.random.default_rng(1)
    rows = rng.multivariate_normal(np.zeros(5), matrix, size=4000)
    rows[rng.random(rows.shape) < 0.3] = np.nan
    assert np.abs(fit_correlation(rows, 1, 100) - matrix).max() < 0.06


def test_copies_of_a_column_and_more_columns_than_rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 1)) * np.ones(20)
    x[rng.random(x.shape) < 0.3] = np.nan
    matrix = fit_correlation(x, 0, 30)
    mean, covariance = conditional(precision(matrix), x)
    assert np.isfinite(matrix).all() and np.isfinite(mean).all() and np.isfinite(covariance).all()
