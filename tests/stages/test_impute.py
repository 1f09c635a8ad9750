"""`mmcli impute` from a store to a store: leakage, what is carried along, repeated and wrong requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from mmcli.errors import RequestError
from mmcli.fields import fill
from mmcli.imputers import load_imputer
from mmcli.settings import ImputeSettings
from mmcli.stages.impute import run
from mmcli.store import BagData, BagMeta, Label, Patients, Store, Stores, Table, verify, write_store
from mmcli.store.hdf5 import Rows

N, FOLDS = 60, 3


def make_markers(seed: int = 0) -> Table:
    """Four markers of every kind with holes; ten patients lack the table at all."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=N)
    values = np.stack([factor, 3 - factor + 0.5 * rng.normal(size=N), np.digitize(factor, [0.0, 1.0]),
                       rng.integers(0, 2, N)], 1).astype(float)  # fmt: skip
    observed = rng.random(values.shape) < 0.8
    observed[50:] = False
    values[~observed] = np.nan
    return Table(["afp", "crp", "grade", "sex"], ["numeric", "numeric", "ordinal", "categorical"],
                 {"grade": ["G1", "G2", "G3"], "sex": ["f", "m"]}, observed.any(1), values, observed)  # fmt: skip


def make_patients() -> Patients:
    rng = np.random.default_rng(1)
    roles = np.stack([rng.permutation(np.repeat([1, 2, 3, 0], [36, 8, 12, 4])) for _ in range(FOLDS)], 1).astype(
        np.int8
    )
    label = Label(rng.integers(-1, 2, N), ["no", "yes"])
    return Patients([f"P{i:03d}" for i in range(N)], None, {"relapse": label}, {"cv": roles})


def write(path: Path, table: Table, patients: Patients | None = None, **tables: Table) -> Path:
    ones, counts = np.ones(N, bool), np.arange(N + 1)
    bag = BagData(BagMeta("slide", "e", "w"), ones, ~ones, counts, {"features": Rows.of(np.ones((N, 4), np.float16))})
    write_store(path, {"made": path.name}, patients or make_patients(), {"markers": table, **tables}, {"slide": bag})
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "prepared.h5", make_markers(), other=make_markers(7))


def impute(source: Path, out: Path, **given: object):
    values = {"stores": [source], "out": out, "table": "markers", "method": "mice", "quiet": True, **given}
    return run(fill(ImputeSettings, values))


@pytest.mark.parametrize("method,given", [("mean", {}), ("mice", {}), ("mice", {"imputations": 3})])
def test_every_hole_is_filled_for_every_fold_and_tables_are_carried(source, tmp_path, method, given):
    out = tmp_path / "imputed.h5"
    outcome = impute(source, out, method=method, **given)
    table, m = make_markers(), int(given.get("imputations", 1))
    cells, own = int((~table.observed).sum()), table.observed[table.present]
    holes = int((~own).sum())  # the cells of patients without the table are filled too, but are no holes of it
    assert outcome.exit_code == 0 and outcome.data["holes"] == holes and f"filled {holes} holes" in outcome.message
    assert "10 patients without the table" in outcome.message
    assert [r["column"] for r in outcome.rows] == [c for c, o in zip(table.columns, own.T, strict=True) if not o.all()]
    assert [r["holes"] for r in outcome.rows] == [n for n in (~own).sum(0).tolist() if n]
    assert verify(out) == []
    with Store(out) as store:
        assert store.patients.ids == make_patients().ids and set(store.patients.labels) == {"relapse"}
        assert set(store.tables) == {"markers", "other"} and not store.bags
        assert store.imputations("markers") == {(method, "cv"): [0, 1, 2]} and store.imputations("other") == {}
        values, attributes = store.imputed("markers", method, "cv", 1)
        assert values.shape == (m, cells) and np.isfinite(values).all()
        assert attributes["imputer"] == method and attributes["seed"] == 0
        assert attributes["answer"] == ("draw" if m > 1 else "mean")
    with Stores([source, out]) as stores:
        filled = stores.filled("markers", method, "cv", 2)
        assert filled.shape == (m, N, 4) and np.isfinite(filled).all()
        assert np.array_equal(filled[:, table.observed], np.repeat(table.values[table.observed][None], m, 0))


