"""`mmcli impute --benchmark`: files, repeated and interrupted runs, wrong requests."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from mmcli.errors import RequestError
from mmcli.evaluation.imputation import benchmark
from mmcli.fields import fill
from mmcli.printing import print_outcome
from mmcli.settings import ImputeSettings
from mmcli.stages.impute import run


@pytest.fixture(scope="module")
def source(tmp_path_factory, write_made_store):
    rng = np.random.default_rng(0)
    factor = rng.normal(size=100)
    values = np.stack([factor, 3 - factor + 0.3 * rng.normal(size=100), np.exp(factor), rng.integers(0, 2, 100)], 1)
    values[rng.random(values.shape) < 0.1] = np.nan
    y = (factor + rng.normal(size=100) > 0).astype(int)
    return write_made_store(
        tmp_path_factory.mktemp("s") / "s.h5", {"y": y}, tables={"t": values}, columns=["afp", "<b>", "crp", "sex"],
        categories={"sex": ["f", "m"]},
    )  # fmt: skip


def settings(source, out, **given):
    values = {"stores": [source], "out": out, "table": "t", "quiet": True, "benchmark": True, "resamples": 40, **given}
    return fill(ImputeSettings, values)


@pytest.fixture(scope="module")
def made(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("o") / "bench"
    return out, run(settings(source, out, method="mice,mean"))


def test_the_directory_holds_tables_figures_and_a_report_of_its_own(made):
    out, outcome = made
    names = {p.name for p in out.iterdir()}
    pictures = {"forest", "missingness", "densities-random-1", "densities-value-1", "densities-column-1"}
    assert names == {"benchmark.csv", "benchmark.json", "report.html", "seconds.csv",
                     *(f"{p}.{s}" for p in pictures for s in ("png", "pdf"))}  # fmt: skip
    table, content = pd.read_csv(out / "benchmark.csv"), json.loads((out / "benchmark.json").read_text())
    assert len(table) == len(content["rows"]) and content["request"]["method"] == ["mice", "mean"]
    assert set(table["way"]) == {"random", "value", "column"}
    assert set(table["method"]) == {"mean", "mice", "boosting on raw holes"}
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 0 and page.count("data:image/svg+xml;base64,") == 5
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page), "the page needs something from outside"
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert outcome.data["report"].endswith("report.html") and set(outcome.data["seconds"]) == {"mean", "mice"}
    shown = table[(table.method == "mice") & (table.measure == "rmse") & table.column.isna() & (table.way == "random")]
    assert f"{shown.relative.iloc[0]:.3f}" in page


def test_the_terminal_table_fits_100_columns(made, capsys):
    print_outcome(made[1])
    told = capsys.readouterr().out
    lines = told.splitlines()
    last = next(i for i, line in enumerate(lines) if line.startswith("RMSE of point"))
    assert max(map(len, lines[:last])) <= 100 and len(lines) > 15
    assert "hidden by value" in told and "coverage" in told and "AUC of y" in told and "no ranking" in told


def test_a_second_run_does_nothing_and_tells_the_same(source, made, tmp_path):
    out, first = made
    before = {p: p.stat().st_mtime_ns for p in out.iterdir()}
    again = run(settings(source, out, method="mice,mean"))
    assert "nothing to do" in again.message and again.tables == first.tables and again.rows == first.rows
    assert {p: p.stat().st_mtime_ns for p in out.iterdir()} == before
    with pytest.raises(RequestError, match="resamples: 40 there, 41 now"):
        run(settings(source, out, method="mice,mean", resamples=41))


def test_the_same_request_gives_the_same_bytes_and_force_replaces(source, made, tmp_path):
    run(settings(source, tmp_path / "b", method="mean", seed=3, resamples=5))
    run(settings(source, tmp_path / "b", method="mice,mean", force=True))
    for path in made[0].iterdir():
        if path.name != "seconds.csv":
            assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes(), path.name
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_what_was_finished_before_an_interruption_is_not_made_again(source, made, tmp_path, monkeypatch):
    real, asked = benchmark.answer, []

    def stops(plan, hidden, method, options):
        asked.append((hidden.way, method))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return real(plan, hidden, method, options)

    monkeypatch.setattr(benchmark, "answer", stops)
    folder = tmp_path / ".b.unfinished"
    folder.mkdir()
    (folder / "request.json").write_text("{}")
    (folder / "random-mean.npz").write_text("of another request")
    with pytest.raises(KeyboardInterrupt):
        run(settings(source, tmp_path / "b", method="mice,mean"))
    assert [p.name for p in tmp_path.iterdir()] == [".b.unfinished"]
    unfinished = sorted(folder.glob("*.npz"))
    assert len(unfinished) == 3
    unfinished[0].write_bytes(b"cut")
    run(settings(source, tmp_path / "b", method="mice,mean"))
    assert len(asked) == 4 + 4  # three of six were there, one of them damaged
    assert (tmp_path / "b/benchmark.csv").read_bytes() == (made[0] / "benchmark.csv").read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_all_methods_are_the_default_and_dry_run_writes_nothing(source, tmp_path):
    from mmcli.imputers import IMPUTERS

    outcome = run(settings(source, tmp_path / "b", dry_run=True))
    assert outcome.data["methods"] == IMPUTERS.names() and list(tmp_path.iterdir()) == []


def test_a_report_of_something_else_is_never_replaced(source, made, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    for name in ("mine", "file"):
        with pytest.raises(RequestError, match="holds no benchmark of mmcli's"):
            run(settings(source, tmp_path / name, method="mean", force=True))
    shutil.copytree(made[0], tmp_path / "b")
    (tmp_path / "b/notes.txt").write_text("keep")
    with pytest.raises(RequestError, match=r"'notes.txt' beside the benchmark"):
        run(settings(source, tmp_path / "b", method="mean", force=True))


@pytest.mark.parametrize(
    "given,message",
    [
        ({"method": "mice,maen"}, "unknown imputer 'maen'; did you mean 'mean'"),
        ({"method": ","}, "--method: names none"),
        ({"table": "x"}, "unknown table 'x'"),
        ({"spare": "age"}, "--spare: no column 'age'"),
        ({"label": "z"}, "--label: unknown label 'z'"),
        ({"folds": "vc"}, "unknown fold set 'vc'"),
        ({"set": ["nope=1"], "method": "mice"}, "--set: none of mice has an option 'nope'"),
        ({"set": ["rounds=0"], "method": "mean,mice"}, "--set rounds=0: input should be"),
        ({"name": "x"}, "--name has no meaning with --benchmark"),
        ({"answer": "draw"}, "--answer has no meaning"),
        ({"confidence": 1}, "--confidence: lies between 0 and 1"),
        ({"resamples": 0}, "--resamples: input should be greater"),
    ],
)
def test_wrong_requests_are_one_clear_line(source, tmp_path, given, message):
    with pytest.raises(RequestError, match=message) as caught:
        run(settings(source, tmp_path / "b", **given))
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_one_column_one_fold_no_label(tmp_path, write_made_store):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 1))
    values[:5] = np.nan
    source = write_made_store(
        tmp_path / "s.h5", {}, tables={"t": values}, roles=np.repeat([1, 2, 3], 20).reshape(-1, 1)
    )
    outcome = run(settings(source, tmp_path / "b", method="mean,mice", imputations=4))
    for said in ("no other column", "needs 19 draws; --imputations 4", "One split alone"):
        assert said in outcome.message
    assert len(outcome.tables) == 2


def test_spared_columns_are_never_hidden_and_far_methods_leave_the_forest(source, tmp_path):
    """Only the column with mean 3 and sd 1 is left: zero is three times as far as its mean."""
    outcome = run(settings(source, tmp_path / "b", method="zero,mice", spare="sex,crp,afp", resamples=5))
    table = pd.read_csv(tmp_path / "b/benchmark.csv")
    assert set(table.column.dropna()) == {"<b>"} and "Never hidden: sex, crp, afp." in outcome.message
    assert "Off the scale: zero." in (tmp_path / "b/report.html").read_text()


def test_too_few_cells_to_measure_anything(tmp_path, write_made_store):
    values = np.random.default_rng(0).normal(size=(12, 2))
    source = write_made_store(tmp_path / "s.h5", {}, tables={"t": values}, roles=np.repeat([1, 1, 3], 4).reshape(-1, 1))
    with pytest.raises(RequestError, match="the table is too small"):
        run(settings(source, tmp_path / "b", method="mean"))
    assert [p.name for p in tmp_path.iterdir()] == ["s.h5"]


def test_no_test_patient_with_a_value(tmp_path, write_made_store):
    values = np.random.default_rng(0).normal(size=(40, 2))
    roles = np.repeat([1, 2], 20).reshape(-1, 1)
    source = write_made_store(tmp_path / "s.h5", {}, tables={"t": values}, roles=roles)
    with pytest.raises(RequestError, match="no test patient of cv has a value in table t"):
        run(settings(source, tmp_path / "b"))


def test_blood_of_a_real_cohort(data, tmp_path, write_made_store):
    blood = pd.read_csv(data / "tables/hancock/blood.csv", dtype={"patient_id": str}).set_index("patient_id")
    values = blood.to_numpy(float)[:300, :8]
    source = write_made_store(tmp_path / "s.h5", {}, tables={"t": values}, columns=list(blood.columns)[:8],
                              roles=np.tile([1, 1, 1, 3], 75).reshape(-1, 1))  # fmt: skip
    run(settings(source, tmp_path / "b", method="mice", resamples=100))
    table = pd.read_csv(tmp_path / "b/benchmark.csv")
    own = table[(table.way == "random") & (table.measure == "rmse") & table.column.isna() & (table.method == "mice")]
    assert own.relative_high.iloc[0] < 0.9
