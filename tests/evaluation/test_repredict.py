"""Predicting again from a run's weights: to the run's own numbers, and to those of stores that lack what is hidden."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmcli.errors import DamagedError, RequestError
from mmcli.evaluation.repredict import Repredictor
from mmcli.methods import METHODS
from mmcli.settings import DistillSettings, GuideSettings, ImputeSettings, PredictSettings, TeacherSettings
from mmcli.stages import distill, guide, impute, predict, teacher
from mmcli.store import BagData, BagMeta, Label, Patients, Stores, Table, write_store
from mmcli.store.hdf5 import Rows
from mmcli.store.parts import Source
from mmcli.training.withhold import withheld

N = 48
IDS = [f"p{i:04}" for i in range(N)]
ROLES = np.stack([np.roll(np.repeat([1, 2, 3, 0], [26, 8, 12, 2]), 12 * k) for k in range(2)], 1).astype(np.int8)
ALL = np.ones(N, bool)
NAMES = ["attention", "kd", "guide", "several"]


def write(path: Path, lacking: dict[str, Any] | None = None) -> Path:
    """A store of 48 patients: a slide of 1 to 5 tiles (every 7th has none) from one or two files, a table with holes
    (every 5th has none); `lacking` (modality -> mask) takes it from more of them."""
    lacking = {"slide": np.zeros(N, bool), "t": np.zeros(N, bool)} | (lacking or {})
    rng = np.random.default_rng(0)
    y = np.arange(N) % 2
    counts = rng.integers(1, 6, N)
    tiles = [rng.normal(size=(c, 6)) + y[i] for i, c in enumerate(counts)]
    values = np.c_[rng.normal(size=N) + y, rng.integers(0, 2, N), rng.normal(size=N)]
    values[1::5, 0] = values[2::5, 2] = np.nan
    there = (np.arange(N) % 7 > 0) & ~lacking["slide"]
    present = (np.arange(N) % 5 > 0) & ~lacking["t"]
    values[~present] = np.nan
    kinds: list[Any] = ["numeric", "categorical", "numeric"]
    table = Table(["x", "site", "z"], kinds, {"site": ["A", "B"]}, present, values, ~np.isnan(values))
    counts[~there] = 0
    offsets = np.concatenate([[0], np.cumsum(counts)])
    owner = np.repeat(np.arange(N), counts)
    second = np.arange(len(owner)) - offsets[owner] >= 3  # a patient's tiles 4 and 5 are of another file
    source = (2 * owner + second).astype(np.int32)
    sources = [Source(f"{IDS[k // 2]}-{k % 2}.svs", 1, "f", 0.5) for k in range(2 * N)]
    arrays = {
        "features": Rows.of(np.concatenate([t for t, w in zip(tiles, there, strict=True) if w]).astype(np.float32)),
        "coords": Rows.of((np.arange(4 * len(owner)).reshape(-1, 4)).astype(np.int32)),
        "source": Rows.of(source),
    }
    meta = BagMeta("slide", "made", "random:0", {"mpp": 0.5}, ["x", "y", "width", "height"])
    label = Label(np.where(np.arange(N) == 3, -1, y), ["no", "yes"])
    bag = BagData(meta, there, np.zeros(N, bool), offsets, arrays, sources)
    patients = Patients(IDS, None, {"y": label}, {"cv": ROLES})
    write_store(path, {"made": path.name}, patients, {"t": table}, {"slide": bag}, root="/data/slides")
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """s.h5, its imputations i.h5 (mice) and m.h5 (three draws), and runs of two folds: attention, kd and guide with
    --imputer and --withhold, `several` with three draws, a cohort given anew, and a first store that turns the
    patients' order round."""
    home = tmp_path_factory.mktemp("repredict")
    store = write(home / "s.h5")
    cohort = pd.DataFrame({"id": IDS[::-1], "who": np.where(np.arange(N) % 3, "a", "b")})
    cohort = cohort.assign(part=["train"] * 26 + ["validation"] * 10 + ["test"] * 12)
    cohort.to_csv(home / "new.csv", index=False)
    (home / "new.yaml").write_text(
        "patients: new.csv\nid: id\nlabels: {who: [a, b]}\nfolds: {own: {column: part}}\nmodalities: {}\n"
    )
    fill: dict[str, Any] = {"stores": [store], "table": "t", "quiet": True}
    impute.run(ImputeSettings(**fill, method="mice", out=home / "i.h5"))
    impute.run(
        ImputeSettings(**fill, method="mice", out=home / "m.h5", imputations=3, cohort=home / "new.yaml", name="multi")
    )
    common: dict[str, Any] = {"stores": [store, home / "i.h5"], "imputer": "mice", "quiet": True}
    quick = {"epochs": "5", "width": "8"}
    teacher.run(TeacherSettings(**common, out=home / "attention", set=quick, withhold={"slide": "0.2", "t": "0.15"}))
    distill.run(DistillSettings(**common, out=home / "kd", set=quick, withhold={"t": "0.15"}, modalities=["t"],
                                teacher=home / "attention"))  # fmt: skip
    guide.run(GuideSettings(**common, out=home / "guide", set=quick | {"guide_epochs": "5"}, superior="slide",
                            inferior="t", withhold={"t": "0.15"}))  # fmt: skip
    write_store(home / "order.h5", {"made": "order"}, Patients(IDS[::-1]), {}, {})
    turned = [home / "order.h5", store, home / "m.h5"]
    teacher.run(TeacherSettings(stores=turned, imputer="multi", out=home / "several", set=quick,
                                cohort=home / "new.yaml", quiet=True))  # fmt: skip
    return home