@pytest.mark.parametrize("method,given", [("mean", {}), ("mice", {}), ("mean", {"answer": "draw"}),
                                          ("mice", {"imputations": 2})])  # fmt: skip
def test_changing_validation_and_test_patients_moves_nothing_else(tmp_path, method, given):
    """The leak test: fold 0's validation, test and unused patients get other values, holes and a missing table."""
    patients, table = make_patients(), make_markers()
    outside = np.flatnonzero(patients.folds["cv"][:, 0] != 1)[:15]
    values, observed = table.values.copy(), table.observed.copy()
    values[outside] = [1e6, -1e6, 0, 1]
    observed[outside] = True
    observed[outside[:5], 0] = False
    observed[outside[5:8]] = False
    values[~observed] = np.nan
    other = replace(table, values=values, observed=observed, present=observed.any(1))
    write(tmp_path / "a.h5", table)
    write(tmp_path / "b.h5", other)
    for name in "ab":
        impute(tmp_path / f"{name}.h5", tmp_path / f"{name}-imputed.h5", method=method, **given)
    untouched = np.setdiff1d(np.arange(N), outside)
    with Store(tmp_path / "a-imputed.h5") as a, Store(tmp_path / "b-imputed.h5") as b:
        one, two = a.fitted("markers", method, "cv", 0), b.fitted("markers", method, "cv", 0)
        assert one.keys() == two.keys() and all(one[k].tobytes() == two[k].tobytes() for k in one)
    with Stores([tmp_path / "a-imputed.h5"]) as a, Stores([tmp_path / "b-imputed.h5"]) as b:
        one, two = (s.filled("markers", method, "cv", 0)[:, untouched] for s in (a, b))
        assert one.tobytes() == two.tobytes()
        # The same change does move a fold in which some of them are training patients.
        assert (
            a.filled("markers", method, "cv", 1)[:, untouched] != b.filled("markers", method, "cv", 1)[:, untouched]
        ).any()


def test_labels_are_never_an_input(source, tmp_path):
    patients = make_patients()
    label = replace(patients.labels["relapse"], values=1 - np.abs(patients.labels["relapse"].values))
    write(tmp_path / "b.h5", make_markers(), replace(patients, labels={"relapse": label}))
    impute(source, tmp_path / "one.h5")
    impute(tmp_path / "b.h5", tmp_path / "two.h5")
    with Store(tmp_path / "one.h5") as one, Store(tmp_path / "two.h5") as two:
        for k in range(FOLDS):
            assert np.array_equal(
                one.imputed("markers", "mice", "cv", k)[0], two.imputed("markers", "mice", "cv", k)[0]
            )


def test_the_stored_imputer_fills_the_same_patients_with_the_same_bits(source, tmp_path):
    out = tmp_path / "imputed.h5"
    impute(source, out, imputations=2)
    table = make_markers()
    with Store(out) as store:
        for k in range(FOLDS):
            imputer = load_imputer(store.fitted("markers", "mice", "cv", k))
            again = imputer.transform(table.values, store.patients.ids, draws=2, answer="draw")
            assert again[:, ~table.observed].tobytes() == store.imputed("markers", "mice", "cv", k)[0].tobytes()


def test_a_second_run_does_nothing_and_another_request_is_refused(source, tmp_path):
    out = tmp_path / "imputed.h5"
    impute(source, out)
    before = out.stat()
    assert "nothing to do" in impute(source, out).message
    assert out.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(RequestError, match=r'method: "mice" there, "mean" now'):
        impute(source, out, method="mean")
    impute(source, out, method="mean", force=True)
    with Store(out) as store:
        assert store.imputations("markers") == {("mean", "cv"): [0, 1, 2]}
    other = write(tmp_path / "other.h5", make_markers(3))
    with pytest.raises(RequestError, match="inputs"):
        impute(other, out, method="mean")


def test_the_same_request_gives_the_same_content_and_the_seed_another(source, tmp_path):
    given = {"imputations": 2}
    runs = [impute(source, tmp_path / f"{i}.h5", **given) for i in range(2)]
    assert runs[0].data["content_sha256"] == runs[1].data["content_sha256"]
    impute(source, tmp_path / "2.h5", seed=1, **given)
    with Store(tmp_path / "0.h5") as one, Store(tmp_path / "2.h5") as two:
        assert (one.imputed("markers", "mice", "cv", 0)[0] != two.imputed("markers", "mice", "cv", 0)[0]).any()


