"""Maps of encoders' stages in the batches of a method that asks for them, from memory and straight from the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from mmcli.errors import RequestError
from mmcli.evaluation.repredict import Repredictor
from mmcli.methods import METHODS
from mmcli.settings import DistillSettings, PredictSettings, TeacherSettings
from mmcli.stages import distill, predict, teacher
from mmcli.store import BagData, BagMeta, Label, Patients, Stores, Table, write_store
from mmcli.store.hdf5 import Rows
from mmcli.training.data import PartData, fit_preparation, load_cohort

COUNTS = np.array([i % 4 for i in range(40)])
OFFSETS = np.concatenate([[0], np.cumsum(COUNTS)])
SHAPES = {"layer1": (3, 2, 4, 4), "layer2": (5, 1, 2, 2)}
ROLES = np.repeat([1, 2, 3], [24, 8, 8])


def arrays() -> dict[str, NDArray[Any]]:
    """Features and maps of all instances; the label lies in a channel of layer2."""
    rng, n = np.random.default_rng(0), int(OFFSETS[-1])
    found: dict[str, Any] = {"features": rng.normal(size=(n, 6)).astype(np.float32)}
    found |= {f"maps/{s}": rng.normal(size=(n, *shape)).astype(np.float16) for s, shape in SHAPES.items()}
    found["maps/layer2"][:, 1] += np.repeat(np.arange(40) % 2 * 2 - 1, COUNTS)[:, None, None, None]
    return found


def write(out: Path, of: NDArray[Any], *, labelled: bool = True, size: int = 4, without: str = "") -> Path:
    """A store with the instances of some of the patients, and a table of everybody."""
    present = np.isin(np.arange(40), of) & (COUNTS > 0)
    counts = COUNTS * present
    rows = np.repeat(present, COUNTS)
    made = {n: Rows.of(x[rows]) for n, x in arrays().items() if n != without}
    if size != 4:
        made["maps/layer1"] = Rows.of(arrays()["maps/layer1"][rows][..., :size])
    settings = {"maps": {"layer1": [2, 4, size], "layer2": None}} if not without else {}
    bag = BagData(BagMeta("volume", "resnet3d_10", "random:0", settings), present, np.zeros(40, bool),
                  np.concatenate([[0], np.cumsum(counts)]), made)  # fmt: skip
    values = np.random.default_rng(1).normal(size=(40, 2))
    table = Table(["a", "b"], ["numeric"] * 2, {}, np.ones(40, bool), values, np.ones((40, 2), bool))
    labels = {"y": Label(np.arange(40) % 2, ["no", "yes"])} if labelled else {}
    folds = {"cv": ROLES[:, None].astype(np.int8)} if labelled else {}
    write_store(out, {"made": out.name}, Patients([f"p{i:04}" for i in range(40)], None, labels, folds), {"t": table},
                {"ct": bag})  # fmt: skip
    return out


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two stores that share the patients' instances."""
    folder = tmp_path_factory.mktemp("maps")
    return [write(folder / "even.h5", np.arange(0, 40, 2)), write(folder / "odd.h5", np.arange(1, 40, 2))]


@pytest.mark.parametrize("budget", [1 << 30, 40 * 6 * 8, 0])  # all, features alone, nothing in memory
def test_a_batch_has_the_maps_of_its_instances(stores: list[Path], budget: int) -> None:
    asked, plain = {"ct": ["layer2", "layer1"]}, arrays()
    with Stores(stores) as joined:
        data = load_cohort(joined, ["y"], ["ct"], budget=budget, withhold={}, seed=0, maps=asked)
        view = PartData(data, fit_preparation(data, ROLES.astype(np.int8), asked), {})
        for rows in (np.array([7, 2, 0, 39, 1, 4]), np.array([0, 4]), np.arange(40)):
            bag = view.batch(rows).bags["ct"]
            expected = np.concatenate([np.arange(OFFSETS[i], OFFSETS[i + 1]) for i in rows]).astype(int)
            assert list(bag.maps) == ["layer2", "layer1"] and bag.to(torch.device("cpu")).maps.keys() == bag.maps.keys()
            for stage, found in bag.maps.items():
                assert found.dtype == torch.float32 and found.shape == (len(expected), *SHAPES[stage])
                np.testing.assert_array_equal(found, plain[f"maps/{stage}"][expected].astype(np.float32))
            mean, scale = view.scalers["ct"]
            np.testing.assert_allclose(bag.features, (plain["features"][expected] - mean.numpy()) * scale.numpy(),
                                       atol=1e-5)  # fmt: skip
        unasked = PartData(data, fit_preparation(data, ROLES.astype(np.int8)), {})
        assert unasked.batch(np.arange(40)).bags["ct"].maps == {}


