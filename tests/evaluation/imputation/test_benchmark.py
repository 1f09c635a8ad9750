"""The whole benchmark on a made table, against the obvious loops over folds and cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import wasserstein_distance
from sklearn.metrics import roc_auc_score

from mmcli.cohort.folds import make_folds
from mmcli.evaluation.imputation import downstream
from mmcli.evaluation.imputation.benchmark import RAW, Resamples, run
from mmcli.evaluation.imputation.experiment import Plan, answer, boosting, hide_all, seed_of
from mmcli.evaluation.imputation.hiding import hide
from mmcli.imputers import make_imputer
from mmcli.imputers.imputer import Columns
from mmcli.store import Label, Table

N, DRAWS = 120, 19


def made_plan(seed: int = 0, labels: bool = True) -> Plan:
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=N)
    values = np.stack([factor, 3 - factor + 0.3 * rng.normal(size=N), np.exp(factor + 0.3 * rng.normal(size=N)),
                       np.digitize(factor, [-0.5, 0.7]), rng.random(N) < 0.3 + 0.4 * (factor > 0)], 1)  # fmt: skip
    values[rng.random(values.shape) < 0.1] = np.nan
    kinds = ["numeric", "numeric", "numeric", "ordinal", "categorical"]
    table = Table(["a", "b", "c", "grade", "sex"], kinds, {"grade": ["1", "2", "3"], "sex": ["f", "m"]},
                  np.ones(N, bool), values, ~np.isnan(values))  # fmt: skip
    y = (factor + rng.normal(size=N) > 0).astype(np.int64)
    y[:6] = -1
    ids = [f"p{i:03}" for i in range(N)]
    roles = make_folds(ids, y, None, n=4, repeats=1, validation=0.2, seed=0)
    return Plan(table, ids, roles, {"y": Label(y, ["no", "yes"])} if labels else {}, DRAWS, 0, 1)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return made_plan()


@pytest.fixture(scope="module")
def found(plan):
    return run(plan, ["mice"], {}, ["random", "value", "column"], 200, 0.9)


def row_of(found, **wanted):
    own = found.table
    for name, value in wanted.items():
        own = own[own[name] == value]
    assert len(own) == 1, own
    return own.iloc[0]


def filled_by_hand(plan: Plan, way: str, method: str):
    """Every fold done in the most obvious way: (fold, patient, column, truth, sd of training, mean, first draw)."""
    cells = []
    for k in range(plan.roles.shape[1]):
        values = plan.table.values
        hidden = hide(values, way, np.random.default_rng(seed_of(0, k, way)), driver=plan.driver)
        holed = np.where(hidden, np.nan, values)
        train = holed[plan.roles[:, k] == 1]
        imputer = make_imputer(method).fit(train, plan.columns, seed=seed_of(0, k, way), draws=DRAWS)
        for i in np.flatnonzero(plan.roles[:, k] == 3):
            mean = imputer.transform(holed[[i]], [plan.ids[i]])[0, 0]
            draw = imputer.transform(holed[[i]], [plan.ids[i]], draws=DRAWS, answer="draw")[:, 0]
            cells += [(k, i, j, values[i, j], np.nanstd(train[:, j]), mean[j], draw[0, j], draw[:, j].min(),
                       draw[:, j].max()) for j in np.flatnonzero(hidden[i])]  # fmt: skip
    return np.array(cells).T


@pytest.mark.parametrize("way", ["random", "value", "column"])
def test_values_are_those_of_the_obvious_loop(plan, found, way):
    each = {}
    for method in ("mean", "mice"):
        _, _, column, truth, sd, mean, draw, low, high = filled_by_hand(plan, way, method)
        numeric = [j for j in (0, 1, 2) if (column == j).any()]
        assert (1 in numeric) == (way != "column")  # the driver is never hidden there
        rmse, w1 = [], []
        for j in numeric:
            own = column == j
            rmse.append(np.sqrt((((mean - truth) / sd)[own] ** 2).mean()))
            w1.append(wasserstein_distance(truth[own], draw[own]) / sd[own].mean())
            row = row_of(found, way=way, method=method, answer="mean", column="abc"[j], measure="rmse")
            assert row["value"] == pytest.approx(rmse[-1], rel=1e-9) and row["cells"] == own.sum()
        each[method] = np.mean(rmse)
        total = row_of(found, way=way, method=method, answer="mean", column="", measure="rmse")
        assert total["value"] == pytest.approx(np.mean(rmse), rel=1e-9)
        assert row_of(found, way=way, method=method, answer="draw", column="", measure="w1")["value"] == pytest.approx(
            np.mean(w1), rel=1e-9
        )
        right = [(mean[column == j] == truth[column == j]).mean() for j in (3, 4)]
        assert row_of(found, way=way, method=method, column="", measure="accuracy")["value"] == pytest.approx(
            np.mean(right)
        )
        inside = (truth >= low) & (truth <= high)
        covered = [inside[column == j].mean() for j in [*numeric, 3]]
        assert row_of(found, way=way, method=method, column="", measure="coverage")["value"] == pytest.approx(
            np.mean(covered), rel=1e-9
        )
    total = row_of(found, way=way, method="mice", answer="mean", column="", measure="rmse")
    assert total["relative"] == pytest.approx(each["mice"] / each["mean"], rel=1e-9) and total["how"] == "ratio"


def test_a_correlated_marker_is_imputed_better_than_by_its_mean(found):
    row = row_of(found, way="random", method="mice", answer="mean", column="", measure="rmse")
    assert row["relative_high"] < 1 and row["relative_low"] > 0.2


def test_intervals_hold_their_value_and_none_is_lacking(found):
    table = found.table
    assert table["value"].notna().all()
    inside = (table["low"] <= table["value"] + 1e-9) & (table["high"] >= table["value"] - 1e-9)
    assert inside.mean() > 0.99
    ratio = table[(table["how"] == "ratio") & (table["method"] != "mean")]
    # of a BCa interval of few cells the value itself may lie just outside
    assert ((ratio["relative_low"] <= ratio["relative"]) & (ratio["relative_high"] >= ratio["relative"])).mean() > 0.97
    own = table[(table["method"] == "mean") & (table["answer"] == "mean") & (table["how"] == "ratio")]
    assert (own[["relative", "relative_low", "relative_high"]] == 1).all(axis=None)


def test_the_auc_is_the_mean_over_folds_of_scikit_learns(plan, found):
    hidden = hide_all(plan, "value")
    label = plan.labels["y"]
    for name, parts in (
        ("mice", answer(plan, hidden, "mice", {}).probabilities["y"]),
        (RAW, boosting(plan, hidden, "y")),
    ):
        each = []
        for k in range(plan.folds):
            rows = [i for i in np.flatnonzero(plan.roles[:, k] == 3) if label.values[i] >= 0]
            each.append(roc_auc_score(label.values[rows], parts[k][:, 1]))
        own = found.table[
            (found.table["way"] == "value") & (found.table["method"] == name) & (found.table["task"] == "y")
        ]
        np.testing.assert_allclose(own["value"], np.mean(each), rtol=1e-12)
        assert list(own["against"]) == (["mean", RAW] if name == "mice" else [""])


def test_test_patients_teach_nothing(plan):
    """Other values of half of fold 0's test patients leave the other half's hidden cells and answers as they are."""
    values = plan.table.values.copy()
    changed = np.flatnonzero(plan.roles[:, 0] == 3)[::2]
    values[changed] = np.where(np.isnan(values[changed]), np.nan, np.array([50.0, -50, 999, 1, 1]))
    other = replace(plan, table=replace(plan.table, values=values))
    # At random: hiding by value is the world's doing, and sees all values.
    one, two = hide_all(plan, "random"), hide_all(other, "random")
    a, b = answer(plan, one, "mice", {}), answer(other, two, "mice", {})
    same = (one.fold == 0) & ~np.isin(one.patient, changed)
    assert np.array_equal(one.sd[one.fold == 0], two.sd[two.fold == 0])
    for x, y in ((a.mean, b.mean), (a.median, b.median), (a.draws[4], b.draws[4])):
        assert x[same].tobytes() == y[same].tobytes()
    assert not np.array_equal(a.mean[one.fold == 1], b.mean[one.fold == 1])  # there some of them are training patients


def test_the_same_plan_gives_the_same_table_and_an_option_reaches_its_method(plan, found):
    ways = ["random"]
    again = run(plan, ["mice"], {}, ways, 200, 0.9).table
    own = found.table[found.table["way"] == "random"].reset_index(drop=True)
    assert again.equals(own)
    other = run(plan, ["mice"], {"rounds": "1"}, ways, 20, 0.9).table
    assert (other["value"] != again["value"]).any()


def test_without_labels_and_with_few_draws():
    plan = replace(made_plan(labels=False), draws=3)
    table = run(plan, ["mean"], {}, ["random"], 20, 0.9).table
    assert set(table["measure"]) == {"rmse", "mae", "w1", "ks", "correlation", "accuracy", "balanced_accuracy"}


def test_resamples_of_a_distance_surround_its_value():
    """The plug-in distance of two samples of one distribution is biased upwards in resamples."""
    rng = np.random.default_rng(0)
    weights = Resamples(10, 500, 0.9, 0, np.arange(10))
    drawn = np.concatenate([[0.1], 0.3 + 0.05 * rng.normal(size=500), np.full(10, 0.1)])
    value, low, high = weights.limits(drawn, distance=True)
    assert low < value < high
    assert (high - low) / value == pytest.approx(2 * 1.645 * 0.05 / 0.3, rel=0.1)
    assert weights.limits(drawn)[1] > 0.1


def test_patients_outside_of_all_tests_weigh_nothing():
    weights = np.concatenate(list(Resamples(5, 4, 0.9, 0, np.array([1, 3])).blocks()))
    assert weights.shape == (1 + 4 + 2, 5) and not weights[:, [0, 2, 4]].any()
    assert (weights[1:5].sum(1) == 2).all() and weights[5:].tolist() == [[0, 0, 0, 1, 0], [0, 1, 0, 0, 0]]


def test_classifiers_of_one_class_are_none_and_a_class_that_training_lacks_gets_zero():
    rng = np.random.default_rng(0)
    x, columns = rng.normal(size=(40, 2)), Columns(["a", "b"], ["numeric", "numeric"], {})
    y = np.repeat([0, 2], 20)
    for p in (downstream.after_imputation(x, y, x, columns, 3), downstream.on_raw_holes(x, y, x, columns, 3, 0)):
        assert p.shape == (40, 3) and not p[:, 1].any()
        np.testing.assert_allclose(p.sum(1), 1)
    assert downstream.after_imputation(x, np.zeros(40, int), x, columns, 3) is None
    assert downstream.on_raw_holes(x, np.zeros(40, int), x, columns, 3, 0) is None