def test_a_name_of_its_own_and_options(source, tmp_path):
    impute(source, tmp_path / "o.h5", name="quick", set=["rounds=1"])
    with Store(tmp_path / "o.h5") as store:
        assert list(store.imputations("markers")) == [("quick", "cv")]
        attributes = store.imputed("markers", "quick", "cv", 0)[1]
        assert attributes["imputer"] == "mice" and '"rounds":1' in attributes["settings"]


def test_dry_run_writes_nothing(source, tmp_path):
    assert "would fill" in impute(source, tmp_path / "o.h5", dry_run=True).message
    assert not (tmp_path / "o.h5").exists()


def test_a_table_without_holes_says_so_and_is_written(tmp_path):
    table = make_markers()
    whole = replace(table, values=np.nan_to_num(table.values), observed=np.ones_like(table.observed),
                    present=np.ones(N, bool))  # fmt: skip
    outcome = impute(write(tmp_path / "whole.h5", whole), tmp_path / "o.h5", imputations=2)
    assert "has no holes" in outcome.message and verify(tmp_path / "o.h5") == []
    with Stores([tmp_path / "o.h5"]) as stores:
        assert np.array_equal(stores.filled("markers", "mice", "cv", 0)[1], whole.values)


def test_a_column_that_no_training_patient_has_is_named(tmp_path):
    patients, table = make_patients(), make_markers()
    observed = table.observed.copy()
    observed[patients.folds["cv"][:, 1] == 1, 0] = False
    table = replace(table, observed=observed, values=np.where(observed, table.values, np.nan), present=observed.any(1))
    assert "training has afp: filled" in impute(write(tmp_path / "s.h5", table), tmp_path / "o.h5").message
    with Stores([tmp_path / "o.h5"]) as stores:
        assert (stores.filled("markers", "mice", "cv", 1)[0][~observed[:, 0], 0] == 0).all()


def change(table: Table, values: np.ndarray) -> Table:
    observed = ~np.isnan(values)
    return replace(table, values=values, observed=observed, present=observed.any(1))


def test_tables_that_cannot_be_imputed_are_one_clear_line(tmp_path):
    table, patients = make_markers(), make_patients()
    empty = write(tmp_path / "empty.h5", change(table, np.full((N, 4), np.nan)))
    with pytest.raises(RequestError, match="markers: no patient has an observed cell"):
        impute(empty, tmp_path / "o.h5")
    infinite = table.values.copy()
    infinite[4, 1] = np.inf
    with pytest.raises(RequestError, match="column 'crp' of patient P004 is infinite"):
        impute(write(tmp_path / "inf.h5", change(table, infinite)), tmp_path / "o.h5")
    copied = table.values.copy()
    copied[:, 3] = np.where(patients.labels["relapse"].values < 0, np.nan, 1 - patients.labels["relapse"].values)
    with pytest.raises(RequestError, match="column 'sex' is a copy of the label 'relapse'"):
        impute(write(tmp_path / "leak.h5", change(table, copied)), tmp_path / "o.h5")
    lacking = table.values.copy()
    lacking[patients.folds["cv"][:, 2] == 1] = np.nan
    with pytest.raises(
        RequestError, match="fold 2 of cv: none of its 36 training patients has a value in table markers"
    ):
        impute(write(tmp_path / "fold.h5", change(table, lacking)), tmp_path / "o.h5")
    assert not (tmp_path / "o.h5").exists()


@pytest.mark.parametrize(
    "given,message",
    [
        ({"table": "marker"}, "--table: unknown table 'marker'; did you mean 'markers'"),
        ({"method": "mcie"}, "unknown imputer 'mcie'; did you mean 'mice'"),
        ({"folds": "cw"}, r"--folds: unknown fold set 'cw' \(there are: cv\)"),
        ({"set": ["round=3"]}, "no option 'round'; did you mean 'rounds'"),
        ({"set": ["rounds=many"]}, "--set rounds=many: input should be a valid integer"),
        ({"name": "a/b"}, "--name"),
    ],
)
def test_wrong_requests_are_one_clear_line(source, tmp_path, given, message):
    with pytest.raises(RequestError, match=message) as caught:
        impute(source, tmp_path / "o.h5", **given)
    assert "\n" not in str(caught.value)


