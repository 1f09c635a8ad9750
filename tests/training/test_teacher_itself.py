"""A method that needs the teacher itself, through the commands: training sees all of the teacher's modalities, what is
predicted sees the student's alone, a part needs no teacher's run, and a killed one ends with the same bits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from mmcli.errors import RequestError
from mmcli.evaluation.repredict import Repredictor
from mmcli.methods import METHODS
from mmcli.settings import DistillSettings, ImputeSettings, PredictSettings, TeacherSettings
from mmcli.stages import distill, impute, predict, teacher
from mmcli.store import Stores
from mmcli.training.data import PartData, load_cohort
from mmcli.training.part import read_part

Write = Callable[..., Path]
ROLES = np.stack([np.repeat([1, 2, 3, 0], [30, 8, 10, 2]), np.repeat([3, 1, 2, 0], [10, 30, 8, 2])], 1)
PART = "cv-1-seed-1"


def cohort() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    y = np.arange(50) % 2
    slides: list[Any] = [rng.normal(size=(1 + i % 4, 6)) + y[i] if i % 5 else None for i in range(50)]
    t, u = rng.normal(size=(50, 3)) + y[:, None], rng.normal(size=(50, 2)) + y[:, None]
    t[::3, 0] = t[1::4, 2] = np.nan
    t[7] = np.nan
    return {"labels": {"y": y}, "bags": {"slide": slides}, "tables": {"t": t, "u": u}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, write_made_store: Write) -> Path:
    """s.h5, i.h5 with imputations of t, and a teacher on all of it, of two folds and seeds."""
    home = tmp_path_factory.mktemp("taught")
    store = write_made_store(home / "s.h5", **cohort(), roles=ROLES)
    impute.run(ImputeSettings(stores=[store], table="t", imputations=3, name="m", out=home / "i.h5", quiet=True))
    teacher.run(TeacherSettings(stores=[store, home / "i.h5"], imputer="m", out=home / "teacher", seeds=[0, 1],
                                set={"epochs": "4", "width": "4"}, quiet=True))  # fmt: skip
    return home


def student(home: Path, out: Path, **more: Any) -> Any:
    given = {"stores": [home / "s.h5", home / "i.h5"], "teacher": home / "teacher", "out": out, "method": "taught",
             "modalities": ["t"], "imputer": "m", "quiet": True}  # fmt: skip
    return distill.run(DistillSettings(**(given | more)))


@pytest.fixture
def run(home: Path, plugin: Any) -> Path:
    """The student's run."""
    student(home, home / "student")
    return home / "student"


def test_training_sees_what_the_teacher_saw_and_inference_the_students_alone(
    home: Path, plugin: Any, tmp_path: Path
) -> None:
    student(home, tmp_path / "run", only_folds=[1], only_seeds=[1])
    part = read_part(home / "teacher" / PART, METHODS)
    with Stores([home / "s.h5", home / "i.h5"]) as stores:
        data = load_cohort(stores, ["y"], ["slide", "t", "u"], budget=1 << 30, withhold={}, seed=0)
        theirs = PartData(data, part.prepared, {"t": stores.filled("t", "m", "cv", 1)})
        unfilled = PartData(data, part.prepared, {})
    batches = {kind: [b for k, b in plugin.SEEN if k == kind] for kind in ("train", "validation", "inference")}
    for kind in ("train", "validation"):
        shown = np.unique(np.concatenate([b.rows.numpy() for b in batches[kind]]))
        role = 1 if kind == "train" else 2
        wanted = np.flatnonzero((ROLES[:, 1] == role) & (np.arange(50) % 5 > 0) & (np.arange(50) != 7))  # `who`
        np.testing.assert_array_equal(shown, wanted)
        for batch in batches[kind]:
            assert set(batch.present) == {"t"} and batch.noise_keys is None
            expected = theirs.batch(batch.rows.numpy())
            assert set(batch.teacher.present) == {"slide", "t", "u"}
            assert torch.equal(batch.teacher.bags["slide"].features, expected.bags["slide"].features)
            assert torch.equal(batch.teacher.bags["slide"].offsets, expected.bags["slide"].offsets)
            for table in ("t", "u"):
                assert torch.equal(batch.teacher.tables[table].values, expected.tables[table].values)
    rows = batches["train"][0].rows.numpy()
    assert not torch.equal(theirs.batch(rows).tables["t"].values, unfilled.batch(rows).tables["t"].values)
    assert {int(i) for b in batches["inference"] for i in b.rows} == set(range(48))
    for batch in batches["inference"]:
        there = batch.teacher.present
        assert not batch.extra and not there["slide"].any() and not there["u"].any()
        assert torch.equal(there["t"], batch.present["t"]) and len(batch.teacher.bags["slide"].features) == 0
        assert not batch.teacher.tables["u"].values.any()


def test_a_part_has_the_teacher_of_its_own_fold_and_seed(home: Path, run: Path) -> None:
    parts = {p.name: p for p in run.iterdir() if p.is_dir()}
    assert set(parts) == {f"cv-{k}-seed-{s}" for k in (0, 1) for s in (0, 1)}
    for name, part in parts.items():
        ours, theirs = (load_file(p / "weights.safetensors") for p in (part, home / "teacher" / name))
        assert {n.removeprefix("teacher.") for n in ours if n.startswith("teacher.")} == set(theirs)
        for key, tensor in theirs.items():  # heads were frozen, branches moved
            assert np.array_equal(ours[f"teacher.{key}"], tensor) == ("heads" in key), key
        assert ours["memory"].any()
        head, frame = json.loads((part / "part.json").read_text()), pd.read_parquet(part / "predictions-y.parquet")
        assert list(head["bags"]) == [] and list(head["tables"]) == ["t"]
        assert set(frame.modalities) == {"t", ""} and (frame.modalities == "").sum() == 4  # p0007, and its draws
    assert json.loads((run / "run.json").read_text())["modalities"] == ["t"]


