"""store info, verify, pack, import and export through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from mmcli.errors import RequestError
from mmcli.settings import StoreImportSettings
from mmcli.stages import imports
from mmcli.stages import store as stage
from mmcli.store import Store, verify

COHORT = """
patients: patients.csv
id: patient_id
labels: {relapse: [no, yes]}
folds: {cv: {n: 2}}
modalities:
  slide: {kind: slide, path: slide_path, mpp: mpp}
  markers: {kind: table, columns: [afp]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six patients; the slides named in the table need not exist to import features of them."""
    rows = ["patient_id,relapse,slide_path,mpp,afp"]
    for i in range(6):
        slides = "a0.svs;b0.svs" if i == 0 else f"a{i}.svs"
        rows.append(f"{i:03d},{'yes' if i % 2 else 'no'},{slides},0.5,{i}")
    (tmp_path / "patients.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "cohort.yaml").write_text(COHORT)
    return tmp_path


def _stamp(path: Path, rows: int, seed: int, **attributes) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 4)).astype(np.float16)
    with h5py.File(path, "w") as file:
        file["feats"] = features
        file["coords"] = np.stack([np.arange(rows) * 112.0, np.full(rows, 224.0)], 1).astype(np.float32)
        file.attrs.update({"extractor": "ctranspath", "unit": "um", "tile_size_um": 112.0, "tile_size_px": 224,
                           "feat_type": "tile", "stamp_version": "2.3.0", **attributes})  # fmt: skip
    return features


def _import(folder: Path, source: Path, **given):
    settings = StoreImportSettings(
        folder=source, modality="slide", cohort=folder / "cohort.yaml", out=folder / "slide.h5", quiet=True,
        **{"layout": "stamp", **given},
    )  # fmt: skip
    return imports.run(settings)


def test_stamp_import_joins_by_the_path_column(folder: Path) -> None:
    bags = {
        name: _stamp(folder / "stamp" / "x" / f"{name}.h5", n, n)
        for name, n in {"a0": 3, "b0": 2, "a3": 4, "z9": 1}.items()
    }
    done = _import(folder, folder / "stamp")
    assert done.exit_code == 0 and done.data == {
        "out": str(folder / "slide.h5"),
        "patients": 2,
        "failed": 0,
        "left_out": 1,
    }
    with Store(folder / "slide.h5") as store:
        bag = store.bags["slide"]
        assert bag.present.tolist() == [True, False, False, True, False, False]
        np.testing.assert_array_equal(bag.rows("features", 0), np.concatenate([bags["a0"], bags["b0"]]))
        assert [bag.sources[i].path for i in bag.rows("source", 0)] == ["a0.h5"] * 3 + ["b0.h5"] * 2
        assert bag.meta.encoder == "ctranspath" and list(bag.meta.coords) == [
            "x_um",
            "y_um",
            "x",
            "y",
            "width",
            "height",
        ]
        # 112 µm at 0.5 µm per pixel are 224 pixels of level 0
        assert bag.rows("coords", 3)[2].tolist() == [224.0, 224.0, 448.0, 448.0, 224.0, 224.0]
        assert store.tables["markers"].values[4, 0] == 4.0
    assert verify(folder / "slide.h5") == []
    assert "nothing to do" in _import(folder, folder / "stamp").message
    with pytest.raises(RequestError, match="another request"):
        _import(folder, folder / "stamp", mpp=0.25)


def test_stamp_round_trip(folder: Path) -> None:
    features = _stamp(folder / "stamp" / "a1.h5", 5, 0)
    _import(folder, folder / "stamp")
    stage.export([folder / "slide.h5"], "slide", "stamp", folder / "out", force=False)
    with h5py.File(folder / "out" / "001.h5") as new, h5py.File(folder / "stamp" / "a1.h5") as old:
        np.testing.assert_array_equal(new["feats"][:], features)
        np.testing.assert_array_equal(new["coords"][:], old["coords"][:])
        assert new["feats"].dtype == np.float16 and new["coords"].dtype == np.float32
        for name in ("extractor", "unit", "tile_size_um", "feat_type"):
            assert new.attrs[name] == old.attrs[name]
    with pytest.raises(RequestError, match="exists"):
        stage.export([folder / "slide.h5"], "slide", "stamp", folder / "out", force=False)


def test_npz_round_trip(folder: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 3, 5)).astype(np.float32)
    text = COHORT.replace("  slide: {kind: slide, path: slide_path, mpp: mpp}\n", "")
    (folder / "cohort.yaml").write_text(text)
    np.savez(folder / "f.npz", patient_id=np.array(["003", "001", "005", "nobody"]), x=x)
    done = _import(folder, folder / "f.npz", layout="npz")
    assert done.data["patients"] == 3 and done.data["left_out"] == 1
    with Store(folder / "slide.h5") as store:
        np.testing.assert_array_equal(store.bags["slide"].rows("features", 1), x[1])
    stage.export([folder / "slide.h5"], "slide", "npz", folder / "g.npz", force=False)
    with np.load(folder / "g.npz") as back:
        assert back["patient_id"].tolist() == ["001"] * 3 + ["003"] * 3 + ["005"] * 3
        np.testing.assert_array_equal(back["x"], np.concatenate([x[1], x[0], x[2]]))


def test_real_npz_of_tissue_tiles(data: Path, tmp_path: Path) -> None:
    """HANCOCK's HE tiles as the data folder packs them: 760 patients, one row of 512 each."""
    source = data / "tables" / "hancock" / "tma_tile_dtr_256_HE.npz"
    with np.load(source) as content:
        ids, x = content["patient_id"], content["x"]
    (tmp_path / "patients.csv").write_text("patient_id\n" + "\n".join(ids) + "\n")
    (tmp_path / "cohort.yaml").write_text("patients: patients.csv\nid: patient_id\nmodalities: {}\n")
    done = _import(tmp_path, source, layout="npz")
    assert done.data["patients"] == 760
    with Store(tmp_path / "slide.h5") as store:
        np.testing.assert_array_equal(store.bags["slide"].arrays["features"][:], x)


def _broken(folder: Path, kind: str) -> None:
    path = folder / "stamp" / "a2.h5"
    if kind == "no HDF5":
        path.write_bytes(b"nothing")
    elif kind == "NaN":
        with h5py.File(path, "r+") as file:
            file["feats"][0, 0] = np.nan
    elif kind == "pixels":
        with h5py.File(path, "r+") as file:
            file.attrs["unit"] = "px"
    elif kind == "no feats":
        with h5py.File(path, "r+") as file:
            del file["feats"]
    elif kind == "coords":
        with h5py.File(path, "r+") as file:
            del file["coords"]
            file["coords"] = np.zeros((1, 2))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("no HDF5", "not HDF5"), ("NaN", "NaN or infinity"), ("pixels", "counts in um"), ("no feats", "lacks the dataset"),
     ("coords", r"coords is \(1, 2\) for 3")],
)  # fmt: skip
def test_a_bad_file_is_a_failure(folder: Path, kind: str, reason: str) -> None:
    import re

    for i in (1, 2):
        _stamp(folder / "stamp" / f"a{i}.h5", 3, i)
    _broken(folder, kind)
    done = _import(folder, folder / "stamp")
    assert done.exit_code == 3 and done.data["patients"] == 1
    again = _import(folder, folder / "stamp")
    assert again.exit_code == 3 and "nothing to do" in again.message
    assert _import(folder, folder / "stamp", allow_failures="any").exit_code == 0
    listed = (folder / "slide.h5.failures.csv").read_text()
    assert re.search(reason, listed) and listed.splitlines()[1].startswith("002,slide,")
    with Store(folder / "slide.h5") as store:
        assert store.bags["slide"].failed.tolist() == [False, False, True, False, False, False]


