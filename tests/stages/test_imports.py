"""store import: files as TRIDENT, CLAM, STAMP and npz have them, against numbers worked by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from mmcli.errors import RequestError
from mmcli.settings import StoreImportSettings
from mmcli.stages import imports
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
TRIDENT_COORDS = {
    "patch_size": 256, "patch_size_level0": 512.0, "level0_magnification": 40, "target_magnification": 20, "overlap": 0,
    "savetodir": "/job", "level0_width": 4096, "level0_height": "None",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six patients; the slides named in the table need not exist to import features of them."""
    rows = ["patient_id,relapse,slide_path,mpp,afp"]
    for i in range(6):
        slides = "svs/b0.svs;svs/a0.svs" if i == 0 else f"svs/a{i}.svs"
        rows.append(f"{i:03d},{'yes' if i % 2 else 'no'},{slides},0.5,{i}")
    (tmp_path / "patients.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "cohort.yaml").write_text(COHORT)
    return tmp_path


def features_of(name: str, rows: int, dtype: str = "float16") -> np.ndarray:
    return np.random.default_rng(list(name.encode())).normal(size=(rows, 4)).astype(dtype)


def write_stamp(path: Path, rows: int, **attributes: Any) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    features = features_of(path.stem, rows)
    with h5py.File(path, "w") as file:
        file["feats"] = features
        file["coords"] = np.stack([np.arange(rows) * 112.0, np.full(rows, 224.0)], 1).astype(np.float32)
        told = {"extractor": "ctranspath", "unit": "um", "tile_size_um": 112.0, "tile_size_px": 224,
                "feat_type": "tile", "stamp_version": "2.3.0", **attributes}  # fmt: skip
        file.attrs.update({name: value for name, value in told.items() if value is not None})
    return features


def write_trident(path: Path, rows: int, encoder: str = "uni_v1", **attributes: Any) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    features = features_of(path.stem, rows, "float32")
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=features, chunks=(1, 4) if rows else None)
        file["features"].attrs.update({"name": path.stem, "savetodir": "/job", "encoder": encoder})
        file["coords"] = np.stack([np.arange(rows) * 512, np.full(rows, 1024)], 1).astype(np.int64)
        file["coords"].attrs.update({**TRIDENT_COORDS, "name": path.stem, **attributes})
    return features


