"""distill as a user runs it: the teacher must be the one of the same folds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from mmcli.errors import DamagedError, RequestError
from mmcli.methods.kd import KnowledgeDistillation
from mmcli.settings import DistillSettings, TeacherSettings
from mmcli.stages import distill, teacher
from mmcli.training.latents import read_latents

Write = Callable[..., Path]
QUICK = {"epochs": "4", "width": "8"}


def cohort(n: int = 60) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    y[::9] = -1
    slides: list[Any] = [rng.normal(size=(4, 6)) + y[i] for i in range(n)]
    slides[::6] = [None] * len(slides[::6])
    table = rng.normal(size=(n, 4)) + y[:, None]
    table[::5] = np.nan
    return {"labels": {"y": y}, "bags": {"slide": slides}, "tables": {"t": table}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, write_made_store: Write) -> Path:
    """A store of 60 patients."""
    return write_made_store(tmp_path_factory.mktemp("store") / "s.h5", **cohort())


@pytest.fixture(scope="module")
def taught(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished teacher of two seeds."""
    out = tmp_path_factory.mktemp("runs") / "teacher"
    teacher.run(TeacherSettings(stores=[store], out=out, set=QUICK, seeds=[0, 1], quiet=True))
    return out


def settings(store: Path, taught: Path, out: Path, **more: Any) -> DistillSettings:
    given = {"stores": [store], "teacher": taught, "out": out, "set": QUICK, "modalities": ["t"], "quiet": True}
    return DistillSettings(**(given | more))


def test_label_folds_and_seeds_are_the_teachers(store: Path, taught: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    outcome = distill.run(settings(store, taught, out))
    assert len(outcome.rows) == 10
    head = json.loads((out / "run.json").read_text())
    assert head["seeds"] == [0, 1] and head["modalities"] == ["t"] and head["stage"] == "distill"
    frame = pd.read_parquet(out / "cv-0-seed-1/predictions-y.parquet")
    assert set(frame.modalities) == {"t", ""}
    assert "nothing to do" in distill.run(settings(store, taught, out)).message


def test_the_teacher_of_the_same_part_teaches_and_test_patients_do_not(
    store: Path, taught: Path, tmp_path: Path, write_made_store: Write
) -> None:
    """A student of the first fold has the same bits when test patients' values and labels differ, and other bits when
    its teacher's weights do."""
    distill.run(settings(store, taught, tmp_path / "a", only_folds=[0], only_seeds=[0]))
    made = cohort()
    assignment = json.loads((taught / "run.json").read_text())["fold_assignment"]
    for i, roles in enumerate(assignment.values()):
        if roles[0] == "3":
            made["tables"]["t"][i] = 40.0
            made["labels"]["y"][i] = 1
    roles = np.array([[int(r) for r in text] for text in assignment.values()])
    other = write_made_store(tmp_path / "o.h5", **made, roles=roles)
    distill.run(settings(other, taught, tmp_path / "b", only_folds=[0], only_seeds=[0]))
    swapped = tmp_path / "swapped"
    shutil.copytree(taught, swapped)
    shutil.copy(swapped / "cv-0-seed-1/weights.safetensors", swapped / "cv-0-seed-0/weights.safetensors")
    distill.run(settings(store, swapped, tmp_path / "c", only_folds=[0], only_seeds=[0]))
    a, b, c = (load_file(tmp_path / x / "cv-0-seed-0/weights.safetensors") for x in "abc")
    assert all(np.array_equal(a[n], b[n]) for n in a)
    assert not all(np.array_equal(a[n], c[n]) for n in a)


def test_wrong_teachers(store: Path, taught: Path, tmp_path: Path, write_made_store: Write) -> None:
    def refused(message: str, given: DistillSettings) -> None:
        with pytest.raises(RequestError, match=message):
            distill.run(given)

    out = tmp_path / "out"
    refused("no run there", settings(store, tmp_path / "nothing", out))
    refused("it has no seed 7", settings(store, taught, out, seeds=[7]))
    refused("unknown label 'z'", settings(store, taught, out, label=["z"]))
    refused("unknown modality 'ct'", settings(store, taught, out, modalities=["ct"]))
    unfinished = tmp_path / "unfinished"
    shutil.copytree(taught, unfinished)
    shutil.rmtree(unfinished / "cv-3-seed-1")
    refused(r"not finished, 1 parts are missing \(cv-3-seed-1\)", settings(store, unfinished, out))
    made = cohort()
    roles = np.roll(np.repeat([1, 1, 1, 2, 3], 12), 5)
    refused("has other folds", settings(write_made_store(tmp_path / "f.h5", **made, roles=roles), taught, out))
    refused("is not in its run", settings(write_made_store(tmp_path / "x.h5", **made, prefix="x"), taught, out))
    tables = {k: made[k] for k in ("labels", "tables")}
    refused("needs the modality slide", settings(write_made_store(tmp_path / "n.h5", **tables), taught, out))
    foreign = write_made_store(tmp_path / "w.h5", **made, weights="random:1")
    refused("modality slide has other weights", settings(foreign, taught, out))
    assert not [p for p in out.glob("*") if p.is_dir()]
    damaged = tmp_path / "damaged"
    shutil.copytree(taught, damaged)
    (damaged / "cv-0-seed-0/weights.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(DamagedError, match="train it again"):
        distill.run(settings(store, damaged, out, force=True))


def test_a_student_that_needs_them_gets_the_teachers_latents_of_the_same_part(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {"stores": [store], "set": QUICK, "seeds": [0, 1], "quiet": True, "keep_latents": True}
    teacher.run(TeacherSettings(**quick, out=tmp_path / "teacher"))
    plain, seen = KnowledgeDistillation.loss, {}

    def loss(self: Any, batch: Any) -> Any:
        seen.update(zip(batch.rows.tolist(), batch.extra["teacher.latent.joint"].numpy(), strict=True))
        return plain(self, batch)

    monkeypatch.setattr(KnowledgeDistillation, "needs", frozenset({"teacher-latents"}))
    monkeypatch.setattr(KnowledgeDistillation, "loss", loss)
    distill.run(settings(store, tmp_path / "teacher", tmp_path / "s", only_folds=[2], only_seeds=[1]))
    kept = read_latents(tmp_path / "teacher/cv-2-seed-1")
    ids = list(json.loads((tmp_path / "teacher/run.json").read_text())["fold_assignment"])
    theirs = dict(zip(kept.ids, kept.latents["joint"], strict=True))
    assert len(seen) > 30
    for row, z in seen.items():
        np.testing.assert_allclose(z, theirs[ids[row]], atol=1e-5)
