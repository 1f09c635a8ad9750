"""preprocess on made slides, volumes and tables: what lies in the store, what fails, what happens the second time."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import openslide
import pytest
import SimpleITK as sitk

from mmcli.cohort import read_cohort
from mmcli.errors import RequestError
from mmcli.settings import PreprocessSettings
from mmcli.stages import preprocess
from mmcli.stages.pixels import quantise, unit
from mmcli.store import Store, spool_folder, verify


def _run(made: Path, out: Path, **given):
    return preprocess.run(PreprocessSettings(cohort=made / "cohort.yaml", out=out, quiet=True, **given))


def test_slides_volumes_and_tables(made: Path, prepared: Path) -> None:
    cohort = read_cohort(made / "cohort.yaml")
    with Store(prepared) as store:
        slide, ct = store.bags["slide"], store.bags["ct"]
        for i, files in enumerate(cohort.modalities["slide"].files):
            assert slide.present[i] + slide.failed[i] == bool(files)
            if not slide.present[i]:
                assert slide.offsets[i] == slide.offsets[i + 1]
                continue
            width, height = openslide.OpenSlide(str(files[0].path)).dimensions
            x, y, w, h = slide.rows("coords", i).T
            # 0.5 µm per pixel on both sides: tiles of 224 px lie on level 0 as they are, side by side, inside the slide
            assert (w == 224).all() and (h == 224).all()
            assert x.min() >= 0 and (x + w).max() <= width and (y + h).max() <= height
            assert len({*zip(x.tolist(), y.tolist(), strict=True)}) == len(x)
            source = slide.sources[slide.rows("source", i)[0]]
            assert source.path == files[0].shown and source.mpp == pytest.approx(0.5)
            assert source.mpp_source == "resolution tag"
        assert slide.failed.sum() == 1
        for i, files in enumerate(cohort.modalities["ct"].files):
            assert ct.present[i] == bool(files)
            assert ct.rows("pixels", i).shape == (len(files), 48, 64, 64)
        assert ct.rows("pixels", int(np.flatnonzero(ct.present)[0])).dtype == np.int16
        assert set(store.tables) == {"markers", "clinical"}
        assert store.tables["markers"].kinds[store.tables["markers"].columns.index("grade")] == "ordinal"
        assert store.patients.folds["cv"].shape == (14, 3)
    assert verify(prepared) == []
    assert not spool_folder(prepared).exists()


def test_the_crop_holds_the_lesion(made: Path, prepared: Path) -> None:
    """The crop's centre is the mask's: the lesion's mean HU, resampled another way, is found there again."""
    cohort = read_cohort(made / "cohort.yaml")
    with Store(prepared) as store:
        ct = store.bags["ct"]
        for i in np.flatnonzero(ct.present)[:4]:
            spec = cohort.modalities["ct"].files[i][0]
            image = sitk.GetArrayFromImage(sitk.ReadImage(str(spec.path)))
            mask = sitk.GetArrayFromImage(sitk.ReadImage(str(spec.mask))) > 0
            crop = (ct.rows("pixels", int(i))[0].astype(np.float64) + 32767) / 65534 * 2000 - 1000
            centre = crop[22:26, 30:34, 30:34].mean()
            assert abs(centre - image[mask].mean()) < 40