def write_clam(folder: Path, name: str, rows: int, patches: bool = True) -> np.ndarray:
    for part in ("h5_files", "pt_files", "patches"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    features = features_of(name, rows, "float32")
    coords = np.stack([np.arange(rows) * 1024, np.full(rows, 2048)], 1)
    with h5py.File(folder / "h5_files" / f"{name}.h5", "w") as file:
        file["features"], file["coords"] = features, coords.astype(np.int32)
    torch.save(torch.from_numpy(features), folder / "pt_files" / f"{name}.pt")
    if patches:
        with h5py.File(folder / "patches" / f"{name}.h5", "w") as file:
            file["coords"] = coords.astype(np.int64)
            file["coords"].attrs.update(
                {"patch_size": 256, "patch_level": 1, "downsample": np.array([4.0, 4.0]),
                 "level_dim": np.array([5000, 6000]), "name": name}
            )  # fmt: skip
    return features


def take(folder: Path, source: Path, **given: Any) -> Any:
    settings = StoreImportSettings(
        folder=source, modality="slide", cohort=folder / "cohort.yaml", out=folder / "slide.h5",
        **{"layout": "stamp", "quiet": True, **given},
    )  # fmt: skip
    return imports.run(settings)


def test_stamp_joins_by_the_path_column(folder: Path) -> None:
    counts = {"a0": 3, "b0": 2, "a3": 4, "z9": 1}
    bags = {name: write_stamp(folder / "stamp" / "x" / f"{name}.h5", n) for name, n in counts.items()}
    done = take(folder, folder / "stamp")
    expected = {"out": str(folder / "slide.h5"), "patients": 2, "failed": 0, "left_out": 1}
    assert done.exit_code == 0 and done.data == expected
    with Store(folder / "slide.h5") as store:
        bag = store.bags["slide"]
        assert bag.present.tolist() == [True, False, False, True, False, False]
        # The cohort's order of a patient's slides, which is not the order of names.
        np.testing.assert_array_equal(bag.rows("features", 0), np.concatenate([bags["b0"], bags["a0"]]))
        assert [bag.sources[i].path for i in bag.rows("source", 0)] == ["stamp/x/b0.h5"] * 2 + ["stamp/x/a0.h5"] * 3
        assert {(s.mpp, s.mpp_source) for s in bag.sources} == {(0.5, "cohort")}
        assert json.loads(bag.sources[0].about)["file"]["stamp_version"] == "2.3.0"
        assert bag.meta.encoder == "ctranspath"
        assert bag.meta.settings["about"] == {"tile_size_um": 112.0, "tile_size_px": 224}
        assert list(bag.meta.coords) == ["x", "y", "width", "height", "x_um", "y_um"]
        # 112 µm at 0.5 µm per pixel are 224 pixels of level 0
        assert bag.rows("coords", 3)[2].tolist() == [448.0, 448.0, 224.0, 224.0, 224.0, 224.0]
        assert store.tables["markers"].values[4, 0] == 4.0
    assert verify(folder / "slide.h5") == []
    assert "nothing to do" in take(folder, folder / "stamp").message
    with pytest.raises(RequestError, match="another request"):
        take(folder, folder / "stamp", mpp=0.25)
    take(folder, folder / "stamp", mpp=0.25, force=True)
    with Store(folder / "slide.h5") as store:
        assert store.bags["slide"].rows("coords", 3)[2].tolist() == [896.0, 896.0, 448.0, 448.0, 224.0, 224.0]
        assert {(s.mpp, s.mpp_source) for s in store.bags["slide"].sources} == {(0.25, "--mpp")}


def test_stamp_without_an_mpp_stays_in_micrometres(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stamp(folder / "stamp" / "a1.h5", 3)
    (folder / "cohort.yaml").write_text(COHORT.replace(", mpp: mpp", ""))
    take(folder, folder / "stamp", quiet=False)
    assert "1 slides have no MPP (first: a1)" in capsys.readouterr().err
    with Store(folder / "slide.h5") as store:
        assert list(store.bags["slide"].meta.coords) == ["x_um", "y_um"]
        assert store.bags["slide"].sources[0].mpp_source == "none"


@pytest.mark.parametrize("source", ["job", "job/20x_256px_0px_overlap", "job/20x_256px_0px_overlap/features_uni_v1"])
def test_trident_takes_its_own_pixels(folder: Path, source: str) -> None:
    job = folder / "job" / "20x_256px_0px_overlap"
    features = write_trident(job / "features_uni_v1" / "a1.h5", 5)
    write_trident(job / "features_uni_v1" / "a2.h5", 2, patch_size_level0=682.6667)
    write_trident(job / "patches" / "a1_patches.h5", 5)
    (job / "slide_features_titan").mkdir()
    done = take(folder, folder / source, layout="trident")
    assert done.data["patients"] == 2 and done.data["left_out"] == 0
    with Store(folder / "slide.h5") as store:
        bag = store.bags["slide"]
        np.testing.assert_array_equal(bag.rows("features", 1), features)
        assert list(bag.meta.coords) == ["x", "y", "width", "height"] and bag.rows("coords", 1).dtype == np.int32
        assert bag.rows("coords", 1)[4].tolist() == [2048, 1024, 512, 512]
        assert bag.rows("coords", 2)[1].tolist() == [512, 1024, 683, 683]
        assert bag.meta.encoder == "uni_v1"
        assert bag.meta.settings == {
            "layout": "trident", "about": {"patch_size": 256, "target_magnification": 20, "overlap": 0},
        }  # fmt: skip
        about = json.loads(bag.sources[1].about)
        assert about["coords"]["patch_size_level0"] == 682.6667 and about["coords"]["level0_height"] == "None"
        assert about["features"]["encoder"] == "uni_v1"


def test_trident_slide_features_are_bags_of_one(folder: Path) -> None:
    vectors = folder / "job" / "slide_features_titan"
    vectors.mkdir(parents=True)
    for i in (1, 2):
        with h5py.File(vectors / f"a{i}.h5", "w") as file:
            file["features"] = np.arange(4, dtype=np.float32) + i
    with pytest.raises(RequestError, match=r"has slide features alone; give .*slide_features_titan itself"):
        take(folder, folder / "job", layout="trident")
    take(folder, vectors, layout="trident")
    with Store(folder / "slide.h5") as store:
        assert store.bags["slide"].rows("features", 2).tolist() == [[2.0, 3.0, 4.0, 5.0]]
        assert store.bags["slide"].meta.encoder == "titan"


@pytest.mark.parametrize("empty", [(0, 4), (0,)])
def test_a_slide_without_a_tile(folder: Path, empty: tuple[int, ...]) -> None:
    """Beside another slide it adds nothing; alone it is the patient's failure, and never a patient without a slide."""
    job = folder / "features_uni_v1"
    for name in ("a0", "a1", "b0"):
        write_trident(job / f"{name}.h5", 3)
    for name in ("a0", "a1"):
        with h5py.File(job / f"{name}.h5", "r+") as file:
            del file["features"], file["coords"]
            file["features"] = np.empty(empty, np.float32)
            file["coords"] = np.empty((0, 2) if len(empty) == 2 else (0,), np.int64)
            file["coords"].attrs.update(TRIDENT_COORDS)
    done = take(folder, job, layout="trident")
    assert done.exit_code == 3 and done.data["patients"] == 1 and done.data["failed"] == 1
    assert "holds no tile" in (folder / "slide.h5.failures.csv").read_text()
    with Store(folder / "slide.h5") as store:
        assert store.bags["slide"].failed.tolist() == [False, True] + [False] * 4
        np.testing.assert_array_equal(store.bags["slide"].rows("features", 0), features_of("b0", 3, "float32"))


@pytest.mark.parametrize(("part", "columns"), [("", 4), ("h5_files", 4), ("pt_files", 4), ("bare", 0)])
def test_clam_takes_the_size_from_the_patches(folder: Path, part: str, columns: int) -> None:
    features = write_clam(folder / "clam", "a4", 3)
    source = folder / "clam" / part
    if part == "bare":
        source.mkdir()
        (folder / "clam" / "pt_files" / "a4.pt").rename(source / "a4.pt")
        (folder / "clam" / "patches" / "a4.h5").unlink()
    take(folder, source, layout="clam", encoder="uni")
    with Store(folder / "slide.h5") as store:
        bag = store.bags["slide"]
        np.testing.assert_array_equal(bag.rows("features", 4), features)
        assert (bag.meta.encoder, len(bag.meta.coords)) == ("uni", columns)
        if columns:  # 256 px of a level that is 4 times smaller are 1024 px of level 0
            assert bag.rows("coords", 4).tolist() == [[i * 1024, 2048, 1024, 1024] for i in range(3)]


def test_clam_without_patches_knows_no_size(folder: Path) -> None:
    write_clam(folder / "clam", "a4", 3, patches=False)
    take(folder, folder / "clam", layout="clam")
    with Store(folder / "slide.h5") as store:
        assert list(store.bags["slide"].meta.coords) == ["x", "y"]


def test_a_file_may_be_named_by_its_folder_or_by_the_patient(folder: Path) -> None:
    write_stamp(folder / "stamp" / "a1" / "features.h5", 3)
    write_stamp(folder / "stamp" / "002.h5", 2)
    write_stamp(folder / "stamp" / "003" / "one.h5", 2)
    write_stamp(folder / "stamp" / "003" / "two.h5", 2)
    assert take(folder, folder / "stamp").data["patients"] == 3
    with Store(folder / "slide.h5") as store:
        assert np.diff(store.bags["slide"].offsets).tolist() == [0, 3, 2, 4, 0, 0]


def test_one_stem_of_two_patients(folder: Path) -> None:
    text = (folder / "patients.csv").read_text()
    (folder / "patients.csv").write_text(text.replace("svs/a2.svs", "other/a1.svs"))
    write_stamp(folder / "stamp" / "a1.h5", 3)
    with pytest.raises(RequestError, match="'a1' is the stem of a slide of patient 001 and of patient 002"):
        take(folder, folder / "stamp")
    (folder / "stamp" / "a1.h5").unlink()
    write_stamp(folder / "stamp" / "svs" / "a1.h5", 3)
    write_stamp(folder / "stamp" / "other" / "a1.h5", 2)
    take(folder, folder / "stamp")
    with Store(folder / "slide.h5") as store:
        assert np.diff(store.bags["slide"].offsets).tolist() == [0, 3, 2, 0, 0, 0]


def test_npz_of_several_rows(folder: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
    np.savez(folder / "f.npz", patient_id=np.array(["003", "001", "005", "nobody"]), x=x)
    done = take(folder, folder / "f.npz", layout="npz")
    assert done.data["patients"] == 3 and done.data["left_out"] == 1
    with Store(folder / "slide.h5") as store:
        np.testing.assert_array_equal(store.bags["slide"].rows("features", 1), x[1])
        assert store.bags["slide"].meta.encoder == "npz"


def test_float64_becomes_float32(folder: Path) -> None:
    x = np.array([[0.1, 1 / 3]])
    np.savez(folder / "f.npz", patient_id=np.array(["001"]), x=x)
    take(folder, folder / "f.npz", layout="npz")
    with Store(folder / "slide.h5") as store:
        assert store.bags["slide"].rows("features", 1).tolist() == x.astype(np.float32).tolist()


def test_real_npz_of_tissue_tiles(data: Path, tmp_path: Path) -> None:
    """HANCOCK's HE tiles as the data folder packs them: 760 patients, one row of 512 each."""
    source = data / "tables" / "hancock" / "tma_tile_dtr_256_HE.npz"
    with np.load(source) as content:
        ids, x = content["patient_id"], content["x"]
    (tmp_path / "patients.csv").write_text("patient_id\n" + "\n".join(ids) + "\n")
    (tmp_path / "cohort.yaml").write_text("patients: patients.csv\nid: patient_id\nmodalities: {}\n")
    done = take(tmp_path, source, layout="npz")
    assert done.data["patients"] == 760
    with Store(tmp_path / "slide.h5") as store:
        np.testing.assert_array_equal(store.bags["slide"].arrays["features"][:], x)


def test_a_real_feature_file_without_unit(data: Path, tmp_path: Path) -> None:
    """mopadi's slide of TCGA: an old file, (777, 512) float32 and level-0 pixels on a grid of 512, no attributes."""
    source = data / "images" / "feature_h5" / "mopadi"
    (tmp_path / "cohort.yaml").write_text(
        "patients: patients.csv\nid: patient_id\nmodalities: {slide: {kind: slide, path: path}}\n"
    )
    (tmp_path / "patients.csv").write_text("patient_id,path\nTCGA-AD-6964,TCGA-AD-6964-01Z-00-DX1.svs\nother,\n")
    with pytest.raises(RequestError, match=r"its coords have no unit.* give --unit um, or --unit px"):
        take(tmp_path, source)
    with pytest.raises(RequestError, match=r"lacks the dataset 'features'.*it looks like STAMP's: give --layout stamp"):
        take(tmp_path, source / "TCGA-AD-6964-01Z-00-DX1" / "features.h5", layout="clam")
    take(tmp_path, source, unit="px")
    with Store(tmp_path / "slide.h5") as store, h5py.File(next(source.rglob("*.h5"))) as real:
        bag = store.bags["slide"]
        np.testing.assert_array_equal(bag.rows("features", 0), real["feats"][:])
        coords = bag.rows("coords", 0)
        assert list(bag.meta.coords) == ["x", "y"] and coords.shape == (777, 2)
        assert coords[139].tolist() == [16896, 20480] and coords.min(0).tolist() == [9728, 10752]


def test_real_coordinates_of_clam_are_no_features(data: Path, tmp_path: Path) -> None:
    source = data / "images" / "feature_h5" / "clam_patches_fp"
    (tmp_path / "patients.csv").write_text("patient_id\n" + "\n".join(p.stem for p in source.glob("*.h5")) + "\n")
    (tmp_path / "cohort.yaml").write_text("patients: patients.csv\nid: patient_id\nmodalities: {}\n")
    for layout in ("clam", "trident", "stamp"):
        with pytest.raises(RequestError, match="has the coordinates of tiles and no features"):
            take(tmp_path, source, layout=layout)
    assert not (tmp_path / "slide.h5").exists()


def test_features_with_real_coordinates_of_clam(data: Path, tmp_path: Path) -> None:
    """Three real tilings with made features: the sizes and corners are those of the files."""
    source = data / "images" / "feature_h5" / "clam_patches_fp"
    (tmp_path / "clam" / "pt_files").mkdir(parents=True)
    (tmp_path / "clam" / "patches").symlink_to(source)
    ids = sorted(p.stem for p in source.glob("*.h5"))
    (tmp_path / "patients.csv").write_text("patient_id\n" + "\n".join(ids) + "\n")
    (tmp_path / "cohort.yaml").write_text("patients: patients.csv\nid: patient_id\nmodalities: {}\n")
    for name, rows in zip(ids, (1481, 7856, 8400), strict=True):
        torch.save(torch.zeros(rows, 2), tmp_path / "clam" / "pt_files" / f"{name}.pt")
    assert take(tmp_path, tmp_path / "clam", layout="clam").data["patients"] == 3
    with Store(tmp_path / "slide.h5") as store:
        for i, name in enumerate(ids):
            with h5py.File(source / f"{name}.h5") as real:
                np.testing.assert_array_equal(store.bags["slide"].rows("coords", i)[:, :2], real["coords"][:])
            assert (store.bags["slide"].rows("coords", i)[:, 2:] == 512).all()


def spoil(path: Path, **changes: Any) -> None:
    """Replace datasets (None: delete) of a file."""
    with h5py.File(path, "r+") as file:
        for name, value in changes.items():
            kept = dict(file[name].attrs)
            del file[name]
            if value is not None:
                file[name] = value
                file[name].attrs.update(kept)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


NAN = np.array([[0, 1, 2, np.nan]] * 3, np.float32)
BAD = {
    "stamp: no HDF5": (lambda p: p.write_bytes(b"nothing"), "not HDF5"),
    "stamp: no byte": (lambda p: p.write_bytes(b""), "not HDF5"),
    "stamp: cut off": (cut, "not HDF5, truncated"),
    "stamp: NaN": (lambda p: spoil(p, feats=NAN.astype(np.float16)), "NaN or infinity"),
    "stamp: no feats": (lambda p: spoil(p, feats=None), "lacks the dataset 'feats'"),
    "stamp: rows": (lambda p: spoil(p, coords=np.zeros((1, 2))), r"coords is float64 \(1, 2\) for 3"),
    "stamp: NaN coords": (lambda p: spoil(p, coords=np.full((3, 2), np.nan)), "coords hold NaN"),
    "stamp: integers": (lambda p: spoil(p, feats=np.ones((3, 4), int)), "expected floats"),
    "stamp: pixels": (lambda p: write_stamp(p, 3, unit="px"), "counts in um"),
    "stamp: no unit": (lambda p: write_stamp(p, 3, unit=None), "have no unit"),
    "stamp: newer": (lambda p: write_stamp(p, 3, stamp_version="3.0.1"), "made by STAMP 3.0.1"),
    "stamp: slide": (lambda p: write_stamp(p, 3, feat_type="slide"), "only tile features"),
    "trident: cut off": (cut, "not HDF5, truncated"),
    "trident: NaN": (lambda p: spoil(p, features=NAN), "NaN or infinity"),
    "trident: no features": (lambda p: spoil(p, features=None), "coordinates of tiles and no features"),
    "trident: no coords": (lambda p: spoil(p, coords=None), "lacks the dataset 'coords'"),
    "trident: rows": (lambda p: spoil(p, coords=np.zeros((2, 2), int)), r"\(2, 2\) for 3"),
    "trident: micrometres": (lambda p: spoil(p, coords=np.full((3, 2), 0.5)), "are they micrometres"),
    "trident: outside": (lambda p: write_trident(p, 3, level0_width=1024), "not in level-0 pixels"),
    "trident: no size": (lambda p: write_trident(p, 3, patch_size_level0="None"), "no attribute 'patch_size_level0'"),
    "clam: cut off": (cut, "not HDF5, truncated"),
    "clam: NaN": (lambda p: spoil(p, features=NAN), "NaN or infinity"),
    "clam: rows": (lambda p: spoil(p, coords=np.zeros((2, 2), int)), r"\(2, 2\) for 3"),
    "clam: other coords": (lambda p: spoil(p, coords=np.zeros((3, 2), int)), "coords differ from those of"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_a_failure(folder: Path, case: str) -> None:
    layout = case.partition(":")[0]
    top, files = folder / layout, {}
    for i in (1, 2):
        if layout == "clam":
            write_clam(top, f"a{i}", 3)
        files[i] = top / {"clam": "h5_files", "stamp": "", "trident": "features_uni"}[layout] / f"a{i}.h5"
        if layout != "clam":
            (write_stamp if layout == "stamp" else write_trident)(files[i], 3)
    make, reason = BAD[case]
    make(files[2])
    done = take(folder, top, layout=layout)
    assert done.exit_code == 3 and done.data["patients"] == 1
    again = take(folder, top, layout=layout)
    assert again.exit_code == 3 and "nothing to do" in again.message
    assert take(folder, top, layout=layout, allow_failures="any").exit_code == 0
    listed = (folder / "slide.h5.failures.csv").read_text()
    assert re.search(reason, listed) and len(listed.splitlines()) == 2
    assert listed.splitlines()[1].startswith("002,slide,")
    with Store(folder / "slide.h5") as store:
        assert store.bags["slide"].failed.tolist() == [False, False, True, False, False, False]


class Harmful:
    """What a pickle of an object runs when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_in_a_tensors_place_runs_nothing(folder: Path) -> None:
    pt = folder / "clam" / "pt_files"
    pt.mkdir(parents=True)
    torch.save(torch.ones(2, 3), pt / "a1.pt")
    torch.save(Harmful(folder / "ran"), pt / "a2.pt")
    torch.save({"features": torch.ones(2, 3)}, pt / "a3.pt")
    torch.save(torch.ones(2, 3), pt / "a4.pt")
    cut(pt / "a4.pt")
    torch.save(torch.ones(3), pt / "a5.pt")
    assert take(folder, pt, layout="clam").data["failed"] == 4
    assert not (folder / "ran").exists()
    reasons = [line.split(",", 3)[3] for line in (folder / "slide.h5.failures.csv").read_text().splitlines()[1:]]
    for reason, told in zip(
        reasons, ("objects other than a tensor", "holds a dict", "truncated", "expected floats (N, dim)"), strict=True
    ):
        assert told in reason


def test_what_does_not_belong_together_is_refused(folder: Path) -> None:
    write_stamp(folder / "stamp" / "a1.h5", 3)
    write_stamp(folder / "stamp" / "a2.h5", 3, extractor="uni")
    with pytest.raises(RequestError, match=r"other encoder \(uni\) than a1.h5 \(ctranspath\)"):
        take(folder, folder / "stamp")
    write_stamp(folder / "stamp" / "a2.h5", 3, tile_size_um=256.0)
    with pytest.raises(RequestError, match=r"other tile_size_um \(256.0\)"):
        take(folder, folder / "stamp")
    write_stamp(folder / "stamp" / "a2.h5", 3)
    with pytest.raises(RequestError, match="says that ctranspath made it, --encoder says uni"):
        take(folder, folder / "stamp", encoder="uni")
    text = (folder / "patients.csv").read_text()
    (folder / "patients.csv").write_text(text.replace("a1.svs,0.5", "a1.svs,"))
    with pytest.raises(RequestError, match=r"other coordinates .*the MPP is known of one of them only"):
        take(folder, folder / "stamp")
    (folder / "patients.csv").write_text(text)
    write_stamp(folder / "stamp" / "again" / "a2.h5", 3)
    with pytest.raises(RequestError, match=r"is the same slide's as .*a2\.h5 \(patient 002\)"):
        take(folder, folder / "stamp")
    for encoder in ("uni", "conch"):
        write_trident(folder / "job" / f"features_{encoder}" / "a1.h5", 3, encoder)
    with pytest.raises(RequestError, match=r"several kinds \(features_conch, features_uni\); give one"):
        take(folder, folder / "job", layout="trident")
    write_clam(folder / "clam", "a1", 3)
    torch.save(torch.ones(2, 4), folder / "clam" / "pt_files" / "a2.pt")
    with pytest.raises(RequestError, match="pt_files has 1 slides that h5_files lacks"):
        take(folder, folder / "clam", layout="clam")
    assert not (folder / "slide.h5").exists()


def test_a_wrong_folder_says_what_it_looks_like(folder: Path) -> None:
    write_stamp(folder / "stamp" / "a1.h5", 3)
    write_trident(folder / "job" / "features_uni" / "a1.h5", 3)
    write_clam(folder / "clam", "a1", 3)
    for source, wrong, right in (
        ("stamp", "clam", "STAMP's: give --layout stamp"),
        ("stamp", "trident", "STAMP's: give --layout stamp"),
        ("stamp", "npz", "STAMP's: give --layout stamp"),
        ("job", "stamp", "TRIDENT's: give --layout trident"),
        ("job", "clam", "TRIDENT's: give --layout trident"),
        ("job/features_uni", "clam", "TRIDENT's: give --layout trident"),
        ("clam", "stamp", "CLAM's: give --layout clam"),
        ("clam/h5_files", "trident", "CLAM's: give --layout clam"),
    ):
        with pytest.raises(RequestError, match=f"it looks like {right}"):
            take(folder, folder / source, layout=wrong)
    with pytest.raises(RequestError, match="no such file or folder"):
        take(folder, folder / "none")
    (folder / "empty").mkdir()
    for layout in ("stamp", "trident", "clam", "npz"):
        with pytest.raises(RequestError, match=r"no \S+ (file )?(there|and)"):
            take(folder, folder / "empty", layout=layout)
    with pytest.raises(RequestError, match="did you mean 'trident'"):
        take(folder, folder / "job", layout="tridant")


def test_what_belongs_to_nobody_is_refused(folder: Path) -> None:
    write_stamp(folder / "other" / "q.h5", 2)
    with pytest.raises(RequestError, match=r"nothing in it belongs to a patient .*first there: q; first patients: 000"):
        take(folder, folder / "other")
    write_stamp(folder / "upper" / "A1.h5", 2)
    with pytest.raises(RequestError, match="'A1' differs from the cohort's 'a1' by upper and lower case only"):
        take(folder, folder / "upper")
    assert not (folder / "slide.h5").exists()
