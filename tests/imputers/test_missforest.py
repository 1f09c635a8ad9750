"""`missforest` against a plain loop over scikit-learn's extra trees, its stopping rule and its draws."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from mmcli.imputers import make_imputer
from mmcli.imputers.imputer import Columns


def curved(n, seed=0, holes=0.2):
    """Five numbers of one hidden one, none of them linear in another; complete and with holes."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(-2, 2, n)
    full = np.stack([t, t**2, np.sin(2 * t), np.abs(t) + t, np.exp(t)], 1) + 0.1 * rng.normal(size=(n, 5))
    return full, np.where(rng.random(full.shape) < holes, np.nan, full)


def columns(f):
    return Columns([f"x{j}" for j in range(f)], ["numeric"] * f, {})


def plain(train, test, rounds):
    """Chained forests on standardised columns, fitted on `train` alone."""
    mean, sd = np.nanmean(train, 0), np.nanstd(train, 0)
    holes, wanting = np.isnan(train), np.isnan(test)
    x, z = (np.nan_to_num((v - mean) / sd) for v in (train, test))
    for r in range(rounds):
        for j in np.argsort(holes.mean(0), kind="stable"):
            forest = ExtraTreesRegressor(50, min_samples_leaf=3, random_state=r).fit(
                np.delete(x, j, 1)[~holes[:, j]], x[~holes[:, j], j]
            )
            for v, h in ((x, holes), (z, wanting)):
                v[h[:, j], j] = forest.predict(np.delete(v, j, 1)[h[:, j]]) if h[:, j].any() else 0
    return z * sd + mean


def test_as_good_as_a_plain_loop_and_better_than_a_line():
    full, holed = curved(400)
    train, test, truth = holed[:280], holed[280:], full[280:]
    holes = np.isnan(test)
    ids = [str(i) for i in range(120)]
    sd = full.std(0)

    def error(filled):
        return np.sqrt((((filled - truth) / sd)[holes] ** 2).mean())

    ours = error(make_imputer("missforest", {"share": "1"}).fit(train, columns(5)).transform(test, ids)[0])
    assert ours < 1.15 * error(plain(train, test, 3))
    assert ours < 0.7 * error(make_imputer("mice").fit(train, columns(5)).transform(test, ids)[0])


def test_it_stops_when_the_cells_move_farther():
    rng = np.random.default_rng(0)
    noise = np.where(rng.random((60, 4)) < 0.3, np.nan, rng.normal(size=(60, 4)))
    imputer = make_imputer("missforest", {"rounds": "50"}).fit(noise, columns(4))
    assert 1 <= len(imputer.forests) < 50


def test_draws_are_cells_of_training_patients_and_cover():
    full, _ = curved(900, seed=3)
    imputer = make_imputer("missforest").fit(full[:600], columns(5), draws=100)
    holed = full[600:].copy()
    holed[:, 1] = np.nan
    drawn = imputer.transform(holed, [str(i) for i in range(300)], draws=100, answer="draw")[..., 1]
    assert np.isin(drawn, full[:600, 1]).all()
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    assert ((full[600:, 1] >= low) & (full[600:, 1] <= high)).mean() > 0.8
    assert np.corrcoef(drawn.mean(0), full[600:, 1])[0, 1] > 0.95