def test_what_does_not_belong_together_is_refused(folder: Path) -> None:
    _stamp(folder / "stamp" / "a1.h5", 3, 0)
    _stamp(folder / "stamp" / "a2.h5", 3, 0, extractor="uni")
    with pytest.raises(RequestError, match="other extractor"):
        _import(folder, folder / "stamp")
    assert not (folder / "slide.h5").exists()
    with pytest.raises(RequestError, match="no such file or folder"):
        _import(folder, folder / "none")
    (folder / "empty").mkdir()
    with pytest.raises(RequestError, match=r"no \.h5 file"):
        _import(folder, folder / "empty")
    _stamp(folder / "other" / "q.h5", 2, 0)
    with pytest.raises(RequestError, match="nothing in it belongs to a patient"):
        _import(folder, folder / "other")


def test_info_and_verify_by_command_line(prepared: Path, tmp_path: Path) -> None:
    def mmcli(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "mmcli", "store", *arguments], capture_output=True, text=True)

    info = mmcli("info", str(prepared), "--json")
    parts = {row["holds"]: row["count"] for row in json.loads(info.stdout)["rows"]}
    assert parts["patients"] == 14 and parts["folds cv"] in (3, 5) and parts["table markers"] <= 14
    assert mmcli("verify", str(prepared)).returncode == 0
    damaged = tmp_path / "damaged.h5"
    raw = bytearray(prepared.read_bytes())
    raw[len(raw) // 2] ^= 4
    damaged.write_bytes(raw)
    done = mmcli("verify", str(prepared), str(damaged))
    assert done.returncode == 4 and "whole" in done.stdout and "damaged" in done.stdout
    assert mmcli("pack", str(prepared), "--out", str(tmp_path / "p.h5")).returncode == 0
    assert "nothing to do" in mmcli("pack", str(prepared), "--out", str(tmp_path / "p.h5")).stdout
