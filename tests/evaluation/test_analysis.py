"""An evaluation's tables against loops over scikit-learn and SciPy on the same drawn rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from mmcli.errors import RequestError
from mmcli.evaluation import Bootstrap, Result, evaluate
from mmcli.evaluation.analysis import Question, analyse
from mmcli.evaluation.checks import check_same_patients_and_classes
from mmcli.evaluation.estimates import Resampler, of_metrics
from mmcli.evaluation.intervals import interval
from mmcli.evaluation.multiplicity import holm
from mmcli.evaluation.predictions import Predictions
from mmcli.evaluation.resampling import Design, resample
from mmcli.evaluation.sources import as_table, load
from mmcli.evaluation.withheld import Condition
from mmcli.metrics import METRICS

Figure = pd.Series


def table(patients: range, seed: int, strength: float = 1.0, **columns: object) -> pd.DataFrame:
    y = np.array([i % 2 for i in patients])
    score = 1 / (1 + np.exp(-(np.random.default_rng(seed).normal(size=len(y)) + strength * (y - 0.5))))
    ids = [f"{i:04d}" for i in patients]
    return pd.DataFrame({"patient_id": ids, "label": np.array(["no", "yes"])[y], "p_no": 1 - score, "p_yes": score,
                         **columns})  # fmt: skip


def made(run: str, patients: range, seed: int, strength: float = 1.0, **columns: object) -> Predictions:
    (found,) = as_table(table(patients, seed, strength, **columns), Path(run), run).predictions("relapse", "test", None)
    return found


def figure(result: Result, run: str, metric: str) -> Figure:
    rows = result.metrics[(result.metrics["run"] == run) & (result.metrics["metric"] == metric)]
    assert len(rows) == 1
    return rows.iloc[0]


def compared(result: Result, metric: str, test: str) -> Figure:
    rows = result.comparisons[(result.comparisons["metric"] == metric) & (result.comparisons["test"] == test)]
    assert len(rows) == 1
    return rows.iloc[0]


def rows_drawn(n: int, bootstrap: Bootstrap) -> list[np.ndarray]:
    """The patients of each resample, from the very weights."""
    blocks = resample(Design.rows(n), bootstrap.resamples, bootstrap.seed)
    return [np.repeat(np.arange(n), w.astype(int)) for block in blocks for w in block]


def test_intervals_and_paired_differences_equal_the_loop() -> None:
    bootstrap = Bootstrap(resamples=200, confidence=0.9, seed=5, kind="percentile")
    a, b = made("a", range(50), 1, 2.0), made("b", range(50), 2, 0.5)
    result = analyse([a, b], Question(bootstrap, "b", level=0.9))
    loop: dict[str, list[list[float]]] = {"auc": [], "accuracy": []}
    for rows in rows_drawn(50, bootstrap):
        loop["auc"].append([roc_auc_score(x.y[rows], x.p[rows, 1]) for x in (a, b)])
        loop["accuracy"].append([accuracy_score(x.y[rows], x.p[rows].argmax(1)) for x in (a, b)])
    for metric, values in loop.items():
        theirs = np.array(values)
        for k, run in enumerate("ab"):
            f = figure(result, run, metric)
            np.testing.assert_allclose([f["low"], f["high"]], np.quantile(theirs[:, k], [0.05, 0.95]), atol=1e-12)
        d = compared(result, metric, "bootstrap")
        assert (d["run"], d["other"], d["n"]) == ("a", "b", 50)
        expected = np.quantile(theirs[:, 0] - theirs[:, 1], [0.05, 0.95])
        np.testing.assert_allclose([d["low"], d["high"]], expected, atol=1e-12)
        assert d["value"] == pytest.approx(figure(result, "a", metric)["value"] - figure(result, "b", metric)["value"])


def test_without_bootstrap_limits_by_formula_stay() -> None:
    result = analyse([made("a", range(40), 1)], Question())
    assert result.metrics["low"].isna().all()
    assert list(result.metrics.dropna(subset="analytic")["metric"]) == ["auc", "accuracy", "balanced_accuracy",
        "sensitivity", "specificity", "precision", "npv"]  # fmt: skip
    f = figure(result, "a", "accuracy")
    theirs = stats.binomtest(round(f["value"] * 40), 40).proportion_ci(0.95, "wilson")
    np.testing.assert_allclose([f["analytic_low"], f["analytic_high"]], [theirs.low, theirs.high], atol=1e-12)
    assert len(result.comparisons) == 0


def test_a_run_with_other_patients_sees_its_columns_of_the_shared_draw() -> None:
    """Runs on 0..39 and 20..59: drawn over 0..59; the difference is on 20..39, paired."""
    bootstrap = Bootstrap(resamples=150, confidence=0.9, seed=2, kind="percentile")
    a, b = made("a", range(40), 1, 2.0), made("b", range(20, 60), 2, 1.0)
    result = analyse([a, b], Question(bootstrap, "b"))
    own, difference = [], []
    for rows in rows_drawn(60, bootstrap):
        mine = rows[rows < 40]
        own.append(accuracy_score(a.y[mine], a.p[mine].argmax(1)))
        both = rows[(rows >= 20) & (rows < 40)]
        right_a = a.p[both].argmax(1) == a.y[both]
        right_b = b.p[both - 20].argmax(1) == b.y[both - 20]
        difference.append(right_a.mean() - right_b.mean())
    f, d = figure(result, "a", "accuracy"), compared(result, "accuracy", "bootstrap")
    assert (f["n"], d["n"]) == (40, 20)
    np.testing.assert_allclose([f["low"], f["high"]], np.quantile(own, [0.05, 0.95]), atol=1e-12)
    np.testing.assert_allclose([d["low"], d["high"]], np.quantile(difference, [0.05, 0.95]), atol=1e-12)


def test_a_run_against_itself_differs_by_nothing() -> None:
    a = made("a", range(30), 1)
    result = analyse([a, replace(a, run="twin")], Question(Bootstrap(50), "a"))
    drawn = result.comparisons[result.comparisons["test"] == "bootstrap"]
    assert (drawn[["value", "low", "high"]].to_numpy() == 0).all()
    assert (drawn["p"] == 1).all()
    assert compared(result, "accuracy", "mcnemar_exact")["p"] == 1


def test_every_pair_without_a_reference_and_p_adjusted_over_the_pairs() -> None:
    group = [made(name, range(80), k, s) for k, (name, s) in enumerate([("a", 0.2), ("b", 1.5), ("c", 3.0)])]
    result = analyse(group, Question(Bootstrap(300, seed=1)))
    rows = result.comparisons[(result.comparisons["metric"] == "auc") & (result.comparisons["test"] == "delong")]
    assert list(zip(rows["run"], rows["other"], strict=True)) == [("b", "a"), ("c", "a"), ("c", "b")]
    np.testing.assert_allclose(rows["p_holm"], holm(rows["p"].to_numpy(dtype=float)))
    np.testing.assert_allclose(rows["p_bh"].to_numpy(dtype=float),
                               stats.false_discovery_control(rows["p"].to_numpy(dtype=float)))  # fmt: skip


def test_undefined_resamples_are_counted_and_told() -> None:
    """Of 3 patients one is positive: a resample without it, or with it alone, has no AUC."""
    a = made("a", range(3), 1)
    bootstrap = Bootstrap(resamples=400, seed=0)
    result = analyse([a], Question(bootstrap))
    expected = sum(len(set(a.y[rows])) < 2 for rows in rows_drawn(3, bootstrap))
    assert figure(result, "a", "auc")["undefined"] == expected > 0
    assert figure(result, "a", "accuracy")["undefined"] == 0
    assert any("resamples a metric was undefined" in line for line in result.notes)


def test_bca_of_a_perfect_run_falls_back_openly() -> None:
    y = np.arange(30) % 2
    perfect = pd.DataFrame({"patient_id": [f"{i}" for i in range(30)], "label": np.array(["no", "yes"])[y],
                            "p_no": 0.9 - 0.8 * y, "p_yes": 0.1 + 0.8 * y})  # fmt: skip
    result = evaluate({"perfect": perfect}, bootstrap=Bootstrap(100, kind="bca"))
    f = figure(result, "perfect", "auc")
    assert (f["value"], f["low"], f["high"], f["interval"]) == (1, 1, 1, "percentile")
    assert any(line.startswith("No bca interval could be made for auc") for line in result.notes)


def test_auto_takes_the_formula_where_it_holds_better() -> None:
    a = table(range(60), 3, 1.5, site=[f"s{i // 4}" for i in range(60)])
    auto, expanded = (evaluate({"a": a}, bootstrap=Bootstrap(200, kind=kind)) for kind in ("auto", "expanded"))
    kinds = dict(zip(auto.metrics["metric"], auto.metrics["interval"], strict=True))
    proportions = ("accuracy", "sensitivity", "specificity", "precision", "npv")
    assert {m: kinds[m] for m in proportions} == dict.fromkeys(proportions, "wilson")
    assert kinds["balanced_accuracy"] == "mover"
    assert kinds["auc"] == kinds["brier"] == "expanded"
    for metric in ("accuracy", "balanced_accuracy"):
        f = figure(auto, "a", metric)
        assert (f["low"], f["high"]) == (f["analytic_low"], f["analytic_high"])
    auc = ["value", "low", "high", "interval", "undefined"]
    assert figure(auto, "a", "auc")[auc].to_list() == figure(expanded, "a", "auc")[auc].to_list()
    clustered = evaluate({"a": a}, bootstrap=Bootstrap(200, cluster="site"))
    assert set(clustered.metrics["interval"]) <= {"expanded", "percentile"}


def test_bca_is_scipys(monkeypatch: pytest.MonkeyPatch) -> None:
    a = made("a", range(40), 3, 1.0)
    bootstrap = Bootstrap(resamples=500, confidence=0.9, seed=7, kind="bca")
    result = analyse([a], Question(bootstrap))
    drawn = np.array(rows_drawn(40, bootstrap))
    monkeypatch.setattr("scipy.stats._resampling.rng_integers", lambda *_, **__: drawn)
    theirs = stats.bootstrap(
        (np.arange(40),), lambda i: accuracy_score(a.y[i], a.p[i].argmax(1)), n_resamples=500, vectorized=False,
        confidence_level=0.9, method="BCa",
    ).confidence_interval  # fmt: skip
    f = figure(result, "a", "accuracy")
    np.testing.assert_allclose([f["low"], f["high"]], [theirs.low, theirs.high], atol=1e-12)


def test_mean_and_sd_are_over_the_parts_in_which_the_metric_is_defined() -> None:
    folds = [0] * 5 + [1] * 6 + [2]
    (a,) = as_table(table(range(12), 1, fold=folds), Path("a"), "a").predictions("relapse", "test", None)
    assert [p.name for p in a.parts] == ["fold-0", "fold-1", "fold-2"]
    f = figure(analyse([a], Question()), "a", "auc")
    aucs = [roc_auc_score(p.y, p.p[:, 1]) for p in a.parts[:2]]
    assert f["parts"] == 2
    assert f["mean"] == pytest.approx(np.mean(aucs))
    assert f["sd"] == pytest.approx(np.std(aucs, ddof=1))
    assert figure(analyse([a], Question()), "a", "accuracy")["parts"] == 3


def test_tests_over_folds_average_the_seeds_of_a_fold() -> None:
    """Nadeau and Bengio's t by hand, on the folds' differences of two seeds each."""
    frames = []
    for run, (fold, seed) in itertools.product("ab", itertools.product(range(4), range(2))):
        test = [i for i in range(48) if i // 2 % 4 == fold]
        part = table(range(48), 100 * fold + 10 * seed + ord(run), 1.5 if run == "a" else 0.5)
        part["split"] = ["test" if i in test else "train" for i in range(48)]
        frames.append(part.assign(run=run, fold=fold, seed=seed))
    whole = pd.concat(frames)
    result = evaluate({r: whole[whole["run"] == r].drop(columns="run") for r in "ab"}, reference="b")
    d = []
    for fold in range(4):
        own = whole[(whole["fold"] == fold) & (whole["split"] == "test")]
        each = own.groupby(["run", "seed"])[["label", "p_yes"]].apply(
            lambda f: roc_auc_score(f["label"] == "yes", f["p_yes"])
        )
        d.append(each["a"].mean() - each["b"].mean())
    t = np.mean(d) / np.sqrt((1 / 4 + 12 / 36) * np.var(d, ddof=1))
    row = compared(result, "auc", "corrected_t")
    assert row["n"] == 4
    assert row["statistic"] == pytest.approx(t, abs=1e-12)
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(t), 3), abs=1e-12)
    assert compared(result, "auc", "wilcoxon")["p"] == pytest.approx(stats.wilcoxon(d).pvalue, abs=1e-12)


def test_folds_with_the_same_test_patients_have_no_test_over_folds() -> None:
    """Five draws of who validates before one published test: the same patients, tested again."""
    frames = {}
    for run, strength in (("a", 1.5), ("b", 0.5)):
        parts = [table(range(48), 100 * fold + ord(run), strength).assign(fold=fold) for fold in range(5)]
        frames[run] = pd.concat([part.assign(split=["test"] * 24 + ["train"] * 24) for part in parts])
    found = evaluate(frames, reference="b").comparisons
    assert "bootstrap" in set(found["test"]) and not {"corrected_t", "wilcoxon"} & set(found["test"])


def test_a_threshold_is_found_on_validation_and_pooled_decisions_use_it() -> None:
    part = table(range(60), 4, 2.0, split=["validation"] * 30 + ["test"] * 30)
    result = evaluate({"a": part}, threshold="youden")
    from sklearn.metrics import roc_curve

    own = part[part["split"] == "validation"]
    false, true, at = roc_curve(own["label"] == "yes", own["p_yes"], drop_intermediate=False)
    best = at[np.argmax(true - false)]
    test = part[part["split"] == "test"]
    theirs = balanced_accuracy_score(test["label"] == "yes", test["p_yes"] >= best)
    assert figure(result, "a", "balanced_accuracy")["value"] == pytest.approx(theirs, abs=1e-12)
    argmax = evaluate({"a": part})
    assert figure(result, "a", "auc")["value"] == figure(argmax, "a", "auc")["value"]
    assert figure(result, "a", "balanced_accuracy")["value"] != figure(argmax, "a", "balanced_accuracy")["value"]
    with pytest.raises(RequestError, match=r"--threshold youden: a has no labelled validation patients"):
        evaluate({"a": test.drop(columns="split")}, threshold="youden")


def test_subgroups_are_the_patients_and_the_worst_is_named() -> None:
    a = table(range(80), 5, 1.0, sex=["f", "m", "m", "f"] * 20, age=np.arange(80))
    result = evaluate({"a": a}, by=["sex", "age"], cut={"age": "20,60"}, bootstrap=Bootstrap(100))
    rows = result.subgroups[result.subgroups["metric"] == "auc"].set_index(["by", "subgroup"])
    assert list(rows.index) == [("sex", "f"), ("sex", "m"), ("age", "< 20"), ("age", "20 to < 60"), ("age", ">= 60")]
    for (by, name), row in rows.iterrows():
        lower, upper = {"< 20": (0, 20), "20 to < 60": (20, 60), ">= 60": (60, 99)}.get(name, (0, 99))
        own = a[(a["sex"] == name) if by == "sex" else (a["age"] >= lower) & (a["age"] < upper)]
        assert row["n"] == len(own)
        assert row["value"] == pytest.approx(roc_auc_score(own["label"] == "yes", own["p_yes"]), abs=1e-12)
        assert row["low"] <= row["value"] <= row["high"]
    assert rows.loc["age", "value"].idxmin() == rows.loc["age"].query("worst").index[0]
    assert rows["worst"].sum() == 2
    with pytest.raises(RequestError, match=r"--by: no column 'sx'; did you mean 'sex'"):
        evaluate({"a": a}, by=["sx"])


def test_clusters_are_drawn_whole_and_formulas_know_them() -> None:
    """Twice the same rows under one patient are one patient's worth of information."""
    a = table(range(60), 6, 1.0)
    twice = pd.concat([a.assign(row="1"), a.assign(row="2")])
    bootstrap = Bootstrap(300, seed=3, kind="percentile")
    one, two = evaluate({"a": a}, bootstrap=bootstrap), evaluate({"a": twice}, bootstrap=bootstrap)
    for metric in ("auc", "accuracy", "brier"):
        f, g = figure(one, "a", metric), figure(two, "a", metric)
        assert g["n"] == 2 * f["n"]
        for column in ("value", "low", "high"):
            assert g[column] == pytest.approx(f[column], abs=1e-12)
    assert pd.isna(figure(two, "a", "accuracy")["analytic"])
    site = [f"s{i // 10}" for i in range(60)]
    by_site = evaluate({"a": a.assign(site=site)}, bootstrap=replace(bootstrap, cluster="site"))
    assert figure(by_site, "a", "auc")["low"] != figure(one, "a", "auc")["low"]
    with pytest.raises(RequestError, match="has rows of several classes"):
        evaluate({"a": a.assign(site=site)}, bootstrap=replace(bootstrap, cluster="site", stratify=True))


