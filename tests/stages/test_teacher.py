"""train-teacher as a user runs it, on made stores."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from mmcli.errors import RequestError
from mmcli.options import read_settings_file
from mmcli.settings import TeacherSettings
from mmcli.stages import teacher

Write = Callable[..., Path]
QUICK = {"epochs": "6", "width": "8"}


def cohort(seed: int = 0, n: int = 60) -> dict[str, Any]:
    """Labels, a bag of 3 to 8 instances (every 6th patient has none) and a table with holes (every 5th lacks it)."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    slides: list[Any] = [rng.normal(size=(rng.integers(3, 9), 6)) + 0.8 * y[i] for i in range(n)]
    slides[::6] = [None] * len(slides[::6])
    table = rng.normal(size=(n, 4)) + y[:, None] * 0.8
    table[rng.random(table.shape) < 0.2] = np.nan
    table[::5] = np.nan
    return {"labels": {"relapse": y}, "bags": {"slide": slides}, "tables": {"markers": table}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, write_made_store: Write) -> Path:
    """A store of 60 patients."""
    return write_made_store(tmp_path_factory.mktemp("store") / "s.h5", **cohort())


def settings(store: Path, out: Path, **more: Any) -> TeacherSettings:
    return TeacherSettings(**{"stores": [store], "out": out, "set": QUICK, "quiet": True} | more)


def bits(part: Path) -> dict[str, bytes]:
    """What must be the same to the bit."""
    weights = {n: a.tobytes() for n, a in load_file(part / "weights.safetensors").items()}
    predictions = {p.name: pd.read_parquet(p).to_csv().encode() for p in part.glob("predictions-*.parquet")}
    return weights | predictions | {"history": (part / "history.csv").read_bytes()}


