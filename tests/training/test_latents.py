"""latents.h5: every patient with a role, readable with plain h5py, and nothing else changed by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from mmcli.errors import DamagedError, RequestError
from mmcli.methods import METHODS
from mmcli.methods.attention import Attention
from mmcli.settings import GuideSettings, TeacherSettings
from mmcli.stages import guide, teacher
from mmcli.store import Stores
from mmcli.training.data import PartData, load_cohort
from mmcli.training.latents import read_latents
from mmcli.training.method import Method
from mmcli.training.part import read_part

Write = Callable[..., Path]
QUICK = {"epochs": "3", "width": "8"}
ROLES = np.repeat([1, 2, 3, 0], [26, 6, 8, 2])
SPLITS = ["train"] * 26 + ["validation"] * 6 + ["test"] * 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, write_made_store: Write) -> Path:
    rng = np.random.default_rng(0)
    y = np.arange(42) % 2
    y[5] = -1
    slides = [rng.normal(size=(rng.integers(1, 6), 6)) + y[i] if i % 4 else None for i in range(42)]
    table = rng.normal(size=(42, 3)) + y[:, None]
    folder = tmp_path_factory.mktemp("latents")
    return write_made_store(folder / "s.h5", {"y": y}, {"slide": slides}, {"t": table}, ROLES)


def test_kept_beside_the_same_weights(store: Path, tmp_path: Path) -> None:
    parts = []
    for name, keep in (("with", True), ("without", False)):
        teacher.run(TeacherSettings(stores=[store], out=tmp_path / name, set=QUICK, keep_latents=keep, quiet=True))
        parts.append(tmp_path / name / "cv-0-seed-0")
    assert {p.name for p in parts[0].iterdir()} - {p.name for p in parts[1].iterdir()} == {"latents.h5"}
    for name in ("weights.safetensors", "predictions-y.parquet"):
        assert (parts[0] / name).read_bytes() == (parts[1] / name).read_bytes()
    kept = read_latents(parts[0])
    assert kept.ids == [f"p{i:04}" for i in range(40)] and kept.split == SPLITS
    assert list(kept.latents) == ["joint"] and kept.labels["y"].classes == ["no", "yes"]
    with Stores([store]) as stores:
        np.testing.assert_array_equal(kept.labels["y"].values, stores.patients.labels["y"].values[:40])
        assert (kept.present["slide"] == (np.arange(40) % 4 > 0)).all() and kept.present["t"].all()
        part = read_part(parts[0], METHODS)
        data = load_cohort(stores, ["y"], ["slide", "t"], budget=0, withhold={}, seed=0)
        view = PartData(data, part.prepared, {})
        with torch.no_grad():
            for i in (0, 1, 39):  # one by one: no dropout, no hidden modality
                z = part.method.latents(view.batch(np.array([i])))["joint"][0]
                np.testing.assert_allclose(kept.latents["joint"][i], z, atol=1e-6)
    assert kept.latents["joint"].dtype == np.float32 and kept.latents["joint"].shape == (40, 18)
    with pytest.raises(RequestError, match="train the run with --keep-latents"):
        read_latents(parts[1])
    (parts[0] / "latents.h5").write_bytes(b"no")
    with pytest.raises(DamagedError, match=r"latents\.h5: damaged"):
        read_latents(parts[0])


def test_plain_h5py_and_the_methods_order(store: Path, tmp_path: Path) -> None:
    guide.run(GuideSettings(stores=[store], out=tmp_path / "g", set=QUICK | {"guide_epochs": "2"}, keep_latents=True,
                            superior="slide", inferior="t", quiet=True))  # fmt: skip
    part = tmp_path / "g/cv-0-seed-0"
    with h5py.File(part / "latents.h5") as file:
        assert [p.decode() for p in file["patients"]][:2] == ["p0000", "p0001"] and file["split"].asstr()[-1] == "test"
        assert file["labels/y"][5] == -1 and json.loads(file["labels/y"].attrs["classes"]) == ["no", "yes"]
        assert json.loads(file["latents"].attrs["order"]) == ["z_I", "z_S", "G(z_I)"]
        assert all(
            file["latents"][n].shape == (40, 8) and file["latents"][n].dtype == np.float32 for n in file["latents"]
        )
        assert not file["latents/z_S"][::4].any() and file["latents/z_S"][1::4].any()  # who has no slide
    assert list(read_latents(part).latents) == ["z_I", "z_S", "G(z_I)"]
    frame = pd.read_parquet(part / "predictions-y.parquet").query("variant == 'I'")
    assert frame.patient_id.tolist() == read_latents(part).ids


def test_a_method_without_latents_is_refused(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attention, "latents", Method.latents)
    with pytest.raises(RequestError, match="--keep-latents: the method 'attention' has no latents; leave it out"):
        teacher.run(TeacherSettings(stores=[store], out=tmp_path / "r", keep_latents=True, quiet=True))
    assert not (tmp_path / "r").exists()
