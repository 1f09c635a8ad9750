"""store export: what is written, and that import(export(store)) and export(import(files)) give back every bit."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcli.errors import DamagedError, RequestError
from mmcli.settings import StoreExportSettings, StoreImportSettings
from mmcli.stages import exports, imports
from mmcli.store import BagData, BagMeta, Patients, Source, Store, write_store
from mmcli.store.hdf5 import Rows

LEVEL_0 = ("x", "y", "width", "height")
PREPARED = {"prepared": {"tile_px": 224, "target_mpp": 0.5, "mpp": None, "min_tissue": 0.5}, "encoder": {}, "batch": 32}


def write_cohort(folder: Path, patients: dict[str, list[str]], mpp: float | None = 0.25) -> Path:
    lines = ["patient_id,path,mpp"] + [f"{p},{';'.join(s)},{mpp or ''}" for p, s in patients.items()]
    (folder / "patients.csv").write_text("\n".join(lines) + "\n")
    (folder / "cohort.yaml").write_text(
        "patients: patients.csv\nid: patient_id\nmodalities: {slide: {kind: slide, path: path, mpp: mpp}}\n"
    )
    return folder / "cohort.yaml"


def make_store(
    out: Path,
    patients: dict[str, dict[str, int]],
    dtype: str = "float16",
    columns: tuple[str, ...] = LEVEL_0,
    side: Any = 448,
    mpp: float = 0.25,
    folds: dict[str, np.ndarray] | None = None,
    seed: int = 0,
) -> Path:
    """A store as preprocess and extract-features make it: {patient: {path of a slide: number of tiles}}."""
    rng = np.random.default_rng(seed)
    counts = [sum(slides.values()) for slides in patients.values()]
    sources = [Source(path, 10, f"f-{path}", mpp, "metadata") for slides in patients.values() for path in slides]
    owner = np.repeat(np.arange(len(sources)), [n for slides in patients.values() for n in slides.values()])
    total = sum(counts)
    coords = np.column_stack([rng.integers(0, 150_000, (total, 2)), np.full((total, 2), side)])[:, : len(columns)]
    arrays = {
        "features": Rows.of(rng.normal(size=(total, 5)).astype(dtype)),
        "source": Rows.of(owner.astype(np.int32)),
    }
    if columns:
        arrays["coords"] = Rows.of(coords.astype(np.int32))
    present = np.array([bool(slides) for slides in patients.values()])
    bag = BagData(
        BagMeta("slide", "resnet50", "w", PREPARED, columns), present, np.zeros(len(patients), bool),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), arrays, sources,
    )  # fmt: skip
    write_store(out, {"made": seed}, Patients(list(patients), None, {}, folds or {}), {}, {"slide": bag})
    return out


def export(store: Path, layout: str, out: Path, **given: Any) -> Any:
    return exports.run(
        StoreExportSettings(stores=[store], modality="slide", layout=layout, out=out, quiet=True, **given)
    )


def take(source: Path, layout: str, cohort: Path, out: Path, **given: Any) -> Any:
    return imports.run(
        StoreImportSettings(folder=source, layout=layout, modality="slide", cohort=cohort, out=out, quiet=True, **given)
    )


TWO = {"p1": {"s/b.svs": 3, "s/a.svs": 2}, "p2": {}, "p3": {"s/c.svs": 4}}
NAMES = {p: list(s) for p, s in TWO.items()}


def contents(path: Path) -> dict[str, Any]:
    """Every dataset and attribute of an HDF5 file, with its type."""
    found: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = (item.dtype, item.shape, item[()].tobytes())
        for key, value in item.attrs.items():
            array = np.asarray(value)
            found[f"{name}@{key}"] = (array.dtype.kind, array.shape, array.tolist())

    with h5py.File(path) as file:
        note("", file)
        file.visititems(note)
    return found


def test_trident_files_of_a_native_store(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.h5", TWO)
    done = export(store, "trident", tmp_path / "job")
    assert done.data == {"out": str(tmp_path / "job"), "patients": 2, "slides": 3}
    job = tmp_path / "job" / "20x_224px_0px_overlap"
    names = sorted(str(p.relative_to(job)) for p in job.rglob("*.h5"))
    assert names == [f"{d}/{n}{s}.h5" for d, s in (("features_resnet50", ""), ("patches", "_patches")) for n in "abc"]
    with Store(store) as native, h5py.File(job / "features_resnet50" / "a.h5") as file:
        bag = native.bags["slide"]
        np.testing.assert_array_equal(file["features"][:], bag.rows("features", 0)[3:])
        assert file["features"].dtype == np.float16 and file["coords"].dtype == np.int64
        np.testing.assert_array_equal(file["coords"][:], bag.rows("coords", 0)[3:, :2])
        told = dict(file["coords"].attrs)
        assert isinstance(told["patch_size_level0"], float)
        assert (told["patch_size"], told["patch_size_level0"], told["overlap"]) == (224, 448.0, 0)
        # 0.25 µm per pixel are 40x, 0.5 are 20x
        assert (told["level0_magnification"], told["target_magnification"], told["name"]) == (40, 20, "a")
        assert dict(file["features"].attrs) == {"name": "a", "savetodir": "None", "encoder": "resnet50"}
        assert list(file) == ["coords", "features"]


def test_clam_files_of_a_native_store(tmp_path: Path) -> None:
    roles = np.array([[1, 3, 0], [1, 1, 1], [3, 2, 1]], np.int8)
    store = make_store(tmp_path / "s.h5", TWO, folds={"cv": roles})
    export(store, "clam", tmp_path / "clam")
    out = tmp_path / "clam"
    with Store(store) as native, h5py.File(out / "h5_files" / "c.h5") as file:
        features = native.bags["slide"].rows("features", 2)
        assert file["features"].dtype == np.float32 and file["coords"].dtype == np.int32
        np.testing.assert_array_equal(file["features"][:], features)
        tensor = torch.load(out / "pt_files" / "c.pt", weights_only=True)
        assert tensor.dtype == torch.float32 and np.array_equal(tensor.numpy(), features)
    with h5py.File(out / "patches" / "c.h5") as file:
        assert (file["coords"].attrs["patch_size"], file["coords"].attrs["patch_level"]) == (448, 0)
    # Read as CLAM reads them: by the names of the columns
    splits = [pd.read_csv(out / "splits" / "cv" / f"splits_{k}.csv") for k in range(3)]
    assert splits[0]["train"].dropna().tolist() == ["b", "a"] and splits[0]["test"].dropna().tolist() == ["c"]
    assert splits[0]["val"].dropna().tolist() == []
    assert splits[1]["val"].dropna().tolist() == ["c"] and splits[1]["test"].dropna().tolist() == ["b", "a"]
    assert splits[2]["train"].dropna().tolist() == ["c"] and splits[2]["test"].dropna().tolist() == []


def test_stamp_files_of_a_native_store(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.h5", TWO)
    export(store, "stamp", tmp_path / "stamp")
    with Store(store) as native, h5py.File(tmp_path / "stamp" / "b.h5") as file:
        pixels = native.bags["slide"].rows("coords", 0)[:3, :2]
        np.testing.assert_array_equal(file["coords"][:], (pixels * 0.25).astype(np.float32))
        assert file["feats"].dtype == np.float16
        told = dict(file.attrs)
        assert (told["unit"], told["extractor"], told["feat_type"]) == ("um", "resnet50", "tile")
        assert (told["tile_size_um"], told["tile_size_px"]) == (112.0, 224)


def test_npz_of_a_native_store(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.h5", TWO)
    export(store, "npz", tmp_path / "f.npz")
    assert "nothing to do" in export(store, "npz", tmp_path / "f.npz").message
    with Store(store) as native, np.load(tmp_path / "f.npz") as content:
        assert content["patient_id"].tolist() == ["p1"] * 5 + ["p3"] * 4
        np.testing.assert_array_equal(content["x"], native.bags["slide"].arrays["features"][:])
        assert content["columns"].tolist() == list(LEVEL_0)
    with pytest.raises(RequestError, match=r"another request \(name_by"):
        export(store, "npz", tmp_path / "f.npz", name_by="patient")


cohorts = st.dictionaries(
    st.from_regex(r"[a-z0-9][a-z0-9 _.-]{0,6}[a-z0-9]", fullmatch=True),
    st.lists(st.integers(1, 4), max_size=3),
    min_size=1,
    max_size=4,
).filter(lambda cohort: any(cohort.values()))


@pytest.mark.parametrize("layout", ["trident", "clam", "stamp", "npz"])
@settings(max_examples=15, deadline=None)
@given(
    cohort=cohorts,
    dtype=st.sampled_from(["float16", "float32"]),
    side=st.sampled_from([448, 1, 512]),
    ragged=st.booleans(),
    mpp=st.floats(0.1, 2.0),
    by=st.sampled_from(["slide", "patient"]),
    seed=st.integers(0, 99),
)
def test_a_store_comes_back_bit_for_bit(
    layout: str, cohort: dict[str, list[int]], dtype: str, side: int, ragged: bool, mpp: float, by: str, seed: int
) -> None:
    """Features and coordinates of a native store, whatever it holds: tiles of several sizes, odd ids and names."""
    patients = {p: {f"d/{i}.slide {j}.svs": n for j, n in enumerate(s)} for i, (p, s) in enumerate(cohort.items())}
    total = sum(n for slides in patients.values() for n in slides.values())
    if ragged and layout in ("clam", "stamp"):  # TRIDENT's layout refuses what has no single size
        side = np.arange(2 * total).reshape(-1, 2) + 1  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given_cohort = write_cohort(folder, {p: list(s) for p, s in patients.items()}, mpp)
        store = make_store(folder / "s.h5", patients, dtype, LEVEL_0, side, mpp, seed=seed)
        out = folder / ("f.npz" if layout == "npz" else "out")
        export(store, layout, out, name_by=by)
        take(out, layout, given_cohort, folder / "back.h5")
        with Store(store) as one, Store(folder / "back.h5") as two:
            for array in ("features", "coords"):
                old, new = one.bags["slide"].arrays[array], two.bags["slide"].arrays[array]
                assert old.dtype == new.dtype and old[:].tobytes() == new[:].tobytes(), array
            assert one.bags["slide"].offsets.tolist() == two.bags["slide"].offsets.tolist()
            assert list(one.bags["slide"].meta.coords) == list(two.bags["slide"].meta.coords)


def write_trident(folder: Path, name: str, rows: int, rng: Any, **told: Any) -> None:
    job = folder / "10x_256px_8px_overlap"
    attributes = {
        "patch_size": 256, "patch_size_level0": 1024.0, "level0_magnification": 40, "target_magnification": 10,
        "overlap": 8, "name": name, "savetodir": "/job/x", "level0_width": 99_000, "level0_height": "None",
        "extra": np.array([1.5, 2.5], np.float32), "flag": True, "config": json.dumps({"a": 1}), **told,
    }  # fmt: skip
    for path in (job / "features_uni_v2" / f"{name}.h5", job / "patches" / f"{name}_patches.h5"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            if "features" in str(path.parent.name):
                file["features"] = rng.normal(size=(rows, 6)).astype(np.float32)
                file["features"].attrs.update({"name": name, "savetodir": "/job/x", "encoder": "uni_v2"})
                coords = rng.integers(0, 90_000, (rows, 2))
            file["coords"] = coords
            file["coords"].attrs.update(attributes)


def write_clam(folder: Path, name: str, rows: int, rng: Any, patches: bool) -> None:
    for part in ("h5_files", "pt_files", *(["patches"] if patches else [])):
        (folder / part).mkdir(parents=True, exist_ok=True)
    features = rng.normal(size=(rows, 6)).astype(np.float32)
    coords = rng.integers(0, 90_000, (rows, 2))
    with h5py.File(folder / "h5_files" / f"{name}.h5", "w") as file:
        file["features"], file["coords"] = features, coords.astype(np.int32)
    torch.save(torch.from_numpy(features), folder / "pt_files" / f"{name}.pt")
    if patches:
        with h5py.File(folder / "patches" / f"{name}.h5", "w") as file:
            file["coords"] = coords.astype(np.int64)
            told = {"patch_size": 256, "patch_level": 1, "downsample": np.array([4.0, 4.0]), "name": name}
            file["coords"].attrs.update(told)


def write_stamp(folder: Path, name: str, rows: int, rng: Any, dtype: str = "f2", **told: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["feats"] = rng.normal(size=(rows, 6)).astype(dtype)
        file["coords"] = rng.uniform(0, 40_000, (rows, 2)).astype(np.float32)
        attributes = {
            "extractor": "virchow2", "unit": "um", "tile_size_um": 256.0, "tile_size_px": 224, "code_hash": "ab12",
            "feat_type": "tile", "stamp_version": "2.3.0", **told,
        }  # fmt: skip
        file.attrs.update(attributes)


FORMS = ["trident", "clam", "clam, no patches", "stamp", "stamp, no MPP", "stamp float32", "trident vectors"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_files_come_back_as_they_were(tmp_path: Path, form: str, seed: int) -> None:
    """Every array and attribute, type included, through a store (and through a packed one) and out again."""
    rng = np.random.default_rng(seed)
    old, layout = tmp_path / "old", form.split(",")[0].split()[0]
    for name, rows in (("b", 3), ("a", 5), ("c", 1)):
        if form == "trident":
            # the size may differ by slide, and need not be a whole number of pixels
            write_trident(old, name, rows, rng, patch_size_level0=512 + rng.random(), level0_magnification=20)
        elif form == "trident vectors":
            path = old / "slide_features_titan" / f"{name}.h5"
            path.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(path, "w") as file:
                file["features"] = rng.normal(size=6).astype(np.float32)
                file["features"].attrs.update({"name": name, "savetodir": "/job/x"})
        elif layout == "clam":
            write_clam(old, name, rows, rng, patches=form == "clam")
        else:
            write_stamp(old, name, rows, rng, "f4" if "float32" in form else "f2", made=np.float32(rows))
    cohort = write_cohort(tmp_path, NAMES, None if "no MPP" in form else 0.2271)
    source = old / "slide_features_titan" if form == "trident vectors" else old
    take(source, layout, cohort, tmp_path / "s.h5")
    export(tmp_path / "s.h5", layout, tmp_path / "new")
    before = {str(p.relative_to(old)) for p in old.rglob("*") if p.is_file()}
    after = {str(p.relative_to(tmp_path / "new")) for p in (tmp_path / "new").rglob("*") if p.is_file()}
    assert after == before | {"mmcli-export.json"}
    for name in before:
        if name.endswith(".pt"):
            one, two = (torch.load(p / name, weights_only=True) for p in (old, tmp_path / "new"))
            assert one.dtype == two.dtype and torch.equal(one, two)
        else:
            assert contents(tmp_path / "new" / name) == contents(old / name), name


def test_from_one_layout_to_another_keeps_the_pixels(tmp_path: Path) -> None:
    """STAMP's micrometres at 0.25 µm per pixel become TRIDENT's and CLAM's pixels, by hand; and the way back."""
    (tmp_path / "stamp").mkdir()
    with h5py.File(tmp_path / "stamp" / "c.h5", "w") as file:
        file["feats"] = np.ones((2, 3), np.float16)
        file["coords"] = np.array([[0, 256], [512, 256]], np.float32)
        file.attrs.update({"extractor": "e", "unit": "um", "tile_size_um": 256.0, "tile_size_px": 224})
    cohort = write_cohort(tmp_path, NAMES, 0.25)
    take(tmp_path / "stamp", "stamp", cohort, tmp_path / "s.h5")
    export(tmp_path / "s.h5", "trident", tmp_path / "job")
    with h5py.File(next((tmp_path / "job").rglob("features_e/c.h5"))) as file:
        assert file["coords"][:].tolist() == [[0, 1024], [2048, 1024]]
        assert (file["coords"].attrs["patch_size"], file["coords"].attrs["patch_size_level0"]) == (224, 1024.0)
    export(tmp_path / "s.h5", "clam", tmp_path / "clam")
    with h5py.File(tmp_path / "clam" / "patches" / "c.h5") as file:
        assert file["coords"][:].tolist() == [[0, 1024], [2048, 1024]] and file["coords"].attrs["patch_size"] == 1024
    for layout, folder in (("trident", "job"), ("clam", "clam")):
        take(tmp_path / folder, layout, cohort, tmp_path / f"{layout}.h5")
        shutil.rmtree(tmp_path / "stamp")
        export(tmp_path / f"{layout}.h5", "stamp", tmp_path / "stamp")
        with h5py.File(tmp_path / "stamp" / "c.h5") as file:
            assert file["coords"][:].tolist() == [[0, 256], [512, 256]] and file.attrs["tile_size_um"] == 256.0