def test_intervals_cover_the_spread_of_imputations() -> None:
    """The interval is that of resamples with one imputation each, drawn at random; it is wider than one's own."""
    drawn = pd.concat([table(range(60), seed, 1.0, draw=seed) for seed in range(5)])
    bootstrap = Bootstrap(400, seed=1, kind="percentile")
    result = evaluate({"a": drawn}, bootstrap=bootstrap)
    (p,) = result.predictions
    assert p.draws is not None
    assert p.draws.shape == (5, 60, 2)
    aucs = [roc_auc_score(p.y, d[:, 1]) for d in p.draws]
    f = figure(result, "a", "auc")
    assert f["value"] == pytest.approx(np.mean(aucs), abs=1e-12)
    which = np.random.default_rng([1, 1]).integers(5, size=400)
    values = [roc_auc_score(p.y[rows], p.draws[d, rows, 1])
              for rows, d in zip(rows_drawn(60, bootstrap), which, strict=True)]  # fmt: skip
    expected = interval("percentile", f["value"], np.array(values), None, 0.95)
    np.testing.assert_allclose([f["low"], f["high"]], [expected.low, expected.high], atol=1e-12)
    one = evaluate({"a": table(range(60), 0, 1.0)}, bootstrap=bootstrap)
    assert f["high"] - f["low"] > figure(one, "a", "auc")["high"] - figure(one, "a", "auc")["low"]
    assert f["analytic_high"] - f["analytic_low"] > np.ptp(figure(one, "a", "auc")[["analytic_low", "analytic_high"]])