def test_failures_are_listed_and_kept_apart(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.h5"
    done = _run(made, out)
    assert done.exit_code == 3
    rows = list(csv.DictReader((tmp_path / "p.h5.failures.csv").open()))
    assert len(rows) == 1 and rows[0]["modality"] == "slide" and rows[0]["reason"]
    assert rows[0]["patient_id"] in (made / "README.txt").read_text()
    assert _run(made, tmp_path / "q.h5", allow_failures="1").exit_code == 0
    assert _run(made, tmp_path / "q.h5", allow_failures="0").exit_code == 3


def test_the_second_time_nothing_is_done(made: Path, prepared: Path) -> None:
    before = prepared.stat()
    done = _run(made, prepared)
    assert "nothing to do" in done.message and done.exit_code == 3
    assert prepared.stat().st_mtime_ns == before.st_mtime_ns
    assert "nothing to do" in _run(made, prepared, seed=5, workers=1, device="cpu").message  # they change nothing here
    with pytest.raises(RequestError, match=r"another request \(tile_px.*128.*--force"):
        _run(made, prepared, tile_px={"": "128"})


def test_force_replaces_and_dry_run_writes_nothing(made: Path, prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.h5"
    shutil.copy(prepared, out)
    assert "would read" in _run(made, tmp_path / "none.h5", dry_run=True).message
    assert not (tmp_path / "none.h5").exists() and not spool_folder(tmp_path / "none.h5").exists()
    _run(made, out, tile_px={"": "112"}, force=True)
    with Store(out) as store:
        assert store.bags["slide"].meta.settings["tile_px"] == 112


def test_retry_failed(made: Path, tmp_path: Path) -> None:
    """The damaged slide is mended between two runs: --retry-failed takes it in and reads nobody else's files."""
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    out = tmp_path / "p.h5"
    first = _run(folder, out)
    failed = first.data["failures"][0]
    cohort = read_cohort(folder / "cohort.yaml")
    row = cohort.patients.ids.index(failed["patient_id"])
    slides = cohort.modalities["slide"].files
    other = next(f[0].path for i, f in enumerate(slides) if f and i != row)
    shutil.copy(other, slides[row][0].path)
    for files in cohort.modalities["ct"].files:
        for file in files:
            file.path.unlink()  # would fail if it were read again
    assert "nothing to do" in _run(folder, out).message
    done = _run(folder, out, retry_failed=True)
    assert done.exit_code == 0, done.data
    with Store(out) as store:
        assert store.bags["slide"].present[row] and store.bags["ct"].present.sum() > 5
        assert len(store.bags["slide"].rows("coords", row)) > 0
    assert not (tmp_path / "p.h5.failures.csv").exists()


def test_shards_are_one_store(made: Path, prepared: Path, tmp_path: Path) -> None:
    from mmcli.stages.store import pack

    for i in range(3):
        _run(made, tmp_path / "p.h5", shard=f"{i}/3")
    shards = sorted(tmp_path.glob("p.shard-*-of-3.h5"))
    assert [s.name for s in shards] == [f"p.shard-{i}-of-3.h5" for i in range(3)]
    pack(shards, tmp_path / "packed.h5", force=False)
    with Store(tmp_path / "packed.h5") as one, Store(prepared) as two:
        for name in ("slide", "ct"):
            a, b = one.bags[name], two.bags[name]
            np.testing.assert_array_equal(a.present, b.present)
            np.testing.assert_array_equal(a.failed, b.failed)
            for array in b.arrays:
                if array != "source":
                    np.testing.assert_array_equal(a.arrays[array][:], b.arrays[array][:])
            for i in np.flatnonzero(b.present):
                assert a.sources[a.rows("source", i)[0]] == b.sources[b.rows("source", i)[0]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"modalities": ["slides"]}, "did you mean 'slide'"),
        ({"mpp": {"ct": "0.5"}}, "--mpp: 'ct' is no slide modality"),
        ({"tile_px": {"": "many"}}, "--tile-px: expected a whole number, not 'many'"),
        ({"spacing": {"ct": "1,1"}}, "--spacing: expected 3 numbers with commas, not '1,1'"),
        ({"window": {"": "5,1"}}, "must rise"),
        ({"target_mpp": {"": "-1"}}, "must be above 0"),
        ({"shard": "3/3"}, "part 3 of 3 does not exist"),
        ({"shard": "slurm"}, "SLURM_ARRAY_TASK_ID"),
        ({"allow_failures": "some"}, "--allow-failures: give a number"),
    ],
)
def test_wrong_options(made: Path, tmp_path: Path, given: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        _run(made, tmp_path / "p.h5", **given)
    assert not (tmp_path / "p.h5").exists()


def test_slurm_arrays(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mmcli.stages.spooled import Shard

    for name, value in {"ID": "7", "MIN": "3", "STEP": "2", "COUNT": "4"}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert str(Shard("slurm")) == "2/4"
    assert str(Shard("")) == ""
    assert "a Slurm array is seen but not used" in capsys.readouterr().err


def test_quantisation_is_fine_and_clips() -> None:
    values = np.array([-2000, -1000, -999.97, 0, 40.5, 1000, 3000], np.float32)
    back = unit(quantise(values, [-1000, 1000])).astype(np.float64) * 2000 - 1000
    np.testing.assert_allclose(back, np.clip(values, -1000, 1000), atol=0.016)
