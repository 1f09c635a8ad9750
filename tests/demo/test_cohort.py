"""The whole made cohort: the files that the table names, the damaged one, the words that say that it is made."""

from __future__ import annotations

import filecmp
from pathlib import Path

import numpy as np
import openslide
import pandas as pd
import pytest
import SimpleITK as sitk
import yaml

from mmcli.cohort import read_cohort
from mmcli.demo import make_cohort
from mmcli.demo.tables import draw_patients
from mmcli.errors import RequestError


@pytest.fixture(scope="module")
def table(made: Path) -> pd.DataFrame:
    return pd.read_csv(made / "patients.csv", dtype=str, keep_default_na=False).set_index("patient_id")


def test_files_are_those_that_the_table_names(made: Path, table: pd.DataFrame) -> None:
    named = {path for column in ("slide_path", "ct_path", "ct_mask") for path in table[column] if path}
    there = {str(p.relative_to(made)) for folder in ("slides", "ct") for p in (made / folder).iterdir()}
    assert there == named
    assert len(named) == 20 + 2 * 22


def test_slides_open_but_the_one_that_the_readme_names(made: Path, table: pd.DataFrame) -> None:
    broken = []
    for patient, path in table["slide_path"].items():
        if path:
            try:
                with openslide.OpenSlide(made / path) as slide:
                    assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
                    assert slide.level_count == 3
            except openslide.OpenSlideError:
                broken.append(patient)
    assert broken == [draw_patients(24, 1).damaged]
    assert f"the slide of {broken[0]} is cut short" in (made / "README.txt").read_text(encoding="utf-8")


def test_masks_lie_on_a_dark_lesion(made: Path, table: pd.DataFrame) -> None:
    orientations = set()
    for patient, row in table.iterrows():
        if row["ct_path"]:
            image = sitk.ReadImage(str(made / row["ct_path"]))
            mask = sitk.ReadImage(str(made / row["ct_mask"]))
            orientations.add((image.GetDirection(), mask.GetDirection()))
            mask = sitk.Resample(mask, image, sitk.Transform(), sitk.sitkNearestNeighbor)
            near = sitk.GetArrayFromImage(sitk.BinaryDilate(mask, (2, 2, 2))) > 0
            lesion = sitk.GetArrayFromImage(mask) > 0
            hu = sitk.GetArrayFromImage(image)
            liver = hu[near & ~lesion & (hu > 60) & (hu < 180)]
            assert lesion.any() and hu[lesion].mean() < liver.mean(), patient
    assert len({volume for volume, _ in orientations}) == 4
    assert any(volume != mask for volume, mask in orientations)


def test_says_that_they_are_made(made: Path) -> None:
    for name in ("cohort.yaml", "README.txt"):
        first = (made / name).read_text(encoding="utf-8").splitlines()[0]
        assert "are made by `mmcli demo`" in first and "no person" in first


def test_yaml_names_labels_folds_and_modalities(made: Path, table: pd.DataFrame) -> None:
    cohort = yaml.safe_load((made / "cohort.yaml").read_text(encoding="utf-8"))
    assert cohort["labels"] == {"relapse": ["no", "yes"], "stage": ["I", "II", "III"]}
    assert cohort["folds"] == {"cv": {"n": 3, "repeats": 1, "stratify": "relapse", "validation": 0.2, "seed": 0}}
    assert {name: m["kind"] for name, m in cohort["modalities"].items()} == {
        "slide": "slide", "ct": "volume", "markers": "table", "clinical": "table",
    }  # fmt: skip
    for name in ("markers", "clinical"):
        spec = cohort["modalities"][name]
        assert set(spec["columns"]) <= set(table.columns)
        for column, order in spec["ordinal"].items():
            assert set(table[column]) - {""} <= set(order)
    assert "truth" not in (made / "cohort.yaml").read_text(encoding="utf-8")


def test_reads_as_a_cohort(made: Path, table: pd.DataFrame) -> None:
    cohort = read_cohort(made / "cohort.yaml")
    assert list(cohort.patients.ids) == list(table.index)
    assert [bool(files) for files in cohort.modalities["slide"].files] == [bool(p) for p in table["slide_path"]]
    np.testing.assert_array_equal(
        cohort.modalities["markers"].present, (table[["afp", "cea", "ca125", "crp", "grade"]] != "").any(axis=1)
    )
    roles = cohort.patients.folds["cv"]
    label = cohort.patients.labels["relapse"].values
    for fold in range(roles.shape[1]):
        for role in (1, 2, 3):
            assert set(label[roles[:, fold] == role]) == {0, 1}


def test_same_seed_same_bytes_and_replaced_in_place(made: Path, tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "P999.tif").write_bytes(b"of an older, larger cohort")
    (tmp_path / "cohort.yaml").write_bytes((made / "cohort.yaml").read_bytes())
    make_cohort(tmp_path, patients=24, seed=1, quiet=True)
    names = [str(p.relative_to(made)) for p in made.rglob("*") if p.is_file()]
    assert sorted(names) == sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    same, different, errors = filecmp.cmpfiles(made, tmp_path, names, shallow=False)
    assert len(same) == len(names) and not different and not errors


@pytest.mark.parametrize("name", ["cohort.yaml", "patients.csv"])
def test_foreign_cohort_is_not_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine\n", encoding="utf-8")
    with pytest.raises(RequestError, match="another folder"):
        make_cohort(tmp_path, patients=12, quiet=True)
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine\n"
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    with pytest.raises(RequestError, match="cannot be written"):
        make_cohort(tmp_path / "taken", patients=12, quiet=True)