@pytest.fixture(scope="module")
def run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five folds and two seeds."""
    out = tmp_path_factory.mktemp("runs") / "teacher"
    outcome = teacher.run(settings(store, out, seeds=[0, 1]))
    assert len(outcome.rows) == 10 and outcome.exit_code == 0
    return out


def test_what_a_run_holds(run: Path, store: Path) -> None:
    head = json.loads((run / "run.json").read_text())
    assert head["stage"] == "train-teacher" and head["method"] == "attention" and head["seeds"] == [0, 1]
    assert head["tasks"] == {"relapse": {"classes": ["no", "yes"], "ordinal": False}}
    assert sorted(head["parts"]) == sorted(p.name for p in run.iterdir() if p.is_dir())
    assert head["modalities"] == ["slide", "markers"] and head["stores"][0]["path"] == str(store)
    assert {p.name for p in (run / "cv-0-seed-0").iterdir()} == {
        "weights.safetensors", "scalers.safetensors", "part.json", "history.csv", "provenance.json",
        "predictions-relapse.parquet",
    }  # fmt: skip
    part = json.loads((run / "cv-0-seed-0/part.json").read_text())
    assert part["bags"]["slide"]["weights_sha256"] == "random:0"
    assert not list(run.rglob(".*"))


def test_predictions(run: Path) -> None:
    frame = pd.read_parquet(run / "cv-3-seed-1/predictions-relapse.parquet")
    assert list(frame) == ["patient_id", "split", "label", "p_no", "p_yes", "modalities"]
    np.testing.assert_allclose(frame.p_no + frame.p_yes, 1)
    assignment = json.loads((run / "run.json").read_text())["fold_assignment"]
    names = {"1": "train", "2": "validation", "3": "test"}
    assert dict(zip(frame.patient_id, frame.split, strict=True)) == {i: names[r[3]] for i, r in assignment.items()}
    number = frame.patient_id.str[1:].astype(int)
    has = [",".join(m for m, there in (("slide", i % 6), ("markers", i % 5)) if there) for i in number]
    assert list(frame.modalities) == has
    nothing = frame[frame.modalities == ""]
    train = frame[frame.split == "train"]
    assert len(nothing) == 2 and np.allclose(nothing.p_yes, (train.label == "yes").mean())


def test_the_second_time_nothing_is_done_and_another_request_is_refused(run: Path, store: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    assert "nothing to do" in teacher.run(settings(store, run, seeds=[0, 1])).message
    again = TeacherSettings(**read_settings_file(run / "settings.yaml", TeacherSettings))
    assert again.stores[0].is_absolute() and "nothing to do" in teacher.run(again).message
    assert before == {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    with pytest.raises(RequestError, match=r"seeds: \[0,1\] there, \[0\] now"):
        teacher.run(settings(store, run))
    with pytest.raises(RequestError, match="modalities"):
        teacher.run(settings(store, run, seeds=[0, 1], modalities=["slide"]))


def test_a_part_has_its_own_wall_time_and_the_rate_warms_up(write_made_store: Write, tmp_path: Path) -> None:
    """In bfloat16 parts on tables are trained one after another, though the method could be a stack."""
    made = cohort()
    del made["bags"]
    out = tmp_path / "run"
    options = {"epochs": "12", "warmup": "3", "lr": "0.004", "schedule": "constant"}
    started = time.monotonic()
    teacher.run(settings(write_made_store(tmp_path / "s.h5", **made), out, precision="bf16", set=options))
    taken = time.monotonic() - started
    seconds = [json.loads(p.read_text())["wall_s"] for p in out.glob("*/provenance.json")]
    assert len(seconds) == 5 and min(seconds) > 0 and sum(seconds) <= taken + 0.01
    rates = pd.read_csv(out / "cv-0-seed-0/history.csv").lr
    assert list(rates) == pytest.approx([0.001, 0.002, 0.003] + [0.004] * 9)


def test_parts_trained_alone_in_any_order_have_the_same_bits(run: Path, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert (
        "would train 2 parts" in teacher.run(settings(store, out, seeds=[0, 1], only_folds=[4], dry_run=True)).message
    )
    assert not out.exists()
    first = teacher.run(settings(store, out, seeds=[0, 1], only_folds=[4, 1], only_seeds=[1]))
    assert "8 of 10 are missing" in first.message
    torch.manual_seed(12345)
    teacher.run(settings(store, out, seeds=[0, 1], only_folds=[1]))
    for part in ("cv-1-seed-0", "cv-1-seed-1", "cv-4-seed-1"):
        assert bits(out / part) == bits(run / part), part
    assert not (out / "cv-0-seed-0").exists()


def test_a_test_patients_values_change_no_weight(run: Path, write_made_store: Write, tmp_path: Path) -> None:
    made = cohort()
    assignment = json.loads((run / "run.json").read_text())["fold_assignment"]
    rng = np.random.default_rng(9)
    for i, roles in enumerate(assignment.values()):
        if roles[0] == "3":
            made["tables"]["markers"][i] = rng.normal(5, 9, 4)
            made["bags"]["slide"][i] = rng.normal(-5, 9, (2, 6))
            made["labels"]["relapse"][i] = 1 - made["labels"]["relapse"][i]
    roles = np.array([[int(r) for r in text] for text in assignment.values()])
    other = write_made_store(tmp_path / "other.h5", **made, roles=roles)
    teacher.run(settings(other, tmp_path / "run", only_folds=[0, 1]))
    ours, theirs = (
        load_file(run / "cv-0-seed-0/weights.safetensors"),
        load_file(tmp_path / "run/cv-0-seed-0/weights.safetensors"),
    )
    assert all(np.array_equal(ours[n], theirs[n]) for n in ours)
    assert (run / "cv-0-seed-0/scalers.safetensors").read_bytes() == (
        tmp_path / "run/cv-0-seed-0/scalers.safetensors"
    ).read_bytes()
    history = "cv-0-seed-0/history.csv"
    assert (run / history).read_text() == (tmp_path / "run" / history).read_text()
    # the same patients train in fold 1: there the weights must differ
    assert bits(run / "cv-1-seed-0")["history"] != bits(tmp_path / "run/cv-1-seed-0")["history"]


KILLS = """
from mmcli.settings import TeacherSettings
from mmcli.stages import teacher
teacher.run(TeacherSettings(stores=[Path(sys.argv[1])], out=Path(sys.argv[2]), set={"epochs": "6", "width": "8"},
                            seeds=[0, 1], only_folds=[2], only_seeds=[0]))