def test_predict_needs_neither_the_teachers_run_nor_its_modalities(
    home: Path, run: Path, tmp_path: Path, write_made_store: Write
) -> None:
    away = shutil.copytree(run, tmp_path / "away" / "run")
    made = cohort()
    store = write_made_store(tmp_path / "n.h5", {}, tables={"t": made["tables"]["t"]}, roles=False)
    whole = write_made_store(tmp_path / "w.h5", {}, made["bags"], made["tables"], roles=False)
    (home / "teacher").rename(home / "elsewhere")
    try:
        for name, path in (("a", store), ("b", whole)):
            out = tmp_path / f"{name}.csv"
            predict.run(PredictSettings(run=away / PART, stores=[path], out=out, quiet=True))
    finally:
        (home / "elsewhere").rename(home / "teacher")
    a, b = (pd.read_csv(tmp_path / f"{name}.csv", index_col="patient_id", keep_default_na=False) for name in "ab")
    pd.testing.assert_frame_equal(a, b)
    assert set(a.modalities) == {"t", ""}
    own = pd.read_parquet(run / PART / "predictions-y.parquet").query("draw == -1").set_index("patient_id")
    observed = [i for i in own.index if not np.isnan(made["tables"]["t"][int(i[1:])]).any()]
    np.testing.assert_allclose(a.p_yes[observed], own.p_yes[observed], atol=1e-6)
    assert np.ptp(a.p_yes.to_numpy()) > 1e-3


def test_predicted_again_from_weights_and_stores(home: Path, run: Path) -> None:
    with Repredictor(run, METHODS) as again:
        assert again.modalities == ["t"]
        same = again.frames({})
        gone = again.frames({"t": np.ones(50, bool)}, ["test"])
    for part, frames in same.items():
        own = pd.read_parquet(run / part / "predictions-y.parquet")
        pd.testing.assert_frame_equal(frames["y"], own, atol=1e-6, rtol=0, check_dtype=False)
        assert gone[part]["y"].p_yes.nunique() == 1 and set(gone[part]["y"].modalities) == {""}


def bits(part: Path) -> dict[str, bytes]:
    names = ("weights.safetensors", "scalers.safetensors", "part.json", "history.csv", "predictions-y.parquet")
    return {name: (part / name).read_bytes() for name in names}


KILLS = """
from mmcli.settings import DistillSettings
from mmcli.stages import distill
home = Path(sys.argv[1])
distill.run(DistillSettings(stores=[home / "s.h5", home / "i.h5"], teacher=home / "teacher", out=Path(sys.argv[2]),
                            method="taught", modalities=["t"], imputer="m", only_folds=[1], only_seeds=[1]))
"""


def test_killed_and_run_again_it_ends_with_the_same_bits(
    home: Path, run: Path, package: Path, tmp_path: Path, killed_after: Callable[..., int]
) -> None:
    out = tmp_path / "run"
    assert killed_after(2, KILLS, home, out, path=package) == -9
    assert (out / f".{PART}.partial/checkpoint.safetensors").exists()
    student(home, out, only_folds=[1], only_seeds=[1])
    assert bits(out / PART) == bits(run / PART)


def test_a_student_may_be_a_teacher(home: Path, run: Path, tmp_path: Path) -> None:
    """Two preparations lie within the part, read back from one file; its own teacher sees the student's table alone."""
    student(home, tmp_path / "second", teacher=run, only_folds=[1], only_seeds=[1])
    part = read_part(tmp_path / "second" / PART, METHODS)
    assert part.prepared.teacher and part.prepared.teacher.teacher
    assert list(part.prepared.teacher.teacher.scalers) == ["slide"]
    ours, theirs = load_file(part.path / "weights.safetensors"), load_file(run / PART / "weights.safetensors")
    assert np.array_equal(ours["teacher.teacher.network.heads.0.weight"], theirs["teacher.network.heads.0.weight"])
    own = pd.read_parquet(part.path / "predictions-y.parquet").query("draw == -1").set_index("patient_id")
    predict.run(PredictSettings(run=part.path, stores=[home / "s.h5"], out=tmp_path / "p.csv", quiet=True))
    found = pd.read_csv(tmp_path / "p.csv", index_col="patient_id")
    observed = [i for i in own.index if not np.isnan(cohort()["tables"]["t"][int(i[1:])]).any()]
    np.testing.assert_allclose(found.p_yes[observed], own.p_yes[observed], atol=1e-6)


def test_a_teacher_that_it_cannot_learn_from(home: Path, plugin: Any, tmp_path: Path) -> None:
    stores = [home / "s.h5"]
    teacher.run(TeacherSettings(stores=stores, out=tmp_path / "forest", method="forest", modalities=["t"], quiet=True,
                                set={"trees": "5"}))  # fmt: skip
    with pytest.raises(RequestError, match="the method 'forest' has no latents to learn from"):
        student(home, tmp_path / "run", stores=stores, teacher=tmp_path / "forest", imputer="")
    assert not (tmp_path / "run").exists()


def test_another_imputer_than_the_teachers_is_told(
    home: Path, plugin: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student(home, tmp_path / "run", imputer="", quiet=False, dry_run=True)
    assert "t: its teacher learned with 'm'; the same --imputer" in capsys.readouterr().err
    student(home, tmp_path / "run", quiet=False, dry_run=True)
    assert "--imputer" not in capsys.readouterr().err
