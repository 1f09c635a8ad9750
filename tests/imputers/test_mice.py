"""`mice` against scikit-learn's IterativeImputer, against the exact conditional of a normal, and on real tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.linear_model import BayesianRidge

from mmcli.imputers import make_imputer
from mmcli.imputers.imputer import Columns
from mmcli.imputers.mice import truncated_normal


def numeric(f: int) -> Columns:
    return Columns([f"x{j}" for j in range(f)], ["numeric"] * f, {})


def normal_table(n: int, seed: int, holes: float):
    """Whole and holed rows of a correlated normal with mean `mean` and covariance `cov`."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(5, 5)) + np.eye(5)
    mean, cov = 10 * rng.normal(size=5), root @ root.T
    whole = rng.multivariate_normal(mean, cov, n)
    return whole, np.where(rng.random(whole.shape) < holes, np.nan, whole), mean, cov


@pytest.mark.filterwarnings("ignore:.*Early stopping criterion not reached")
@pytest.mark.parametrize("rounds", [1, 2, 10])
@pytest.mark.parametrize("seed", range(3))
def test_point_answers_equal_scikit_learns_on_training_and_new_rows(seed, rounds):
    _, holed, *_ = normal_table(150, seed, 0.25)
    train, new = holed[:100], holed[100:]
    centre, sd = np.nanmean(train, 0), np.nanstd(train, 0)
    z = (train - centre) / sd
    theirs = IterativeImputer(
        BayesianRidge(), max_iter=rounds, tol=1e-3, min_value=np.nanmin(z, 0), max_value=np.nanmax(z, 0)
    ).fit(z)
    ours = make_imputer("mice", {"rounds": str(rounds)}).fit(train, numeric(5))
    for rows in (train, new):
        filled = ours.transform(rows, [f"P{i}" for i in range(len(rows))])[0]
        hole = np.isnan(rows)
        np.testing.assert_allclose(
            ((filled - centre) / sd)[hole], theirs.transform((rows - centre) / sd)[hole], rtol=1e-6, atol=1e-8
        )


def test_the_chain_stops_when_nothing_moves():
    _, holed, *_ = normal_table(300, 0, 0.05)
    loose = make_imputer("mice", {"rounds": "50", "tolerance": "0.01"}).fit(holed, numeric(5))
    tight = make_imputer("mice", {"rounds": "50", "tolerance": "0"}).fit(holed, numeric(5))
    assert len(loose.coef) < 50 == len(tight.coef)


def test_draws_have_the_exact_conditional_of_a_normal():
    whole, holed, mean, cov = normal_table(2000, 4, 0.1)
    imputer = make_imputer("mice").fit(holed, numeric(5), draws=60, seed=1)
    patient = whole[:1].copy()
    patient[0, [1, 3]] = np.nan
    ids = [f"N{i}" for i in range(40)]
    drawn = imputer.transform(np.repeat(patient, 40, 0), ids, draws=60, answer="draw")[..., [1, 3]].reshape(-1, 2)
    know, want = [0, 2, 4], [1, 3]
    gain = cov[np.ix_(want, know)] @ np.linalg.inv(cov[np.ix_(know, know)])
    centre = mean[want] + gain @ (whole[0, know] - mean[know])
    spread = cov[np.ix_(want, want)] - gain @ cov[np.ix_(know, want)]
    sd = np.sqrt(np.diag(spread))
    assert (np.abs(drawn.mean(0) - centre) < 0.25 * sd).all()
    np.testing.assert_allclose(np.cov(drawn.T), spread, rtol=0.25, atol=0.1 * sd.max() ** 2)


def test_intervals_of_draws_cover_what_was_hidden():
    inside = []
    for seed in range(4):
        whole, holed, *_ = normal_table(150, 10 + seed, 0.25)
        imputer = make_imputer("mice").fit(holed[:100], numeric(5), draws=60, seed=seed)
        drawn = imputer.transform(holed[100:], [f"N{i}" for i in range(50)], draws=60, answer="draw")
        low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
        hidden = np.isnan(holed[100:])
        inside.append(((whole[100:] >= low) & (whole[100:] <= high))[hidden])
    share = np.concatenate(inside).mean()
    assert 0.84 < share < 0.95, share


def test_truncated_normal_against_scipy():
    rng = np.random.default_rng(0)
    mean, u = rng.normal(0, 6, 500), rng.random(500)
    sd, low, high = np.full(500, 1.3), np.full(500, -1.0), np.full(500, 2.0)
    expected = stats.truncnorm.ppf(u, (low - mean) / sd, (high - mean) / sd, mean, sd)
    np.testing.assert_allclose(truncated_normal(mean, sd, low, high, u), expected, rtol=1e-6, atol=1e-6)
    far = truncated_normal(np.array([1e9, -1e9]), np.ones(2), np.zeros(2), np.ones(2), np.array([0.5, 0.5]))
    assert far.tolist() == [1, 0]


