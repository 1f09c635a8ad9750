"""What a run's parts and a store's imputers were fitted on, and what chose their epochs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save

from mmcli.evaluation.audit import folds, imputers, scalers, selection
from mmcli.evaluation.audit.report import Report
from mmcli.evaluation.audit.subject import AuditedRun, Subject
from mmcli.imputers import make_imputer
from mmcli.imputers.imputer import Columns
from mmcli.methods import METHODS
from mmcli.settings import ImputeSettings, TeacherSettings
from mmcli.stages import impute, teacher
from mmcli.store import Imputation, Store, Stores, write_store

PART = "cv-1-seed-0"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, write_made_store: Callable[..., Path]) -> Path:
    """s.h5 (60 patients, a bag, a table with holes and a category), imputed.h5, and the run `run` of both."""
    folder = tmp_path_factory.mktemp("audited")
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    table = rng.normal(size=(60, 4)) + y[:, None]
    table[:, 3] = rng.integers(0, 3, 60)
    table[rng.random(table.shape) < 0.2] = np.nan
    slides = [rng.normal(size=(3, 5)) + y[i] if i % 6 else None for i in range(60)]
    names = {"c3": ["a", "b", "c"]}
    write_made_store(folder / "s.h5", {"y": y}, {"slide": slides}, {"t": table}, categories=names)
    imputer = {"stores": [folder / "s.h5"], "table": "t", "quiet": True}
    impute.run(ImputeSettings(**imputer, out=folder / "imputed.h5", method="mice", imputations=2))
    quick = {"epochs": "8", "patience": "3", "width": "4"}
    given = {"stores": [folder / "s.h5", folder / "imputed.h5"], "set": quick, "quiet": True, "imputer": "mice"}
    teacher.run(TeacherSettings(**given, out=folder / "run", withhold={"slide": "0.2"}))
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """The run, to be tampered with."""
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


@contextmanager
def audited(trained: Path, run: Path) -> Iterator[Subject]:
    with Stores([trained / "s.h5", trained / "imputed.h5"]) as stores:
        about = json.loads((run / "run.json").read_text())
        yield Subject(stores, ["y"], ["cv"], [AuditedRun(run, about, {}, stores)], METHODS, quiet=True)


def told(check: Callable[[Subject], Report], trained: Path, run: Path) -> list[str]:
    with audited(trained, run) as subject:
        report = check(subject)
    assert all(f.severity == "finding" for f in report.findings)
    return [f"{f.where}: {f.what}" for f in report.findings]


@pytest.mark.parametrize("check", [scalers.check, selection.check, folds.check, imputers.check])
def test_a_run_as_it_came_is_clean(check: Callable[[Subject], Report], trained: Path) -> None:
    with audited(trained, trained / "run") as subject:
        report = check(subject)
    assert report.findings == [] and report.checked


@pytest.mark.parametrize(
    ("members", "whose"),
    [((1, 2), "training and validation patients"), ((1, 3), "training and test patients"),
     ((1, 2, 3), "training, validation and test patients"), ((3,), "test patients alone")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["bag.slide", "table.t"])
def test_a_scaler_that_saw_more(trained: Path, copy: Path, members: tuple[int, ...], whose: str, name: str) -> None:
    """The mean and spread of more patients, computed here from the store's own arrays."""
    path = copy / PART / "scalers.safetensors"
    arrays = load_file(path)
    with audited(trained, copy) as subject:
        roles = subject.runs[0].roles(1)
        rows = np.flatnonzero(np.isin(roles, members))
        if name == "bag.slide":
            from mmcli.training.withhold import withheld

            hidden = withheld(subject.ids, "slide", 0.2, 0)
            x = np.concatenate([subject.stores.bag("slide").rows("features", i) for i in rows if not hidden[i]])
            arrays |= {f"{name}.mean": x.mean(0), f"{name}.scale": 1 / x.std(0)}
        else:
            t = subject.stores.tables["t"]
            x = t.values[rows]
            shares = [np.nanmean(x[:, 3][~np.isnan(x[:, 3])] == k) for k in range(3)]
            arrays |= {f"{name}.mean": np.array([*np.nanmean(x[:, :3], 0), *shares]),
                       f"{name}.scale": np.array([*1 / np.nanstd(x[:, :3], 0), 1, 1, 1])}  # fmt: skip
    path.write_bytes(save(arrays))
    found = told(scalers.check, trained, copy)
    assert len(found) == 1 and PART in found[0] and found[0].endswith(f"it comes out from {whose}")


def test_a_scaler_from_nowhere(trained: Path, copy: Path) -> None:
    path = copy / PART / "scalers.safetensors"
    arrays = load_file(path)
    arrays["bag.slide.mean"][0] += 0.01
    path.write_bytes(save(arrays))
    assert "it comes out from no set" in told(scalers.check, trained, copy)[0]


@pytest.mark.parametrize("method", ["mean", "mice"])
@pytest.mark.parametrize(
    ("members", "severity", "whose"),
    [((1,), None, ""), ((1, 3), "finding", "training and test patients"),
     ((0, 1, 2, 3), "finding", "training, validation and test patients")],
)  # fmt: skip
def test_an_imputer_that_saw_more(
    trained: Path, tmp_path: Path, method: str, members: tuple[int, ...], severity: str | None, whose: str
) -> None:
    path = planted(trained, tmp_path, method, members, lambda state: state)
    with Stores([path]) as stores:
        found = imputers.check(Subject(stores, ["y"], ["cv"], [], METHODS, quiet=True)).findings
    assert [f.severity for f in found] == ([severity] if severity else [])
    assert all(f"it comes out from {whose}" in f.what and "fold 2 " in f.what for f in found)


