"""Bayesian ridge from sums of products against scikit-learn's BayesianRidge."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import BayesianRidge

from mmcli.imputers.bayesian_ridge import fit_ridge


@pytest.mark.parametrize("n,p,noise", [(50, 6, 1.0), (12, 20, 0.5), (200, 3, 5.0), (30, 1, 0.1)])
def test_equals_scikit_learn(n, p, noise):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(4, n, p)) + 3
    y = np.stack([x[0] @ rng.normal(size=p), rng.normal(size=n)], 1) + noise * rng.normal(size=(n, 2))
    fit = fit_ridge(x, y)
    for c in range(4):
        for q in range(2):
            one = BayesianRidge().fit(x[c], y[:, q])
            np.testing.assert_allclose(fit.coef[c, q], one.coef_, rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose(fit.intercept[c, q], one.intercept_, rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose(fit.alpha[c, q], one.alpha_, rtol=1e-6)
            np.testing.assert_allclose(fit.lambda_[c, q], one.lambda_, rtol=1e-5)


def test_posterior_draws_have_its_mean_and_covariance():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)) @ np.array([[1, 0.8, 0], [0, 0.5, 0], [0, 0, 2.0]]) + 2
    y = x @ [1, -1, 0.5] + rng.normal(size=40)
    fit = fit_ridge(np.repeat(x[None], 20000, 0), y[:, None])
    coef, intercept = fit.posterior_draw(np.random.default_rng(1))
    one = BayesianRidge().fit(x, y)
    np.testing.assert_allclose(coef[:, 0].mean(0), one.coef_, atol=4 * np.sqrt(one.sigma_.max() / 20000))
    np.testing.assert_allclose(np.cov(coef[:, 0].T), one.sigma_, rtol=0.05, atol=0.03 * one.sigma_.max())
    # At the mean of x the prediction's variance is the intercept's own, 1 / (alpha n).
    centre = (coef[:, 0] * x.mean(0)).sum(1) + intercept[:, 0]
    np.testing.assert_allclose(centre.var(), 1 / (one.alpha_ * 40), rtol=0.05)