def test_withheld_is_the_mean_over_the_seeds() -> None:
    base, one, two = (made("a", range(50), seed, s) for seed, s in [(1, 2.0), (2, 1.0), (3, 0.5)])
    conditions = [Condition("ct", 0.0, 0, [base]), Condition("ct", 0.5, 0, [one]), Condition("ct", 0.5, 1, [two])]
    result = analyse([base], Question(Bootstrap(100)), conditions)
    rows = result.withheld[result.withheld["metric"] == "auc"].set_index("share")
    aucs = [roc_auc_score(p.y, p.p[:, 1]) for p in (one, two)]
    assert rows.loc[0.5, "value"] == pytest.approx(np.mean(aucs))
    assert rows.loc[0.5, "sd_seeds"] == pytest.approx(np.std(aucs, ddof=1))
    assert list(rows["seeds"]) == [1, 2]
    assert rows.loc[0.0, "value"] == figure(result, "a", "auc")["value"]
    assert rows.loc[0.0, "low"] == figure(result, "a", "auc")["low"]


def test_prediction_sets_hold_the_promised_share() -> None:
    """Exchangeable validation and test patients: coverage over many cohorts is at least the level, and hardly more."""
    covered = []
    for seed in range(30):
        part = table(range(400), seed, 1.0, split=["validation", "validation", "test", "test"] * 100)
        rows = evaluate({"a": part}, coverage=0.8).conformal
        assert list(rows["by"]) == [""]
        covered.append(float(rows["coverage"].iloc[0]))
    error = np.std(covered) / np.sqrt(len(covered))
    assert 0.8 - 3 * error < np.mean(covered) < 0.8 + 1 / 201 + 3 * error
    assert len(evaluate({"a": table(range(40), 1)}).conformal) == 0


