"""Missing because of the own value, because of another column, or at random: told apart, and corrected for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from mmcli.imputers import make_imputer
from mmcli.imputers.imputer import Columns
from mmcli.imputers.selection import SLOPES, _likelihoods


def made_table(way, n=400, f=8, seed=0):
    """Complete rows (n, f) of one factor, and the same with a fifth of columns 1 ... f-1 missing."""
    rng = np.random.default_rng(seed)
    full = rng.normal(size=(n, 1)) + rng.normal(size=(n, f))
    chance = np.full(full.shape, 0.2)
    rank = np.stack([(rankdata(c) - 0.5) / n for c in full.T], 1)
    if way == "own":
        chance = 0.4 * rank
    elif way == "own, low":
        chance = 0.4 * (1 - rank)
    elif way == "other":
        chance = 0.4 * np.repeat(rank[:, :1], f, 1)
    missing = rng.random(full.shape) < chance
    missing[:, 0] = False
    return full, np.where(missing, np.nan, full)


def numeric(f):
    return Columns([f"x{j}" for j in range(f)], ["numeric"] * f, {})


@pytest.mark.parametrize("seed", range(3))
def test_the_cause_is_told(seed):
    slopes = {}
    for way in ("random", "own", "own, low", "other"):
        _, holed = made_table(way, seed=seed)
        imputer = make_imputer("blend", {"trees": "5"}).fit(holed, numeric(8))
        slopes[way] = imputer.slopes[1:]
        assert imputer.slopes[0] == 0
    # The odds of .4 u rise from 0 to 2/3: a slope of about 1 on the middle of the range.
    assert slopes["own"].mean() > 0.5 and (slopes["own"] > 0).all()
    assert slopes["own, low"].mean() < -0.5
    assert np.abs(slopes["random"]).mean() < 0.15 and np.abs(slopes["other"]).mean() < 0.15


def test_the_bias_of_filled_cells_is_halved():
    _, train = made_table("own", seed=5)
    full, holed = made_table("own", seed=6)
    holes = np.isnan(holed)
    ids = [str(i) for i in range(len(full))]
    bias, error = {}, {}
    for selection in ("true", "false"):
        imputer = make_imputer("blend", {"trees": "10", "selection": selection}).fit(train, numeric(8))
        off = (imputer.transform(holed, ids)[0] - full)[holes]
        bias[selection], error[selection] = off.mean(), np.sqrt((off**2).mean())
    assert bias["false"] < -0.3 and abs(bias["true"]) < 0.5 * abs(bias["false"])
    assert error["true"] < 0.95 * error["false"]


def test_likelihoods_are_those_of_logistic_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    missing = rng.random(300) < 1 / (1 + np.exp(1 - 0.8 * x))
    fit = LogisticRegression(C=np.inf, tol=1e-10).fit(x[:, None], missing)
    best = fit.coef_[0, 0]
    chance = fit.predict_proba(x[:, None])[:, 1]
    expected = np.where(missing, np.log(chance), np.log(1 - chance)).sum()
    np.testing.assert_allclose(_likelihoods(missing, best * x[None])[0], expected, rtol=1e-6)
    grid = _likelihoods(missing, SLOPES[:, None] * x)
    assert abs(SLOPES[grid.argmax()] - best) <= 0.1 and grid.max() <= expected + 1e-9