def test_a_piece_holds_so_many_maps(stores: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked, a_patients = {"ct": ["layer1"]}, 3 * 2 * 4 * 4
    monkeypatch.setattr("mmcli.training.data.MAP_NUMBERS_AT_ONCE", 10 * a_patients)
    with Stores(stores) as joined:
        data = load_cohort(joined, ["y"], ["ct"], budget=0, withhold={}, seed=0, maps=asked)
        roles = ROLES.astype(np.int8)
        pieces = list(PartData(data, fit_preparation(data, roles, asked), {}).pieces(np.arange(40)))
        whole = list(PartData(data, fit_preparation(data, roles), {}).pieces(np.arange(40)))
    assert len(whole) == 1 and len(pieces) > 5 and max(COUNTS[p].sum() for p in pieces) <= 10
    np.testing.assert_array_equal(np.concatenate(pieces), np.arange(40))


def test_trained_predicted_and_predicted_again(stores: list[Path], plugin: Any, tmp_path: Path) -> None:
    given = {"stores": stores, "method": "mapped", "modalities": ["ct"], "set": {"epochs": "30"}, "quiet": True}
    for name, memory in (("a", "1G"), ("b", "1K")):
        teacher.run(TeacherSettings(**given, out=tmp_path / name, memory=memory, keep_latents=True))
    a, b = tmp_path / "a/cv-0-seed-0", tmp_path / "b/cv-0-seed-0"
    for file in ("weights.safetensors", "predictions-y.parquet", "part.json"):
        assert (a / file).read_bytes() == (b / file).read_bytes()
    own = pd.read_parquet(a / "predictions-y.parquet").set_index("patient_id")
    shown = own[own.modalities == "ct"]
    assert len(shown) == 30 and ((shown.p_yes > 0.5) == (shown.label == "yes")).mean() > 0.9
    with Repredictor(a.parent, METHODS) as again:
        found = again.frames({})["cv-0-seed-0"]["y"].set_index("patient_id")
    np.testing.assert_allclose(found.p_yes, own.p_yes, atol=1e-6)
    new = write(tmp_path / "new.h5", np.arange(0, 40, 3), labelled=False)
    predict.run(PredictSettings(run=a, stores=[new], out=tmp_path / "p.csv", quiet=True))
    found = pd.read_csv(tmp_path / "p.csv", index_col="patient_id", keep_default_na=False)
    few = found.index[found.modalities == "ct"]
    assert len(few) == 10
    np.testing.assert_allclose(found.p_yes[few], own.p_yes[few], atol=1e-6)
    nobody = write(tmp_path / "nobody.h5", np.array([], int), labelled=False)
    predict.run(PredictSettings(run=a, stores=[nobody], out=tmp_path / "q.csv", quiet=True))
    assert pd.read_csv(tmp_path / "q.csv").p_yes.nunique() == 1


def test_a_teachers_maps_come_with_the_teacher(stores: list[Path], plugin: Any, tmp_path: Path) -> None:
    """A student that asks for no maps itself: the teacher's view alone has them, in training and at inference."""
    teacher.run(TeacherSettings(stores=stores, out=tmp_path / "t", method="mapped", modalities=["ct"], quiet=True))
    plugin.SEEN.clear()
    distill.run(DistillSettings(stores=stores, teacher=tmp_path / "t", method="taught", modalities=["ct", "t"],
                                out=tmp_path / "s", quiet=True))  # fmt: skip
    assert {kind for kind, _ in plugin.SEEN} == {"train", "validation", "inference"}
    plain = arrays()["maps/layer2"]
    for _, batch in plugin.SEEN:
        own, theirs = batch.bags["ct"], batch.teacher.bags["ct"]
        assert own.maps == {} and set(theirs.maps) == set(SHAPES)
        expected = np.concatenate([np.arange(OFFSETS[i], OFFSETS[i + 1]) for i in batch.rows])
        np.testing.assert_array_equal(theirs.maps["layer2"], plain[expected].astype(np.float32))
        torch.testing.assert_close(own.features, theirs.features)
    own = pd.read_parquet(tmp_path / "s/cv-0-seed-0/predictions-y.parquet").set_index("patient_id")
    predict.run(PredictSettings(run=tmp_path / "s", stores=stores, out=tmp_path / "p.csv", quiet=True))
    found = pd.read_csv(tmp_path / "p.csv", index_col="patient_id")
    np.testing.assert_allclose(found.p_yes, own.p_yes[found.index], atol=1e-6)
    with Repredictor(tmp_path / "s", METHODS) as again:
        found = again.frames({})["cv-0-seed-0"]["y"].set_index("patient_id")
    np.testing.assert_allclose(found.p_yes, own.p_yes, atol=1e-6)


def test_stores_that_lack_them_are_refused(stores: list[Path], plugin: Any, tmp_path: Path) -> None:
    given = {"method": "mapped", "modalities": ["ct"], "quiet": True}
    lacks = write(tmp_path / "lacks.h5", np.arange(40), without="maps/layer2")
    with pytest.raises(
        RequestError,
        match=r"ct has no maps of the stage 'layer2' in these stores \(there are: layer1\); make them with "
        r"`mmcli extract-features prepared.h5 --encoder ct=resnet3d_10 --maps ct=layer1,layer2 --out features.h5`",
    ):
        teacher.run(TeacherSettings(stores=[lacks], out=tmp_path / "run", **given))
    assert not (tmp_path / "run").exists()
    teacher.run(TeacherSettings(stores=stores, out=tmp_path / "run", **given))
    with pytest.raises(RequestError, match="no maps of the stage 'layer2'"):
        predict.run(PredictSettings(run=tmp_path / "run", stores=[lacks], out=tmp_path / "p.csv", quiet=True))
    small = write(tmp_path / "small.h5", np.arange(40), size=3)
    with pytest.raises(RequestError, match=r"stage 'layer1' of ct are 3x2x4x3, .* was trained with 3x2x4x4; extract"):
        predict.run(PredictSettings(run=tmp_path / "run", stores=[small], out=tmp_path / "p.csv", quiet=True))
