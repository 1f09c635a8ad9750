"""`mmcli impute NEW.h5 --fitted IMPUTED.h5`: new patients, other column orders and codes, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmcli.errors import RequestError
from mmcli.fields import fill
from mmcli.imputers import load_imputer
from mmcli.settings import ImputeSettings
from mmcli.stages.impute import run
from mmcli.store import Patients, Store, Stores, Table, verify, write_store

N = 60
KINDS = ["numeric", "numeric", "ordinal", "categorical"]
COLUMNS = ["afp", "crp", "grade", "sex"]
CATEGORIES = {"grade": ["G1", "G2", "G3"], "sex": ["f", "m"]}


def markers(n: int = N, seed: int = 0, **changed) -> Table:
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=n)
    values = np.stack([factor, 3 - factor, np.digitize(factor, [0.0, 1.0]), rng.integers(0, 2, n)], 1).astype(float)
    observed = rng.random(values.shape) < 0.75
    values[~observed] = np.nan
    table = Table(COLUMNS, KINDS, CATEGORIES, observed.any(1), values, observed, {"afp": "ng/ml"})
    return replace(table, **changed)


def with_values(table: Table, values) -> Table:
    observed = ~np.isnan(values)
    return replace(table, values=values, observed=observed, present=observed.any(1))


@pytest.fixture
def trained(tmp_path):
    roles = np.stack([np.random.default_rng(k).permutation(np.repeat([1, 3], [45, 15])) for k in range(3)], 1)
    patients = Patients([f"P{i:03}" for i in range(N)], None, {}, {"cv": roles.astype(np.int8)})
    write_store(tmp_path / "prepared.h5", {}, patients, {"markers": markers()})
    return tmp_path / "prepared.h5"


def impute(source, out, **given):
    how = {} if "fitted" in given else {"method": "mice"}
    values = {"stores": [source], "out": out, "table": "markers", "quiet": True, **how, **given}
    return run(fill(ImputeSettings, values))


def new_store(path, table: Table, prefix: str = "Q"):
    write_store(path, {}, Patients([f"{prefix}{i:03}" for i in range(len(table.present))]), {"markers": table})
    return path


@pytest.mark.parametrize("given", [{"method": "mean"}, {"method": "mice"}, {"imputations": 3}, {"answer": "median"},
                                   {"method": "copula", "answer": "draw"}])  # fmt: skip
def test_the_same_patients_get_the_same_bits_without_folds(trained, tmp_path, given):
    impute(trained, tmp_path / "i.h5", name="mine", **given)
    again = new_store(tmp_path / "same.h5", markers(), "P")
    outcome = impute(again, tmp_path / "n.h5", fitted=tmp_path / "i.h5")
    assert outcome.exit_code == 0 and verify(tmp_path / "n.h5") == [] and outcome.data["notes"] == []
    with Store(tmp_path / "i.h5") as one, Store(tmp_path / "n.h5") as two:
        assert two.imputations("markers") == {("mine", "cv"): [0, 1, 2]} and not two.patients.folds
        for k in range(3):
            (a, about), (b, told) = one.imputed("markers", "mine", "cv", k), two.imputed("markers", "mine", "cv", k)
            assert a.tobytes() == b.tobytes()
            assert told["fitted_in"] == one.content_sha256 and told["imputer"] == about["imputer"]
            assert told["answer"] == about["answer"] and told["seed"] == about["seed"]
            fitted = one.fitted("markers", "mine", "cv", k)
            assert {n: v.tobytes() for n, v in two.fitted("markers", "mine", "cv", k).items()} == {
                n: v.tobytes() for n, v in fitted.items()
            }
    with Stores([again, tmp_path / "n.h5"]) as joined:
        assert np.isfinite(joined.filled("markers", "mine", "cv", 2)).all()


def test_columns_and_categories_are_found_by_name(trained, tmp_path):
    """Columns in another order, one more, other codes, a category that training lacks."""
    impute(trained, tmp_path / "i.h5")
    table = markers(25, seed=5)
    sex = np.array([2.0, 0.0])[np.nan_to_num(table.values[:, 3]).astype(int)]  # x, y, m and f in another order
    sex = np.where(table.observed[:, 3], sex, np.nan)
    sex[7] = 1.0
    values = np.stack([sex, np.arange(25.0), *table.values[:, [2, 1, 0]].T], 1)
    other = Table(["sex", "shoe", "grade", "crp", "afp"], ["categorical", "numeric", "ordinal", "numeric", "numeric"],
                  {"sex": ["m", "unknown", "f"], "grade": CATEGORIES["grade"]}, np.ones(25, bool), values,
                  ~np.isnan(values))  # fmt: skip
    outcome = impute(new_store(tmp_path / "new.h5", other), tmp_path / "n.h5", fitted=tmp_path / "i.h5")
    assert "column sex: unknown was not in training, so that 1 cell counts as not observed" in outcome.message
    assert "columns shoe" in outcome.message
    plain = table.values.copy()
    plain[7, 3] = np.nan
    with Store(tmp_path / "n.h5") as store, Store(tmp_path / "i.h5") as source:
        told = store.tables["markers"]
        assert told.columns == COLUMNS and told.categories == CATEGORIES
        np.testing.assert_array_equal(told.values, plain)
        imputer = load_imputer(source.fitted("markers", "mice", "cv", 1))
        expected = imputer.transform(plain, store.patients.ids)[:, np.isnan(plain)]
        assert store.imputed("markers", "mice", "cv", 1)[0].tobytes() == expected.tobytes()


def test_a_column_that_no_new_patient_has_may_be_of_any_kind(trained, tmp_path):
    impute(trained, tmp_path / "i.h5")
    table = markers(8, seed=5)
    values = table.values.copy()
    values[:, 3] = np.nan
    table = replace(with_values(table, values), kinds=["numeric", "numeric", "ordinal", "numeric"],
                    categories={"grade": CATEGORIES["grade"]})  # fmt: skip
    impute(new_store(tmp_path / "new.h5", table), tmp_path / "n.h5", fitted=tmp_path / "i.h5")
    with Store(tmp_path / "n.h5") as store:
        filled = store.imputed("markers", "mice", "cv", 0)[0]
        assert np.isfinite(filled).all() and store.tables["markers"].kinds == KINDS


def test_draws_and_answers_as_fitted_or_fewer(trained, tmp_path):
    impute(trained, tmp_path / "i.h5", imputations=4)
    new = new_store(tmp_path / "new.h5", markers(9, seed=5))
    given = {"fitted": tmp_path / "i.h5"}
    cases = [("a", {}, 4, "draw"), ("b", {"imputations": 2}, 2, "draw"), ("c", {"answer": "mean"}, 1, "mean"),
             ("d", {"answer": "draw"}, 4, "draw")]  # fmt: skip
    for name, more, m, answer in cases:
        impute(new, tmp_path / f"{name}.h5", **given, **more)
        with Store(tmp_path / f"{name}.h5") as store:
            values, about = store.imputed("markers", "mice", "cv", 0)
            assert len(values) == m and about["answer"] == answer
    with pytest.raises(RequestError, match="were fitted for 4 draws, not 5; make it again with --imputations 5"):
        impute(new, tmp_path / "e.h5", **given, imputations=5)


def test_a_second_run_does_nothing_and_other_imputers_are_another_request(trained, tmp_path):
    impute(trained, tmp_path / "i.h5")
    impute(trained, tmp_path / "j.h5", seed=1, imputations=2)
    new, out = new_store(tmp_path / "new.h5", markers(9, seed=5)), tmp_path / "n.h5"
    assert "would fill" in impute(new, out, fitted=tmp_path / "i.h5", dry_run=True).message and not out.exists()
    impute(new, out, fitted=tmp_path / "i.h5")
    before = out.read_bytes()
    assert "nothing to do" in impute(new, out, fitted=tmp_path / "i.h5").message and out.read_bytes() == before
    with pytest.raises(RequestError, match=r"fitted: .* there"):
        impute(new, out, fitted=tmp_path / "j.h5")
    impute(new, out, fitted=tmp_path / "j.h5", force=True)
    with pytest.raises(RequestError, match="one of the files that are read"):
        impute(new, tmp_path / "j.h5", fitted=tmp_path / "j.h5", force=True)


@pytest.mark.parametrize(
    "given,message",
    [
        ({"method": "mean"}, "--method mean: the imputers there are mice; leave the option out"),
        ({"set": ["rounds=3"]}, "--set rounds=3: 2 there"),
        ({"set": ["nope=3"]}, "imputer mice has no option 'nope'"),
        ({"seed": 7}, "--seed 7: the imputers there were fitted with 0"),
        ({"allow_label_column": True}, "--allow-label-column: the imputers there saw no label"),
        ({"folds": "other"}, r"has no imputation --folds other of markers \(there are: mice for cv\)"),
        ({"name": "mine"}, "has no imputation --name mine"),
        ({"imputations": 2}, "were fitted for no draws, not 2"),
        ({"table": "marker"}, "has no table 'marker'; did you mean 'markers'"),
        ({"benchmark": True}, "--benchmark fits every method itself: leave out --fitted"),
    ],
)
def test_what_belongs_to_fitting_is_refused(trained, tmp_path, given, message):
    impute(trained, tmp_path / "i.h5")
    new = new_store(tmp_path / "new.h5", markers(9, seed=5))
    same = {"method": "mice", "set": ["rounds=2"], "seed": 0, "folds": "cv", "name": "mice"}
    with pytest.raises(RequestError, match=message) as caught:
        impute(new, tmp_path / "n.h5", fitted=tmp_path / "i.h5", **given)
    assert "\n" not in str(caught.value) and not (tmp_path / "n.h5").exists()
    impute(new, tmp_path / "n.h5", fitted=tmp_path / "i.h5", **same)


def test_tables_that_do_not_fit_are_one_clear_line(trained, tmp_path):
    impute(trained, tmp_path / "i.h5")
    table = markers(9, seed=5)
    order = {"grade": ["G3", "G2", "G1"], "sex": ["f", "m"]}
    infinite = table.values.copy()
    infinite[2, 0] = np.inf
    wrong = [
        (replace(table, columns=["afp", "crp", "grade", "gender"], categories={**CATEGORIES, "gender": ["f", "m"]}),
         "lacks the column 'sex'"),
        (replace(table, kinds=["numeric", "numeric", "ordinal", "numeric"]), "'sex' of table markers is numeric"),
        (replace(table, categories=order), "has the order G3, G2, G1, .* was fitted with G1, G2, G3"),
        (replace(table, units={"afp": "U/l"}), "is in U/l, .* was fitted with ng/ml"),
        (with_values(table, infinite), "column 'afp' of patient Q002 is infinite"),
    ]  # fmt: skip
    for i, (bad, message) in enumerate(wrong):
        new = new_store(tmp_path / f"{i}.h5", bad)
        with pytest.raises(RequestError, match=message) as caught:
            impute(new, tmp_path / "n.h5", fitted=tmp_path / "i.h5")
        assert "\n" not in str(caught.value)
    with pytest.raises(RequestError, match="nothing is imputed in table markers"):
        impute(trained, tmp_path / "n.h5", fitted=trained)


def test_several_imputations_in_one_store_must_be_told_apart(trained, tmp_path):
    from mmcli.store import Imputation

    impute(trained, tmp_path / "i.h5")
    with Store(tmp_path / "i.h5") as source:
        made = []
        for name in ("one", "two"):
            values, about = source.imputed("markers", "mice", "cv", 0)
            about.pop("sha256")
            made.append(Imputation("markers", name, "cv", 0, values, about, source.fitted("markers", "mice", "cv", 0)))
        write_store(tmp_path / "both.h5", {}, source.patients, source.tables, imputations=made)
    new = new_store(tmp_path / "new.h5", markers(9, seed=5))
    with pytest.raises(RequestError, match=r"several imputations of markers \(one for cv, two for cv\): choose"):
        impute(new, tmp_path / "n.h5", fitted=tmp_path / "both.h5")
    assert impute(new, tmp_path / "n.h5", fitted=tmp_path / "both.h5", name="two").data["name"] == "two"
    write_store(tmp_path / "bare.h5", {}, Patients([f"P{i:03}" for i in range(N)]), {"markers": markers()},
                imputations=[replace(made[0], fitted={})])  # fmt: skip
    with pytest.raises(RequestError, match="fold 0 of one carries no fitted imputer"):
        impute(new, tmp_path / "m.h5", fitted=tmp_path / "bare.h5")


def test_new_patients_without_holes_say_so(trained, tmp_path):
    impute(trained, tmp_path / "i.h5")
    whole = with_values(markers(9, seed=5), np.nan_to_num(markers(9, seed=5).values))
    outcome = impute(new_store(tmp_path / "new.h5", whole), tmp_path / "n.h5", fitted=tmp_path / "i.h5")
    assert "has no holes" in outcome.message and verify(tmp_path / "n.h5") == []