def test_an_imputer_whose_own_arrays_differ_is_a_warning(trained: Path, tmp_path: Path) -> None:
    path = planted(trained, tmp_path, "mice", (1,), lambda state: state | {"own-coef": state["own-coef"] + 0.1})
    with Stores([path]) as stores:
        found = imputers.check(Subject(stores, ["y"], ["cv"], [], METHODS, quiet=True)).findings
    assert [f.severity for f in found] == ["warning"] and "fold 2 has other arrays" in found[0].what


def test_an_imputer_of_a_part_that_saw_test_patients(trained: Path, copy: Path, tmp_path: Path) -> None:
    with Store(planted(trained, tmp_path, "mice", (1, 3), lambda state: state)) as store:
        state = store.fitted("t", "mice", "cv", 2)
    (copy / "cv-2-seed-0" / "imputer-t.safetensors").write_bytes(save(state))
    found = told(imputers.check, trained, copy)
    assert len(found) == 1 and "cv-2-seed-0" in found[0] and "training and test patients" in found[0]


def planted(trained: Path, out: Path, method: str, members: tuple[int, ...], change: Callable[[Any], Any]) -> Path:
    """A store with an imputation of fold 2 that was fitted on these roles."""
    with Store(trained / "s.h5") as store:
        table, roles = store.tables["t"], store.patients.folds["cv"][:, 2]
        imputer = make_imputer(method)
        imputer.fit(table.values[np.isin(roles, members)], Columns.of(table), seed=5)
        filled = imputer.transform(table.values, store.patients.ids)
        made = Imputation("t", method, "cv", 2, filled[:, ~table.observed], {}, change(imputer.state()))
        write_store(out / "planted.h5", {"made": 1}, store.patients, store.tables, imputations=[made])
    return out / "planted.h5"


def test_an_epoch_that_validation_did_not_choose(trained: Path, copy: Path) -> None:
    path = copy / PART / "history.csv"
    history = pd.read_csv(path).iloc[:3]
    history["validation_loss"] = [1.0, 0.5, 0.7]
    history.to_csv(path, index=False)  # best in epoch 1, ended in 2: patience 3 would go on
    found = told(selection.check, trained, copy)
    assert len(found) == 1 and "ended in epoch 2; the validation loss was lowest in epoch 1" in found[0]


def test_splits_of_predictions(trained: Path, copy: Path) -> None:
    path = copy / PART / "predictions-y.parquet"
    frame = pd.read_parquet(path)
    test = frame.loc[frame["split"] == "test", "patient_id"].unique()
    frame.loc[frame["patient_id"] == test[0], "split"] = "train"
    twice = pd.concat([frame, frame[frame["patient_id"] == test[1]].assign(split="train")])
    twice[twice["patient_id"] != test[2]].to_parquet(path, index=False)
    found = told(selection.check, trained, copy)
    assert sorted(line.split(": ")[2].split(" (")[0] for line in found) == [
        "no prediction for 1 test patient", "the split of 2 patients in the predictions is not that of run.json",
        "two splits of one part hold 1 patient",
    ]  # fmt: skip


def test_labels_of_predictions(trained: Path, copy: Path) -> None:
    path = copy / PART / "predictions-y.parquet"
    frame = pd.read_parquet(path)
    frame.loc[frame["patient_id"] == "p0000", "label"] = "yes"
    frame.to_parquet(path, index=False)
    found = told(selection.check, trained, copy)
    assert len(found) == 1 and "the label of 1 patient" in found[0]


def test_a_prior_that_counts_test_patients(trained: Path, copy: Path) -> None:
    path = copy / PART / "part.json"
    head = json.loads(path.read_text())
    with audited(trained, copy) as subject:
        roles, y = subject.runs[0].roles(1), subject.stores.patients.labels["y"].values.copy()
        y[np.flatnonzero((roles == 3) & (y == 0))[:3]] = 1  # else the classes are balanced in every role
        subject.stores.patients.labels["y"] = replace(subject.stores.patients.labels["y"], values=y)
        n = np.bincount(y[np.isin(roles, (1, 3))])
        head["spec"]["tasks"][0] |= {"prior": (n / n.sum()).tolist(), "weights": (n.sum() / (2 * n)).tolist()}
        path.write_text(json.dumps(head))
        found = [f.what for f in selection.check(subject).findings if "prior" in f.what and PART in f.where]
    assert found == ["y: prior and class weights are those of training and test patients, not of the training patients"]


def test_a_run_of_other_folds(trained: Path, copy: Path) -> None:
    about = json.loads((copy / "run.json").read_text())
    assigned = about["fold_assignment"]
    trains = next(p for p, r in assigned.items() if r[0] == "1")
    assigned[trains] = "3" + assigned[trains][1:]
    (copy / "run.json").write_text(json.dumps(about))
    found = told(folds.check, trained, copy)
    assert len(found) == 1 and f"({trains}); 1 patient cross" in found[0]