def test_a_second_run_does_nothing_and_another_request_is_refused(tmp_path: Path) -> None:
    store, out = make_store(tmp_path / "s.h5", TWO), tmp_path / "job"
    export(store, "trident", out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert export(store, "trident", out).message == f"{out} holds this already: nothing to do"
    with pytest.raises(RequestError, match=r'another request .*layout: "trident" there, "stamp" now'):
        export(store, "stamp", out)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before
    some = next(out.rglob("features_*/a.h5"))
    some.write_bytes(some.read_bytes()[:100])
    with pytest.raises(DamagedError, match="is not as it was written"):
        export(store, "trident", out)
    export(store, "trident", out, force=True)
    assert "nothing to do" in export(store, "trident", out).message
    (out / "notes.txt").write_text("mine")
    with pytest.raises(RequestError, match=r"holds 'notes\.txt' beside the export"):
        export(store, "stamp", out, force=True)
    (out / "notes.txt").unlink()
    export(store, "stamp", out, force=True)
    assert sorted(p.name for p in out.iterdir()) == ["a.h5", "b.h5", "c.h5", "mmcli-export.json"]
    other = make_store(tmp_path / "t.h5", TWO, seed=1)
    with pytest.raises(RequestError, match=r"another request .*inputs"):
        export(other, "stamp", out)
    assert export(store, "clam", tmp_path / "dry", dry_run=True).message.startswith("would write")
    assert not (tmp_path / "dry").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["job", "s.h5", "t.h5"]


def test_two_slides_of_one_name(tmp_path: Path) -> None:
    for second, told in (("y/a.svs", "are both named 'a'"), ("y/A.svs", "differ by case only: 'A'")):
        store = make_store(tmp_path / "s.h5", {"p1": {"x/a.svs": 2}, "p2": {second: 3}})
        with pytest.raises(RequestError, match=f"of patient p1 and one of patient p2 {told}.*--name-by patient"):
            export(store, "stamp", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    export(store, "stamp", tmp_path / "out", name_by="patient")
    assert sorted(p.name for p in (tmp_path / "out").glob("*.h5")) == ["p1.h5", "p2.h5"]


def test_what_a_layout_cannot_say_is_refused(tmp_path: Path) -> None:
    bare = make_store(tmp_path / "bare.h5", TWO, columns=())
    no_mpp = make_store(tmp_path / "mpp.h5", TWO, mpp=0.0)
    no_size = make_store(tmp_path / "size.h5", TWO, columns=("x", "y"))
    for store, layout, told in (
        (bare, "trident", "slide b of patient p1: has no level-0 coordinates .* which TRIDENT's layout needs"),
        (bare, "stamp", "which STAMP's layout needs"),
        (no_mpp, "stamp", "does not know its MPP, and STAMP's layout needs micrometres"),
        (no_size, "trident", "does not know one size of its tiles"),
    ):
        with pytest.raises(RequestError, match=told):
            export(store, layout, tmp_path / "out")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["bare.h5", "mpp.h5", "size.h5"]
    export(bare, "clam", tmp_path / "out")
    with h5py.File(tmp_path / "out" / "h5_files" / "c.h5") as file:
        assert list(file) == ["features"]


def test_npz_that_was_imported_goes_out_by_patient(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", patient_id=np.array(["p1", "p1", "p3"]), x=np.ones((3, 4), np.float32))
    take(tmp_path / "f.npz", "npz", write_cohort(tmp_path, NAMES), tmp_path / "s.h5")
    export(tmp_path / "s.h5", "clam", tmp_path / "clam")
    assert sorted(p.name for p in (tmp_path / "clam" / "pt_files").iterdir()) == ["p1.pt", "p3.pt"]


def test_the_real_feature_file_comes_back(data: Path, tmp_path: Path) -> None:
    source = next((data / "images" / "feature_h5" / "mopadi").rglob("*.h5"))
    cohort = write_cohort(tmp_path, {"p": ["features.svs"]}, 0.5)
    take(source, "stamp", cohort, tmp_path / "s.h5", unit="px")
    export(tmp_path / "s.h5", "stamp", tmp_path / "out")
    assert contents(tmp_path / "out" / "features.h5") == contents(source)