"""


def test_killed_and_run_again_it_ends_with_the_same_bits(
    run: Path, store: Path, tmp_path: Path, killed_after: Callable[..., int]
) -> None:
    out = tmp_path / "run"
    assert killed_after(3, KILLS, store, out) == -9
    assert (out / ".cv-2-seed-0.partial/checkpoint.safetensors").exists() and not (out / "cv-2-seed-0").exists()
    teacher.run(settings(store, out, seeds=[0, 1], only_folds=[2], only_seeds=[0]))
    assert bits(out / "cv-2-seed-0") == bits(run / "cv-2-seed-0")
    assert not list(out.rglob("*.partial")) and not (out / "cv-2-seed-0/checkpoint.safetensors").exists()


def test_force_replaces_a_run_and_never_a_folder_that_is_none(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    teacher.run(settings(store, out, modalities=["markers"]))
    teacher.run(settings(store, out, modalities=["markers"], seeds=[3], force=True))
    assert {p.name for p in out.iterdir() if p.is_dir()} == {f"cv-{k}-seed-3" for k in range(5)}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(RequestError, match="is no run"):
        teacher.run(settings(store, tmp_path / "mine", force=True))
    assert (tmp_path / "mine/thesis.txt").exists()


def test_withheld_modalities_are_not_used(store: Path, tmp_path: Path) -> None:
    teacher.run(settings(store, tmp_path / "run", only_folds=[0], withhold={"slide": "0.5"}))
    frame = pd.read_parquet(tmp_path / "run/cv-0-seed-0/predictions-relapse.parquet")
    share = frame.modalities.str.contains("slide").mean()
    assert 0.2 < share < 0.6


def test_two_tasks(write_made_store: Write, tmp_path: Path) -> None:
    made = cohort()
    stage = np.arange(60) // 2 % 2
    stage[::7] = -1
    made["labels"]["stage"] = stage
    store = write_made_store(tmp_path / "s.h5", **made)
    outcome = teacher.run(settings(store, tmp_path / "run", label=["stage", "relapse"], only_folds=[0]))
    assert "4 of 5 are missing" in outcome.message
    part = tmp_path / "run/cv-0-seed-0"
    frame = pd.read_parquet(part / "predictions-stage.parquet")
    assert (part / "predictions-relapse.parquet").exists() and frame.label.isna().sum() == 9
    with pytest.raises(RequestError, match="--label: choose one of relapse, stage"):
        teacher.run(settings(store, tmp_path / "other"))


@pytest.mark.parametrize(
    "given, message",
    [
        ({"label": ["relaps"]}, "unknown label 'relaps'; did you mean 'relapse'"),
        ({"modalities": ["marker"]}, "unknown modality 'marker'; did you mean 'markers'"),
        ({"method": "atention"}, "unknown method 'atention'; did you mean 'attention'"),
        ({"method": "kd"}, "'kd' is a method of distill, not of train-teacher"),
        ({"set": {"wdth": "3"}}, "has no option 'wdth'; did you mean 'width'"),
        ({"folds": "published"}, "unknown fold set 'published'"),
        ({"only_folds": [5]}, "there is no fold 5 in 'cv'"),
        ({"only_seeds": [2]}, "2 is not one of --seeds 0"),
        ({"imputer": "mice"}, "no imputation 'mice' for 'cv' in these stores"),
        ({"withhold": {"slide": "1"}}, "no training patient has the modality slide"),
    ],
)
def test_wrong_requests(store: Path, tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        teacher.run(settings(store, tmp_path / "run", **given))
    assert not (tmp_path / "run").exists()


def test_wrong_folds(write_made_store: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = np.random.default_rng(0).normal(size=(12, 2)), np.arange(12) % 2
    roles = np.array([1] * 6 + [2] * 3 + [3] * 3)

    def attempt(labels: Any, roles: Any) -> None:
        store = write_made_store(tmp_path / "s.h5", {"y": labels}, tables={"t": x}, roles=roles)
        teacher.run(settings(store, tmp_path / "run", quiet=False))

    with pytest.raises(RequestError, match="give a --cohort with folds"):
        attempt(y, False)
    with pytest.raises(RequestError, match="all labelled patients are 'no'"):
        attempt(y * 0, roles)
    with pytest.raises(RequestError, match="fold 0 of 'cv' has no training patient of class 'yes'"):
        attempt([0] * 6 + [1] * 6, roles)
    with pytest.raises(RequestError, match="fold 0 of 'cv' has no test patient"):
        attempt([0, 1] * 4 + [1] + [-1] * 3, roles)
    attempt([0, 1] * 3 + [1] * 6, roles)
    assert "no validation patient of class no" in capsys.readouterr().err