def test_classes_of_more_than_two_are_told_one_by_one() -> None:
    generator = np.random.default_rng(0)
    y = generator.integers(3, size=90)
    p = generator.dirichlet(np.ones(3), size=90) * 0.5 + 0.5 * np.eye(3)[y] * generator.random((90, 1))
    p /= p.sum(1, keepdims=True)
    frame = pd.DataFrame({"patient_id": np.arange(90).astype(str), "label": np.array(list("abc"))[y],
                          **{f"p_{c}": p[:, k] for k, c in enumerate("abc")}})  # fmt: skip
    result = evaluate({"m": frame}, bootstrap=Bootstrap(50))
    rows = result.classes[result.classes["metric"] == "auc"]
    assert list(rows["class"]) == list("abc")
    np.testing.assert_allclose(rows["value"], [roc_auc_score(y == k, p[:, k]) for k in range(3)], atol=1e-12)
    assert (rows["analytic_low"] < rows["value"]).all()
    found = result.classes[result.classes["metric"] == "sensitivity"]
    for k, (_, row) in enumerate(found.iterrows()):
        own = y == k
        theirs = stats.binomtest(int((p[own].argmax(1) == k).sum()), int(own.sum())).proportion_ci(0.95, "wilson")
        assert row["interval"] == row["analytic"] == "wilson"
        np.testing.assert_allclose([row["low"], row["high"]], [theirs.low, theirs.high], atol=1e-12)
    assert figure(result, "m", "auc")["value"] == pytest.approx(roc_auc_score(y, p, multi_class="ovr"), abs=1e-12)


