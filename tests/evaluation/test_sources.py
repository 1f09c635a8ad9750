"""Runs and tables: what is read, and what is refused with which words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmcli.errors import DamagedError, RequestError
from mmcli.evaluation.checks import check_same_patients_and_classes
from mmcli.evaluation.sources import load, unique_names

WriteRun = Callable[..., Path]


def change(run: Path, edit: Callable[[pd.DataFrame], pd.DataFrame | None], part: str = "cv-0-seed-0") -> Path:
    file = run / part / "predictions-relapse.parquet"
    frame = pd.read_parquet(file)
    changed = edit(frame)
    (frame if changed is None else changed).to_parquet(file, index=False)
    return file


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_pooling_is_the_mean_over_the_parts_that_test_the_patient(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path / "teacher")
    (predictions,), inputs = load([run], [], "test", False)
    assert predictions.run == "teacher"
    assert inputs.tasks == ("relapse",)
    assert list(predictions.ids) == [f"{i:03d}" for i in range(59)]
    assert predictions.unlabelled == 1
    assert [p.name for p in predictions.parts] == [f"cv-{k}-seed-{s}" for k in range(3) for s in range(2)]
    frames = [pd.read_parquet(run / f"cv-1-seed-{s}" / "predictions-relapse.parquet") for s in (0, 1)]
    expected = np.mean([f.loc[f["patient_id"] == "004", ["p_no", "p_yes"]].to_numpy()[0] for f in frames], axis=0)
    np.testing.assert_allclose(predictions.p[4], expected, atol=1e-12)
    assert sum(len(p.y) for p in predictions.parts) == 2 * 59


def test_split_chooses_the_patients(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path / "teacher", folds=3)
    (predictions,), _ = load([run], [], "train", False)
    assert {len(p.y) for p in predictions.parts} == {39, 40}
    with pytest.raises(RequestError, match="no patient of the split 'validation'"):
        load([run], [], "validation", False)


def test_variants_are_rows_with_the_main_one_first(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path / "guide", variants=("G(I)+I", "S+I", "I"))
    found, _ = load([run], [], "test", False)
    assert [(p.variant, p.main) for p in found] == [("G(I)+I", True), ("S+I", False), ("I", False)]
    assert found[0].title == "guide · G(I)+I"


def test_missing_parts_are_refused_and_partial_takes_the_rest(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path / "teacher")
    shutil.rmtree(run / "cv-1-seed-0")
    with pytest.raises(RequestError, match=r"1 of 6 parts are missing \(cv-1-seed-0\).*--partial"):
        load([run], [], "test", False)
    (predictions,), _ = load([run], [], "test", True)
    assert predictions.missing_parts == ("cv-1-seed-0",)
    assert len(predictions.parts) == 5
    for part in list(run.glob("cv-*")):
        shutil.rmtree(part)
    with pytest.raises(RequestError, match="none of the run's 6 parts is finished"):
        load([run], [], "test", True)


def test_what_is_no_run(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path / "teacher")
    with pytest.raises(RequestError, match="there is no such run"):
        load([tmp_path / "nothing"], [], "test", False)
    with pytest.raises(RequestError, match=r"no run\.json.*one folder up"):
        load([run / "cv-0-seed-0"], [], "test", False)
    with pytest.raises(RequestError, match="neither a run's directory nor a table"):
        load([table(tmp_path / "a.pdf", "")], [], "test", False)
    with pytest.raises(RequestError, match="is given twice"):
        load([run, run / "." / "../teacher"], [], "test", False)


@pytest.mark.parametrize("content", ["{", "[]", '{"parts": ["a"]}', '{"parts": ["a"], "tasks": {"x": {}}}'])
def test_damaged_run_json(content: str, write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path / "teacher")
    (run / "run.json").write_text(content)
    with pytest.raises(DamagedError, match=r"run\.json: damaged"):
        load([run], [], "test", False)


def _set(column: str, value: object) -> Callable[[pd.DataFrame], None]:
    def edit(frame: pd.DataFrame) -> None:
        frame.loc[frame.index[4], column] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_set("p_yes", np.nan), r"row 5 \(patient '004'\): a probability is missing"),
        (_set("p_yes", 3.0), r"row 5 .*sum to"),
        (_set("p_yes", -0.5), r"row 5 .*negative"),
        (_set("label", "perhaps"), r"row 5 .*'perhaps' is none of the classes \(classes: no, yes\)"),
        (_set("patient_id", "003"), r"row 5 .*earlier row"),
        (lambda f: f.drop(columns="p_no"), "has no column 'p_no'"),
    ],
)
def test_damaged_predictions_name_file_and_row(
    edit: Callable[[pd.DataFrame], pd.DataFrame | None], words: str, write_run: WriteRun, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "teacher")
    file = change(run, edit)
    with pytest.raises(DamagedError, match=words) as caught:
        load([run], [], "test", False)
    assert str(file) in str(caught.value)


def test_label_that_differs_between_parts(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path / "teacher")

    def flip(frame: pd.DataFrame) -> None:
        frame.loc[0, "label"] = "no" if frame.loc[0, "label"] == "yes" else "yes"

    change(run, flip, "cv-0-seed-1")
    with pytest.raises(DamagedError, match=r"patient '000' has the label .* in an earlier part"):
        load([run], [], "test", False)


def test_unreadable_and_missing_prediction_files(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path / "teacher")
    file = run / "cv-0-seed-0" / "predictions-relapse.parquet"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DamagedError, match="cannot be read"):
        load([run], [], "test", False)
    file.unlink()
    with pytest.raises(DamagedError, match="is missing in a finished part"):
        load([run], [], "test", False)


def test_tasks(write_run: WriteRun, tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b", task="stage")
    with pytest.raises(RequestError, match="share no task"):
        load([a, b], [], "test", False)
    with pytest.raises(RequestError, match="no task 'relaps'; did you mean 'relapse'"):
        load([a], ["relaps"], "test", False)


def test_runs_that_mean_different_things(write_run: WriteRun, tmp_path: Path) -> None:
    a = write_run(tmp_path / "a")
    b = write_run(tmp_path / "b", classes=("yes", "no"))
    found, _ = load([a, b], [], "test", False)
    with pytest.raises(RequestError, match="the classes of 'relapse' are yes, no in one and no, yes"):
        check_same_patients_and_classes(found)
    other = table(tmp_path / "c.csv", "patient_id,label,p_no,p_yes\n000,no,.5,.5\n001,no,.5,.5\n002,no,.5,.5\n")
    found, _ = load([a, other], [], "test", False)
    with pytest.raises(RequestError, match="c and a cannot be compared: patient '00"):
        check_same_patients_and_classes(found)


def test_plain_table(tmp_path: Path) -> None:
    path = table(
        tmp_path / "theirs.csv",
        "patient_id,label,p_low,p_mid,p_high\n01,low,.5,.3,.2\n1,,0.2,.3,.5\n02,high,.1,.3,.61\n",
    )
    (predictions,), inputs = load([path], [], "test", False)
    assert (predictions.run, predictions.task, predictions.classes) == ("theirs", "label", ("low", "mid", "high"))
    assert list(predictions.ids) == ["01", "02"]
    assert list(predictions.y) == [0, 2]
    assert predictions.unlabelled == 1
    np.testing.assert_allclose(predictions.p.sum(axis=1), 1.0)
    assert list(inputs.files["theirs"]) == ["theirs.csv"]


def test_plain_table_takes_task_and_order_of_classes_from_the_runs(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path / "ours")
    (ours,), _ = load([run], [], "test", False)
    frame = pd.DataFrame({"patient_id": ours.ids, "label": [ours.classes[k] for k in ours.y]})
    frame["p_yes"], frame["p_no"] = ours.p[:, 1], ours.p[:, 0]
    frame.to_parquet(tmp_path / "theirs.parquet")
    (_, theirs), _ = load([run, tmp_path / "theirs.parquet"], [], "test", False)
    assert (theirs.task, theirs.classes) == ("relapse", ("no", "yes"))
    np.testing.assert_allclose(theirs.p, ours.p)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("patient_id,label,p_a,p_b\n1,a,x,.5\n", "row 1, column p_a: 'x' is not a number"),
        ("patient_id,label,p_a,p_b\n1,a,,.5\n", "row 1 .*missing"),
        ("patient_id,label,p_a,p_b\n1,a,.2,.5\n", "sum to 0.7, not 1"),
        ("patient_id,label,p_a\n1,a,1\n", "has 1 columns p_<class>"),
        ("id,label,p_a,p_b\n1,a,.5,.5\n", "has no column 'patient_id'"),
        ("patient_id,label,p_a,p_b\n1,a,.5,.5\n1,a,.4,.6\n", "row 2 .*earlier row"),
        ("patient_id,label,p_a,p_b,split\n1,a,.5,.5,train\n", "no row has the split 'test'"),
    ],
)
def test_plain_tables_that_are_wrong_are_requests_to_mend(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=words):
        load([table(tmp_path / "t.csv", text)], [], "test", False)


def test_names(tmp_path: Path) -> None:
    for name in ("a/teacher", "b/teacher", "b/student"):
        (tmp_path / name).mkdir(parents=True)
    paths = [tmp_path / n for n in ("a/teacher", "b/teacher", "b/student")]
    assert unique_names(paths) == ["a/teacher", "b/teacher", "student"]
    assert json.dumps(unique_names([tmp_path / "x.csv", tmp_path / "y.csv.gz"])) == '["x", "y"]'
