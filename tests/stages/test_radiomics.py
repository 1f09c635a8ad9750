"""--radiomics: a table of named features beside the volumes, who has it, who failed, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from mmcli.errors import RequestError
from mmcli.settings import PreprocessSettings
from mmcli.stages import preprocess, radiomics
from mmcli.store import Store, Stores, verify


def _cohort(folder: Path) -> Path:
    """a and b with a lesion, c without a mask, d without the volume, e whose mask is empty."""
    rng = np.random.default_rng(0)
    rows = ["id,ct,mask"]
    for name in "abce":
        values = rng.normal(40, 10, (12, 14, 16)).astype(np.float32)
        mask = np.zeros(values.shape, np.uint8)
        if name != "e":
            mask[3:8, 4:9, 5 : 9 + ord(name) - ord("a")] = 1
        for kind, array in (("ct", values), ("mask", mask)):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((1.0, 1.0, 2.0))
            sitk.WriteImage(image, str(folder / f"{name}_{kind}.nrrd"))
        rows.append(f"{name},{name}_ct.nrrd,{'' if name == 'c' else f'{name}_mask.nrrd'}")
    rows.append("d,,")
    (folder / "p.csv").write_text("\n".join(rows) + "\n")
    (folder / "cohort.yaml").write_text(
        "patients: p.csv\nid: id\nmodalities:\n  ct: {kind: volume, path: ct, mask: mask}\n"
    )
    return folder / "cohort.yaml"


def _run(cohort: Path, out: Path, **given: object):
    return preprocess.run(PreprocessSettings(cohort=cohort, out=out, quiet=True, crop={"": "4,8,8"},
                                             pictures=False, **given))  # fmt: skip


def test_the_table_and_its_failures(tmp_path: Path) -> None:
    pytest.importorskip("mirp")
    cohort = _cohort(tmp_path)
    done = _run(cohort, tmp_path / "s.h5", radiomics={"ct": "5"})
    failed = [(f["patient_id"], f["modality"]) for f in done.data["failures"]]
    assert failed == [("e", "ct"), ("e", "ct_radiomics")] and done.exit_code == 3
    assert all("mask is empty" in f["reason"] for f in done.data["failures"])
    with Store(tmp_path / "s.h5") as store:
        assert list(store.bags) == ["ct"]
        table = store.tables["ct_radiomics"]
        assert store.patients.ids == ["a", "b", "c", "e", "d"]
        assert table.present.tolist() == [True, True, False, False, False]
        assert len(table.columns) == 145 and set(table.kinds) == {"numeric"} and table.units["morph_volume"] == "mm³"
        volumes = table.values[:2, table.columns.index("morph_vol_approx")]
        np.testing.assert_allclose(volumes, [5 * 5 * 4 * 2, 5 * 5 * 5 * 2], rtol=1e-6)
        image = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a_ct.nrrd")))
        mean = table.values[0, table.columns.index("stat_mean")]
        assert mean == pytest.approx(float(image[3:8, 4:9, 5:9].mean()), rel=1e-5)
        assert table.dictionary()[0]["made"].endswith("of ct, bins of 5, native voxels")
    assert verify(tmp_path / "s.h5") == []
    assert "nothing to do" in _run(cohort, tmp_path / "s.h5", radiomics={"ct": "5"}).message
    for number in (0, 1):
        _run(cohort, tmp_path / "t.h5", radiomics={"ct": "5"}, shard=f"{number}/2")
    with Stores(sorted(tmp_path.glob("t.shard-*.h5"))) as stores:
        np.testing.assert_array_equal(stores.tables["ct_radiomics"].values, table.values)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"radiomics": {"mr": "5"}}, "--radiomics: 'mr' is no volume modality of the cohort"),
        ({"radiomics": {"ct": "0"}}, "must be above 0"),
        ({"radiomics": {"": "wide"}}, "--radiomics: expected a number, not 'wide'"),
        ({"radiomics": {"": "5"}, "radiomics_spacing": {"ct": "-1"}}, "must be above 0"),
    ],
)
def test_bad_options(tmp_path: Path, given: dict[str, dict[str, str]], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        _run(_cohort(tmp_path), tmp_path / "s.h5", **given)
    assert not (tmp_path / "s.h5").exists()


def test_a_librarys_surprise_is_one_patients_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mirp")
    whole = radiomics.radiomics

    def surprised(volume, *given):
        if volume.path.name.startswith("b_"):
            raise OverflowError("a library's surprise")
        return whole(volume, *given)

    monkeypatch.setattr(radiomics, "radiomics", surprised)
    done = _run(_cohort(tmp_path), tmp_path / "s.h5", radiomics={"ct": "5"})
    reasons = {f["patient_id"]: f["reason"] for f in done.data["failures"] if f["modality"] == "ct_radiomics"}
    assert "OverflowError: a library's surprise" in reasons["b"] and sorted(reasons) == ["b", "e"]


def test_the_label_of_a_masks_cell_is_read(tmp_path: Path) -> None:
    """`mask.nrrd#2` in the cohort means label 2 there, whatever --mask-label says to the others."""
    pytest.importorskip("mirp")
    cohort = _cohort(tmp_path)
    for name in "ab":
        path = tmp_path / f"{name}_mask.nrrd"
        image = sitk.ReadImage(str(path))
        mask = sitk.GetArrayFromImage(image)
        mask[8:12, 1:4, 1:7] = 2
        labelled = sitk.GetImageFromArray(mask)
        labelled.CopyInformation(image)
        sitk.WriteImage(labelled, str(path))
    table = tmp_path / "p.csv"
    rows = [row for row in table.read_text().splitlines() if not row.startswith(("c", "d", "e"))]
    table.write_text("\n".join(rows).replace("a_mask.nrrd", "a_mask.nrrd#2") + "\n")
    _run(cohort, tmp_path / "s.h5", radiomics={"ct": "5"}, mask_label={"ct": "1"})
    with Store(tmp_path / "s.h5") as store:
        found = store.tables["ct_radiomics"]
        volumes = found.values[:, found.columns.index("morph_vol_approx")]
        np.testing.assert_allclose(volumes, [4 * 3 * 6 * 2, 5 * 5 * 5 * 2], rtol=1e-6)