def test_ordinal_tasks_have_their_own_metrics() -> None:
    frame = table(range(40), 1).rename(columns={"p_no": "p_a", "p_yes": "p_b"}).replace({"no": "a", "yes": "b"})
    three = frame.assign(p_c=0.0)
    assert "kappa_quadratic" in set(evaluate({"m": three}, ordinal=True).metrics["metric"])
    assert "kappa_quadratic" not in set(evaluate({"m": three}).metrics["metric"])


def test_large_cohorts_come_in_bounded_blocks() -> None:
    a = made("a", range(3000), 1)
    blocks = [w.nbytes for w in Resampler.over([a], Bootstrap(2000)).weights(a)]
    assert max(blocks) <= 17 << 20
    sample = Resampler.over([a], Bootstrap(20)).sample([a], of_metrics([METRICS.get("auc")]))
    assert sample.drawn is not None
    assert sample.drawn.shape == (1, 1, 20)


def test_runs_that_mean_different_things_are_refused(write_run: Callable[..., Path], tmp_path: Path) -> None:
    found, _ = load([write_run(tmp_path / "a")], [], "test", False)
    other = replace(found[0], run="b", y=1 - found[0].y)
    with pytest.raises(RequestError, match=r"cannot be compared: patient '000' is '\w+' in one and '\w+' in the other"):
        check_same_patients_and_classes([found[0], other])
