"""`blend`: its parts by a slow second way, its draws' coverage, and what it reaches on real tables."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
from scipy import stats

from mmcli.errors import DamagedError
from mmcli.imputers import make_imputer
from mmcli.imputers.blend import BlendImputer
from mmcli.imputers.imputer import Columns
from mmcli.imputers.scores import Scores


def numeric(f):
    return Columns([f"x{j}" for j in range(f)], ["numeric"] * f, {})


def curved(n, seed, holes=0.2):
    rng = np.random.default_rng(seed)
    t = rng.uniform(-2, 2, n)
    full = np.stack([t, t**2, np.sin(2 * t), np.exp(t), rng.normal(size=n)], 1) + 0.2 * rng.normal(size=(n, 5))
    return full, np.where(rng.random(full.shape) < holes, np.nan, full)


def test_it_is_the_mean_of_copula_and_forest():
    _, holed = curved(120, 0)
    imputer = make_imputer("blend", {"trees": "10"}).fit(holed, numeric(5), seed=3)
    copula = make_imputer("copula").fit(holed, numeric(5), seed=3)
    filled, sd, _ = copula._predict(holed)
    mean, own_sd, _ = imputer._predict(holed)
    for i, j in np.argwhere(np.isnan(holed)):
        forest = imputer.forests[j].predict(filled[[i]])[0, 0]
        np.testing.assert_allclose(mean[i, j], (filled[i, j] + forest) / 2, rtol=1e-12)
    np.testing.assert_allclose(own_sd, sd * np.sqrt(imputer.ratio))


@pytest.mark.parametrize("answer,pull", [("mean", 0.5), ("median", 0.2)])
def test_forest_and_ridge_of_the_numbers_pull_the_point_answers(answer, pull):
    _, holed = curved(120, 0)
    ids = [str(i) for i in range(120)]
    imputer = make_imputer("blend", {"trees": "10", "selection": "false"}).fit(holed, numeric(5), seed=3)
    copula = make_imputer("copula").fit(holed, numeric(5), seed=3)
    chained = make_imputer("mice").fit(holed, numeric(5), seed=3).transform(holed, ids)[0]
    filled = imputer.transform(holed, ids, answer=answer)[0]
    completed, _, _ = copula._predict(holed)
    mean, sd, _ = imputer._predict(holed)
    for i, j in np.argwhere(np.isnan(holed)):
        v = imputer.scores.variables[j]
        # The middle 80 % of the predictive distribution, on a fine grid of its quantiles.
        z = mean[i, j] + sd[i, j] * stats.norm.ppf(np.linspace(0.1, 0.9, 2001))
        middle = imputer.scores.quantile(v, z).mean()
        centre = middle if answer == "mean" else imputer.scores.quantile(v, mean[i, j])
        number = imputer.numbers[j].predict(completed[[i]])[0, 0] * imputer.marginals.sd[j] + imputer.marginals.mean[j]
        expected = centre + pull * ((number + chained[i, j]) / 2 - middle)
        low, high = np.nanmin(holed[:, j]), np.nanmax(holed[:, j])
        np.testing.assert_allclose(filled[i, j], np.clip(expected, low, high), atol=0.03)


def test_sums_of_skewed_numbers_gain_from_what_sees_the_numbers():
    rng = np.random.default_rng(0)
    parts = rng.exponential(size=(600, 3)) ** 1.5
    full = np.stack([*parts.T, parts.sum(1), parts @ [1.0, -1, 2]], 1)
    train, test = full[:300].copy(), full[300:].copy()
    train[rng.random(train.shape) < 0.15] = np.nan
    holes = rng.random(test.shape) < 0.15
    test[holes] = np.nan
    imputer = make_imputer("blend").fit(train, numeric(5), seed=1)
    ids = [str(i) for i in range(300)]
    error = {}
    for name in ("with", "without"):
        filled = imputer.transform(test, ids)[0]
        error[name] = np.sqrt((((filled - full[300:]) / full.std(0))[holes] ** 2).mean())
        imputer.chain = None  # leaves the distribution of the score alone
    assert error["with"] < 0.95 * error["without"]


def test_a_state_without_its_ridge_is_refused():
    _, holed = curved(60, 0)
    state = make_imputer("blend", {"trees": "5"}).fit(holed, numeric(5)).state()
    assert any(name.startswith("own-chain-") for name in state)
    with pytest.raises(DamagedError):
        BlendImputer.from_state({name: array for name, array in state.items() if "own-chain-" not in name})


def test_better_than_the_copula_where_columns_are_not_linear():
    _, train = curved(400, 0)
    full, test = curved(200, 1)
    holes = np.isnan(test)
    ids = [str(i) for i in range(200)]
    error = {
        name: np.sqrt((((make_imputer(name).fit(train, numeric(5)).transform(test, ids)[0] - full) / full.std(0))[holes]
                       ** 2).mean())
        for name in ("blend", "copula", "mean")
    }  # fmt: skip
    assert error["blend"] < 0.85 * error["copula"] < error["mean"]


def test_draws_cover_and_their_ranks_are_uniform():
    train, _ = curved(500, 4)
    full, _ = curved(500, 5)
    rng = np.random.default_rng(0)
    holes = rng.random(full.shape) < 0.2
    seen = np.where(rng.random(train.shape) < 0.2, np.nan, train)
    imputer = make_imputer("blend").fit(seen, numeric(5), draws=100)
    drawn = imputer.transform(np.where(holes, np.nan, full), [str(i) for i in range(500)], draws=100, answer="draw")
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    covered = ((full >= low) & (full <= high))[holes]
    assert 0.85 < covered.mean() < 0.95
    ranks = (drawn < full).mean(0)[holes]
    assert stats.kstest(ranks, "uniform").statistic < 0.09


def test_scores_are_normal_scores_and_come_back():
    values = np.array([[3.0, 0], [1, 1], [1, 1], [10, 1], [np.nan, np.nan], [5, 2], [7, 0], [8, 2]])
    columns = Columns(["x", "g"], ["numeric", "ordinal"], {"g": ["a", "b", "c"]})
    imputer = make_imputer("copula", {"min_observed": "2"}).fit(values, columns)
    scores: Scores = imputer.scores
    encoded = scores.encode(values)
    np.testing.assert_allclose(np.nanmean(encoded, 0), 0, atol=1e-12)
    np.testing.assert_allclose(np.nanstd(encoded, 0), 1, rtol=1e-12)
    raw = encoded * scores.scale + scores.centre
    # Three of seven have level b, two a, two c: b is in the middle of the normal, and a and c are mirror images.
    np.testing.assert_allclose(raw[[1, 2, 3], 1], 0, atol=1e-12)
    np.testing.assert_allclose(raw[0, 1], -raw[5, 1])
    np.testing.assert_allclose(raw[0, 1], -stats.norm.pdf(stats.norm.ppf(2 / 7)) / (2 / 7), rtol=1e-9)
    v = scores.variables[0]
    seen = ~np.isnan(values[:, 0])
    np.testing.assert_allclose(scores.quantile(v, encoded[seen, 0]), values[seen, 0], rtol=0.05)
    order = np.argsort(values[seen, 0], kind="stable")
    assert (np.diff(encoded[seen, 0][order]) >= 0).all()
    assert np.array_equal(scores.level_at(scores.variables[1], encoded[seen, 1]), values[seen, 1])


@pytest.fixture
def protocol(monkeypatch):
    """The modules of examples/imputation."""
    from pathlib import Path

    folder = Path(__file__).parents[2] / "examples/imputation"
    monkeypatch.syspath_prepend(str(folder))
    loaded = {}
    for name in ("tables", "protocol"):
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        loaded[name] = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, loaded[name])
        spec.loader.exec_module(loaded[name])
    return loaded


# Figures of seeds 0 to 4 stand in examples/imputation/RESULTS.md; these two tables take two seconds.
@pytest.mark.parametrize("name,way,most", [("hcv", "a", 0.95), ("hcv", "b", 0.92), ("hepatitis", "b", 0.97)])
def test_rmse_on_real_tables_is_below_the_means(data, protocol, name, way, most):
    table = protocol["tables"].TABLES[name](data / "tables")
    kinds = table.columns.kinds
    error = {"blend": [], "mean": []}
    for seed in range(3):
        split = protocol["protocol"].hide(table, way, seed)
        for method in error:
            imputer = make_imputer(method).fit(split.train, table.columns, seed=seed)
            filled = imputer.transform(split.test, [str(i) for i in split.test_rows])[0]
            error[method].append(protocol["protocol"].score(split, kinds, filled)["rmse"])
    assert np.mean(error["blend"]) < most * np.mean(error["mean"])