def own(run: Path, part: str, task: str) -> pd.DataFrame:
    return pd.read_parquet(run / part / f"predictions-{task}.parquet")


def same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """To float tolerance; text that is None here and missing there is the same."""
    text = [c for c in ("patient_id", "split", "label", "modalities", "variant") if c in theirs]
    plain = [f.assign(**{c: f[c].astype(object).where(f[c].notna(), "") for c in text}) for f in (ours, theirs)]
    pd.testing.assert_frame_equal(*plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_with_nothing_hidden_it_says_what_the_run_says(home: Path, name: str) -> None:
    with Repredictor(home / name, METHODS) as run:
        frames = run.frames({})
        assert list(frames) == run.parts == (["own-0-seed-0"] if name == "several" else ["cv-0-seed-0", "cv-1-seed-0"])
        for part, tasks in frames.items():
            assert list(tasks) == ["who" if name == "several" else "y"]
            for task, frame in tasks.items():
                same(frame, own(home / name, part, task))
        nobody = dict.fromkeys((*run.modalities, "unheard-of"), ~ALL)
        for part, tasks in run.frames(nobody, ["test"]).items():
            for task, frame in tasks.items():
                theirs = own(home / name, part, task).query("split == 'test'").reset_index(drop=True)
                same(frame, theirs)


@pytest.mark.parametrize("name", ["attention", "kd"])
def test_the_same_as_predict_on_stores_that_lack_it(home: Path, tmp_path: Path, name: str) -> None:
    """A store is written without what is hidden now and what training withheld; `predict` fills its holes itself."""
    hidden = {"slide": np.arange(N) % 3 == 0, "t": np.arange(N) % 4 == 1}
    gone = {"t": hidden["t"] | withheld(IDS, "t", 0.15, 0)}
    gone["slide"] = hidden["slide"] | withheld(IDS, "slide", 0.2, 0)
    store = write(tmp_path / "s.h5", gone)
    with Repredictor(home / name, METHODS) as run:
        frames = run.frames(hidden)
        assert (run.present("t") == (np.arange(N) % 5 > 0) & ~withheld(IDS, "t", 0.15, 0)).all()
    for part, tasks in frames.items():
        predict.run(PredictSettings(run=home / name / part, stores=[store], out=tmp_path / f"{part}.csv", quiet=True))
        theirs = pd.read_csv(tmp_path / f"{part}.csv", keep_default_na=False).set_index("patient_id")
        theirs = theirs.loc[tasks["y"].patient_id]
        np.testing.assert_allclose(tasks["y"].p_yes, theirs.p_yes, atol=1e-6)
        assert (tasks["y"].modalities.to_numpy() == theirs.modalities.to_numpy()).all()
        before = own(home / name, part, "y")
        changed = hidden["t"] | (hidden["slide"] & (name == "attention"))
        kept = ~changed[[IDS.index(p) for p in before.patient_id]]
        np.testing.assert_allclose(tasks["y"].p_yes[kept], before.p_yes[kept], atol=1e-6)
        assert (np.abs(tasks["y"].p_yes - before.p_yes)[~kept] > 1e-4).sum() > 5
        same(tasks["y"].iloc[:, :3], before.iloc[:, :3])


def test_a_hidden_tables_imputed_cells_feed_nothing(home: Path) -> None:
    hidden = np.arange(N) % 2 == 1
    with Repredictor(home / "attention", METHODS) as run:
        before, after = (run._load("cv-0-seed-0", run._hide(h)).view.tables["t"] for h in ({}, {"t": hidden}))
    holes = (before.observed == 0).numpy() & (before.values != 0).numpy()
    assert holes[hidden].any()  # mice had filled them
    assert not after.values[hidden].any() and not after.observed[hidden].any() and not after.present[hidden].any()
    assert (after.values[~hidden] == before.values[~hidden]).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", NAMES)
def test_hidden_everywhere_leaves_the_prior(home: Path, name: str) -> None:
    with Repredictor(home / name, METHODS) as run:
        frames = run.frames({"slide": ALL, "t": ALL})
    for part, tasks in frames.items():
        for task, frame in tasks.items():
            first = own(home / name, part, task).query("split == 'train'").drop_duplicates("patient_id")
            last = list(frame)[4]
            share = (first.label == last.removeprefix("p_"))[first.label.notna()].mean()
            np.testing.assert_allclose(frame[last], share)
            assert (frame.modalities == "").all() and len(frame)


def test_deep_guide_needs_the_inferior_alone(home: Path) -> None:
    with Repredictor(home / "guide", METHODS) as run:
        without = {m: run.frames({m: ALL})["cv-0-seed-0"]["y"].set_index("variant") for m in ("slide", "t")}
    before = own(home / "guide", "cv-0-seed-0", "y").set_index("variant")
    assert set(without["slide"].index) == {"G(I)+I", "I", "G(I)"} and set(without["t"].index) == {"G(I)+I", "S"}
    for variant, lost in (("G(I)+I", "slide"), ("I", "slide"), ("G(I)", "slide"), ("S", "t")):
        same(without[lost].loc[variant], before.loc[variant])
    assert without["t"].loc["G(I)+I"].p_yes.nunique() == 1


def test_draws_are_told_again(home: Path) -> None:
    with Repredictor(home / "several", METHODS) as run:
        frame = run.frames({"t": ALL})["own-0-seed-0"]["who"]
        assert run.frames({}, ["test"])["own-0-seed-0"]["who"].groupby("draw").size().to_dict() == dict.fromkeys(
            (-1, 0, 1, 2), 12
        )
    wide = frame.pivot(index="patient_id", columns="draw", values="p_b")
    np.testing.assert_array_equal(wide, np.repeat(wide[[-1]], 4, 1))  # no table, no hole that a draw could fill


def test_stores_that_moved(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(home / "attention", run)
    about = json.loads((run / "run.json").read_text())
    places = {s["path"]: tmp_path / Path(s["path"]).name for s in about["stores"]}
    for store in about["stores"]:
        store["path"] = str(places[store["path"]])
    (run / "run.json").write_text(json.dumps(about))
    with pytest.raises(RequestError, match=r"run: the store .*s\.h5 .* is not there any more.*--stores"):
        Repredictor(run, METHODS)
    with Repredictor(run, METHODS, [home / "m.h5", home / "i.h5", home / "s.h5"]) as moved:  # order, and one too many
        frames = moved.frames({}, ["test"])
    theirs = own(home / "attention", "cv-1-seed-0", "y").query("split == 'test'").reset_index(drop=True)
    same(frames["cv-1-seed-0"]["y"], theirs)
    with pytest.raises(RequestError, match=r"--stores: none of them has the content of .*i\.h5 .*name it too"):
        Repredictor(run, METHODS, [home / "s.h5", home / "m.h5"])
    write(tmp_path / "s.h5", {"t": np.arange(N) == 9})
    shutil.copy(home / "i.h5", tmp_path / "i.h5")
    with pytest.raises(RequestError, match=r"s\.h5: has other content than when .*run was trained on it"):
        Repredictor(run, METHODS)


def test_wrong_runs(home: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"is not a run"):
        Repredictor(tmp_path, METHODS)
    run = tmp_path / "run"
    shutil.copytree(home / "kd", run)
    shutil.rmtree(run / "cv-0-seed-0")
    with Repredictor(run, METHODS) as some:
        assert some.parts == ["cv-1-seed-0"]
        with pytest.raises(ValueError, match="a mask of shape"):
            some.frames({"t": ALL[:3]})
        (run / "cv-1-seed-0/predictions-y.parquet").unlink()
        with pytest.raises(DamagedError, match=r"predictions-y\.parquet: cannot be read"):
            some.frames({})
    shutil.rmtree(run / "cv-1-seed-0")
    with pytest.raises(RequestError, match="none of the run's parts is finished"):
        Repredictor(run, METHODS)
    (run / "run.json").write_text('{"request": {}, "parts": []}')
    with pytest.raises(DamagedError, match=r"run\.json: damaged \(KeyError: 'stores'\)"):
        Repredictor(run, METHODS)


@pytest.mark.parametrize("name", ["attention", "guide"])
def test_attention_over_a_patients_tiles(home: Path, name: str) -> None:
    with Repredictor(home / name, METHODS) as run, Stores([home / "s.h5"]) as stores:
        assert run.attended() == ["slide"]
        tests = own(home / name, "cv-0-seed-0", "y").query("split == 'test'").patient_id.unique().tolist()
        found = run.attention(tests, "slide")
        shown = [p for p in tests if run.present("slide")[IDS.index(p)]]
        assert list(found) == shown and len(shown) > 5
        for patient, of in found.items():
            row = IDS.index(patient)
            np.testing.assert_array_equal(of.coords, stores.bags["slide"].rows("coords", row))
            assert of.columns == ["x", "y", "width", "height"] and str(of.root) == "/data/slides"
            assert of.weights.sum() == pytest.approx(1) and len(of.weights) == len(of.coords) == len(of.source)
            assert of.parts == (ROLES[row] == 3).sum()
            paths = [f"{patient}-{int(i >= 3)}.svs" for i in range(len(of.source))]
            assert [of.sources[k].path for k in of.source] == paths
        assert any(len(of.weights) > 1 and np.ptp(of.weights) > 1e-4 for of in found.values())
        train = run.attention(tests, "slide", "train")
        assert set(train) == {p for p in shown if (ROLES[IDS.index(p)] == 1).any()}
        with pytest.raises(RequestError, match=r"has no attention over 't' \(there are: slide\)"):
            run.attention(tests, "t")
        with pytest.raises(RequestError, match="patient 'nobody' is in none of its stores"):
            run.attention(["nobody"], "slide")


def test_the_first_store_fixes_the_order(home: Path) -> None:
    before = own(home / "several", "own-0-seed-0", "who")
    with Repredictor(home / "several", METHODS) as run, Stores([home / "s.h5"]) as stores:
        assert run.ids == IDS[::-1]
        one = "p0041"
        frame = run.frames({"slide": np.array(run.ids) == one})["own-0-seed-0"]["who"]
        changed = (frame.p_b - before.p_b).abs() > 1e-5
        assert changed.sum() == 4 and set(frame.patient_id[changed]) == {one}  # its row and three draws
        for patient, of in run.attention(run.ids, "slide", "train").items():
            np.testing.assert_array_equal(of.coords, stores.bags["slide"].rows("coords", IDS.index(patient)))
            assert {s.path for s in of.sources} <= {f"{patient}-0.svs", f"{patient}-1.svs"}


def test_attention_is_the_mean_over_the_parts(home: Path, tmp_path: Path) -> None:
    with Repredictor(home / "attention", METHODS) as run:
        patients = [p for p, r in zip(IDS, ROLES, strict=True) if (r == 1).all()]
        both = run.attention(patients, "slide", "train")
        each = []
        for part in list(run.parts):
            run.parts = [part]
            each.append(run.attention(patients, "slide", "train"))
    assert both and all(of.parts == 2 for of in both.values())
    for patient, of in both.items():
        np.testing.assert_allclose(of.weights, (each[0][patient].weights + each[1][patient].weights) / 2)