def test_an_input_is_never_the_output(source):
    with pytest.raises(RequestError, match="no command changes them"):
        impute(source, source, force=True)


def test_plain_h5py_reads_the_filled_cells(source, tmp_path):
    impute(source, tmp_path / "o.h5", method="mean")
    with h5py.File(tmp_path / "o.h5") as file:
        values, observed = file["tables/markers/values"][:], file["tables/markers/observed"][:]
        values[~observed] = file["tables/markers/imputed/mean/cv/0"][0]
        train = (file["patients/folds/cv"][:, 0] == 1) & observed[:, 0]
        np.testing.assert_allclose(values[~observed[:, 0], 0], values[train, 0].mean(), rtol=1e-12)


def test_blood_of_a_real_cohort_in_seconds(data, tmp_path):
    import time

    import pandas as pd

    folder = data / "tables/hancock"
    blood = pd.read_csv(folder / "blood.csv", dtype={"patient_id": str}).set_index("patient_id")
    ids = pd.read_csv(folder / "targets.csv", dtype=str).patient_id.tolist()
    values = blood.reindex(ids).to_numpy(float)
    rng = np.random.default_rng(0)
    hidden = (rng.random(values.shape) < 0.2) & ~np.isnan(values)
    holed = np.where(hidden, np.nan, values)
    table = Table(list(blood.columns), ["numeric"] * 16, {}, ~np.isnan(holed).all(1), holed, ~np.isnan(holed))
    roles = np.stack([np.where(rng.permutation(len(ids)) < 0.8 * len(ids), 1, 3) for _ in range(5)], 1).astype(np.int8)
    write_store(tmp_path / "s.h5", {}, Patients(ids, None, {}, {"cv": roles}), {"markers": table})
    errors, started = {}, time.process_time()
    for method in ("mean", "mice"):
        impute(tmp_path / "s.h5", tmp_path / f"{method}.h5", method=method)
        with Stores([tmp_path / f"{method}.h5"]) as stores:
            test = hidden & (roles[:, :1] == 3)
            off = (stores.filled("markers", method, "cv", 0)[0] - values) / np.nanstd(holed, 0)
            errors[method] = np.sqrt((off[test] ** 2).mean())
    assert time.process_time() - started < 20
    assert errors["mice"] < 0.75 * errors["mean"]


def test_slow_folds_that_were_finished_are_not_made_again(source, tmp_path, monkeypatch):
    from mmcli.imputers.mice import MiceImputer
    from mmcli.stages import impute as stage

    impute(source, tmp_path / "whole.h5", imputations=2)
    fit, fitted = MiceImputer._fit, []

    def stops(self, values):
        fitted.append(self.seed)
        if len(fitted) == 3:
            raise KeyboardInterrupt
        fit(self, values)

    monkeypatch.setattr(MiceImputer, "_fit", stops)
    monkeypatch.setattr(stage, "SLOW_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        impute(source, tmp_path / "o.h5", imputations=2)
    assert not (tmp_path / "o.h5").exists() and len(list((tmp_path / ".o.h5.unfinished").glob("fold-*.npz"))) == 2
    impute(source, tmp_path / "o.h5", imputations=2)
    assert len(fitted) == 4 and not (tmp_path / ".o.h5.unfinished").exists()
    with Store(tmp_path / "whole.h5") as one, Store(tmp_path / "o.h5") as two:
        assert one.content_sha256 == two.content_sha256


def test_folds_learnt_at_once_are_those_learnt_one_by_one(source, tmp_path):
    out = tmp_path / "o.h5"
    impute(source, out, method="cyclegan", set=["steps=20", "check=5", "width=8"])
    table, patients = make_markers(), make_patients()
    with Store(out) as store:
        for k in range(FOLDS):
            kept = load_imputer(store.fitted("markers", "cyclegan", "cv", k))
            alone = type(kept)(kept.settings).fit(
                table.values[patients.folds["cv"][:, k] == 1], kept.columns, seed=kept.seed
            )
            one = kept.transform(table.values, patients.ids)
            np.testing.assert_allclose(one, alone.transform(table.values, patients.ids), rtol=1e-4, atol=1e-4)
            assert one[:, ~table.observed].tobytes() == store.imputed("markers", "cyclegan", "cv", k)[0].tobytes()