def test_a_category_that_follows_from_numbers_is_found_and_helps_numbers():
    rng = np.random.default_rng(0)
    site = rng.integers(0, 3, 300)
    x = np.array([0.0, 5.0, -5.0])[site] + 0.3 * rng.normal(size=300)
    table = np.stack([x, site], 1).astype(float)
    columns = Columns(["x", "site"], ["numeric", "categorical"], {"site": ["a", "b", "c"]})
    holed = table.copy()
    holed[:40, 1], holed[40:80, 0] = np.nan, np.nan
    imputer = make_imputer("mice").fit(holed[20:], columns, draws=20)
    ids = [f"P{i}" for i in range(300)]
    filled = imputer.transform(holed, ids)[0]
    # Indicators are linear in x: the outer two sites are told apart from it, and x is known from the site.
    outer = np.flatnonzero((site > 0) & (np.arange(300) < 40))
    assert (filled[outer, 1] == site[outer]).all()
    assert np.abs(filled[40:80, 0] - x[40:80]).max() < 1.5
    drawn = imputer.transform(holed, ids, draws=20, answer="draw")[:, outer, 1]
    # A linear probability model is not sharp: about .7 here, against 1/3 by chance.
    assert (drawn == site[outer]).mean() > 0.6 and len(np.unique(drawn)) > 1


def test_few_predictors_are_the_strongest_and_never_a_columns_own():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 12))
    x[:, 11] = x[:, 4] + 0.1 * rng.normal(size=80)
    x[:20, 11] = np.nan
    imputer = make_imputer("mice", {"max_predictors": "3"}).fit(x, numeric(12))
    assert imputer.predictors.shape == (12, 3) and 4 in imputer.predictors[11]
    assert all(i not in row for i, row in enumerate(imputer.predictors))
    filled = imputer.transform(x, [str(i) for i in range(80)])[0]
    assert np.corrcoef(filled[:20, 11], x[:20, 4])[0, 1] > 0.98


def test_more_columns_than_patients():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(15, 40)) + rng.normal(size=(15, 1)) * 3
    holed = np.where(rng.random(x.shape) < 0.2, np.nan, x)
    imputer = make_imputer("mice").fit(holed, numeric(40), draws=2)
    for answer in ("mean", "draw"):
        filled = imputer.transform(holed, [str(i) for i in range(15)], draws=2, answer=answer)[0]
        assert np.sqrt(((filled - x)[np.isnan(holed)] ** 2).mean()) < 0.75 * x.std()


def real_table(data: Path, name: str):
    """Values (n, f) and columns of a real table; text and two-valued columns are categories."""
    if name == "cirrhosis_pbc":
        frame = pd.read_csv(data / "tables/cirrhosis_pbc/cirrhosis.csv").drop(columns=["ID", "N_Days", "Status"])
        categorical = ["Drug", "Gender", "Ascites", "Hepatomegaly", "Spiders", "Edema"]
    else:
        frame = pd.read_csv(data / "tables/hepatitis/hepatitis.data", header=None, na_values=["?"])
        frame = frame.drop(columns=[0]).set_axis([f"c{j}" for j in range(1, 20)], axis=1)
        categorical = [f"c{j}" for j in (*range(2, 14), 19)]
    categories, values = {}, np.full(frame.shape, np.nan)
    for j, column in enumerate(frame):
        if column in categorical:
            coded = pd.Categorical(frame[column])
            categories[column] = [str(c) for c in coded.categories]
            values[:, j] = np.where(coded.codes >= 0, coded.codes, np.nan)
        else:
            values[:, j] = frame[column]
    kinds = ["categorical" if c in categorical else "numeric" for c in frame]
    return values, Columns(list(frame), kinds, categories)


# Measured on these seeds; the option's default was chosen on others (100 to 114).
@pytest.mark.parametrize("name,most", [("cirrhosis_pbc", 0.97), ("hepatitis", 0.95)])
def test_rmse_on_hidden_cells_of_real_tables_is_below_the_means(data, name, most):
    values, columns = real_table(data, name)
    numbers = np.array([k == "numeric" for k in columns.kinds])
    ids = [str(i) for i in range(len(values))]
    error, right = {"mean": [], "mice": []}, {"mean": [], "mice": []}
    for seed in range(25):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(values))
        train, test = np.split(order, [int(0.7 * len(values))])
        hidden = (rng.random(values.shape) < 0.2) & ~np.isnan(values)
        holed = np.where(hidden, np.nan, values)
        sd = np.nanstd(holed[train], 0)
        for method in error:
            imputer = make_imputer(method).fit(holed[train], columns)
            off = (imputer.transform(holed[test], [ids[i] for i in test])[0] - values[test]) / sd
            masked = np.ma.array(off, mask=~hidden[test])
            error[method].append(np.ma.sqrt((masked**2).mean(0))[numbers].mean())
            right[method].append((masked[:, ~numbers] == 0).mean())
    assert np.mean(error["mice"]) < most * np.mean(error["mean"])
    # Paired over the splits: the lower error is no accident of one of them.
    assert stats.ttest_rel(error["mice"], error["mean"], alternative="less").pvalue < 0.01
    assert np.mean(right["mice"]) > np.mean(right["mean"])
