"""preprocess of volumes: options, crops, lesions, sequences, windows and pictures, on real CT, PET and MR."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from mmcli.cohort import read_cohort
from mmcli.cohort.model import FileSpec
from mmcli.errors import RequestError, UnreadableError
from mmcli.settings import PreprocessSettings
from mmcli.stages import preprocess
from mmcli.stages.pixels import unit
from mmcli.stages.prepare import volume as kind
from mmcli.stages.prepare.base import Given, Prepared
from mmcli.store import Store


def asked(name: str = "ct", **given: Any) -> dict[str, Any]:
    settings = PreprocessSettings(cohort=Path("cohort.yaml"), out=Path("out.h5"), **given)
    return kind.options(Given(settings, name))


def made_ready(path: Path, mask: Path | None = None, label: str = "", **given: Any) -> Prepared:
    return kind.prepare(FileSpec(path, path.name, None, mask, label), asked(**given))


@pytest.fixture(scope="module")
def organs(data: Path) -> tuple[Path, Path]:
    folder = data / "volumes/totalsegmentator_ct"
    return folder / "example_ct_sm.nii.gz", folder / "example_seg.nii.gz"


def test_the_three_largest_lesions_are_three_instances(organs: tuple[Path, Path]) -> None:
    """Colon (2 parts) and pancreas (3) as if they were lymph nodes: MMFusion's three nodes of 22 x 90 x 90 voxels."""
    ct, seg = organs
    done = made_ready(ct, seg, "20|7", lesions={"": "3"}, crop={"": "22,90,90"}, spacing={"": "1,1,3"})
    assert done.pixels is not None and done.pixels.shape == (3, 22, 90, 90) and done.pixels.dtype == np.int16
    labels = sitk.ReadImage(str(seg))
    mask = sitk.Or(labels == 20, labels == 7)
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(mask, True))
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(parts)
    for rank, (x, y, z, mm3, first, last) in enumerate(done.coords.tolist(), start=1):
        assert mm3 == pytest.approx(shape.GetPhysicalSize(rank), rel=1e-5)
        i, j, k, width, height, depth = shape.GetBoundingBox(rank)
        middle = parts.TransformContinuousIndexToPhysicalPoint(
            [i + (width - 1) / 2, j + (height - 1) / 2, k + (depth - 1) / 2]
        )
        assert (-x, -y, z) == pytest.approx(middle, abs=1e-3)  # SimpleITK's world is LPS
        assert (first, last) == (k, k + depth - 1)
    one = made_ready(ct, seg, "20|7", lesions={"": "2-2"}, crop={"": "22,90,90"}, spacing={"": "1,1,3"})
    np.testing.assert_array_equal(one.pixels, done.pixels[1:2])
    np.testing.assert_array_equal(one.coords, done.coords[1:2])
    none = made_ready(ct, seg, "20|7", lesions={"": "9-9"})
    assert none.coords.shape == (0, 6) and none.picture is None


def test_outside_blank_leaves_the_organ_alone(organs: tuple[Path, Path]) -> None:
    """At the volume's own spacing, in a crop that its box fits into evenly, the spleen is there voxel for voxel."""
    ct, seg = organs
    spleen = sitk.GetArrayFromImage(sitk.ReadImage(str(seg))) == 1
    box = np.ptp(np.argwhere(spleen), axis=0) + 1
    given = {"crop": {"": ",".join(str(n + 4) for n in box)}, "spacing": {"": "3,3,3"}, "mask_label": {"": "1"}}
    keep, blank = made_ready(ct, seg, **given), made_ready(ct, seg, outside={"": "blank"}, **given)
    inside = blank.pixels[0] > -32767
    np.testing.assert_array_equal(blank.pixels[0][inside], keep.pixels[0][inside])
    assert inside.sum() == spleen.sum() == 9452
    assert (unit(blank.pixels[0])[inside].astype(float) * 2000 - 1000).mean() == pytest.approx(32.84, abs=0.02)
    assert (keep.pixels[0][~inside] > -32767).mean() > 0.5


def test_frames_are_mhd_nets_sequences(organs: tuple[Path, Path], data: Path) -> None:
    """112 slices: 22 of the head and 33 of the feet fall away, two sequences of 24 stay, 9 slices over."""
    done = made_ready(organs[0].with_name("example_ct.nii.gz"), frames={"": "24,224,224"})
    assert done.pixels is not None and done.pixels.shape == (2, 24, 224, 224)
    assert done.coords[:, 4:].tolist() == [[37, 60], [61, 84]]
    image = sitk.ReadImage(str(organs[0].with_name("example_ct.nii.gz")))
    middle = unit(done.pixels[0, 0, 111:113, 111:113]).mean() * 2000 - 1000
    own = np.clip(sitk.GetArrayFromImage(image)[37, 50, 60:62], -1000, 1000).mean()
    assert middle == pytest.approx(own, abs=40)
    masked = made_ready(*organs, "5", frames={"": "10,64,64"}, frames_drop={"": "0,0"})
    liver = sitk.GetArrayFromImage(sitk.ReadImage(str(organs[1]))) == 5
    expected = [liver[a : a + 10].sum() * 27.0 for a in (0, 10, 20)]
    assert masked.coords[:, 3].tolist() == pytest.approx(expected)
    with pytest.raises(UnreadableError, match="30 slices, of which --frames-drop leaves 15: a sequence has 24"):
        made_ready(organs[0], frames={"": "24,224,224"})


def test_windows_that_are_not_for_hu(data: Path) -> None:
    sts = data / "volumes/sts_ct_pet_mr"
    pet, mr = sts / "dicom/STS_002/PET/image", sts / "dicom/STS_002/MR_T1/image"
    for path, code in ((pet, "PT"), (mr, "MR")):
        with pytest.raises(UnreadableError, match=f"is {code}, and the default --window is for CT in HU"):
            made_ready(path)
    with pytest.raises(UnreadableError, match=r"values 0 to 21\.68 hardly use the window"):
        made_ready(sts / "nifti/STS_002/PET_image.nii.gz")  # a NIfTI does not say that it is PET
    with pytest.raises(UnreadableError, match="above 1000, which is no CT in HU"):
        made_ready(data / "volumes/awkward/nibabel/anatomical.nii", crop={"": "8,8,8"})
    with pytest.raises(UnreadableError, match="is PT, where --expect asks for CT"):
        made_ready(pet, expect={"": "CT"}, window={"": "0,20"})
    done = made_ready(pet, sts / "dicom/STS_002/PET/mask/RS.dcm", window={"": "0,20"}, expect={"ct": "PT"})
    suv = unit(done.pixels) * 20
    assert 19 < suv.max() <= 20  # the tumour's maximum of 21.68 is clipped
    done = made_ready(mr, window={"ct": "1%,99%"})
    low, high = load_window(done)
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(sts / "nifti/STS_002/MR_T1_image.nii.gz")))
    assert [low, high] == pytest.approx(np.percentile(values, [1, 99]).tolist(), abs=1)
    assert made_ready(mr, window={"ct": "-1000,1000"}).pixels is not None  # asked for by name


def load_window(done: Prepared) -> list[float]:
    return list(json.loads(done.source.about)["window"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lesions": {"": "0"}}, "--lesions: expected a number such as 3, or ranks such as 2-2"),
        ({"lesions": {"": "3-2"}}, "--lesions"),
        ({"outside": {"": "black"}}, "--outside: expected keep or blank, not 'black'"),
        ({"frames": {"": "24"}}, "--frames: expected 3 whole numbers with commas"),
        ({"frames": {"": "0,224,224"}}, "--frames must be above 0"),
        ({"frames": {"": "24,224,224"}, "frames_drop": {"": "0.6,0.5"}}, "--frames-drop two shares that leave"),
        ({"frames": {"": "24,224,224"}, "lesions": {"": "3"}}, "leave out --lesions"),
        ({"frames": {"": "24,99999,99999"}}, "which no encoder reads"),
        ({"window": {"": "99%,1%"}}, "must rise"),
        ({"window": {"": "1%,101%"}}, "between 0% and 100%"),
        ({"window": {"": "1%,99"}}, "--window: expected 2 numbers with commas, or percentiles 1%,99%"),
        ({"window": {"": "low"}}, "--window"),
    ],
)
def test_options_that_cannot_be(given: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as told:
        asked(**given)
    assert words in str(told.value)


def test_a_mask_is_needed_for_what_is_about_it(organs: tuple[Path, Path]) -> None:
    for given in ({"lesions": {"": "3"}}, {"mask_label": {"": "5"}}, {"outside": {"": "blank"}}):
        with pytest.raises(UnreadableError, match="has no mask"):
            made_ready(organs[0], **given)


def test_the_picture_shows_mask_and_box_where_they_are(organs: tuple[Path, Path]) -> None:
    """The liver lies on the patient's right: on the picture's left, with R beside it."""
    picture = made_ready(*organs, "5").picture
    assert picture is not None and picture.dtype == np.uint8 and max(picture.shape) <= 1250
    axial = picture[:, : picture.shape[1] // 3].astype(int)
    red = (axial[..., 0] > 200) & (axial[..., 1] < 100)
    green = (axial[..., 1] > 200) & (axial[..., 0] < 100)
    across = np.argwhere(red)[:, 1]
    assert red.sum() > 100 and across.mean() < axial.shape[1] / 2
    box = np.argwhere(green)
    assert box[:, 1].min() < across.mean() < box[:, 1].max()
    vertical = picture[:, picture.shape[1] // 3 : 2 * picture.shape[1] // 3]
    assert vertical.max() > 150
    many = made_ready(*organs, "117|20", lesions={"": "8"}).picture
    assert many is not None and max(many.shape) <= 1250  # three rows at most


def test_a_clinics_folder_from_cohort_to_store(data: Path, tmp_path: Path) -> None:
    """DICOM CT with an RTSTRUCT named in one cell, its PET with the structure by option, and a wrong name that is
    listed: the mean HU in the store's blank crop is the tumour's."""
    root = data / "volumes/sts_ct_pet_mr/dicom/STS_002"
    pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "ct": [str(root / "CT/image")] * 3,
            "gtv": [f"{root}/CT/mask/RS.dcm#GTV_Mass_CT", f"{root}/CT/mask/RS.dcm#GTV-N", f"{root}/CT/mask/RS.dcm"],
            "pet": [str(root / "PET/image"), "", ""],
            "petmask": [f"{root}/PET/mask/RS.dcm", "", ""],
        }
    ).to_csv(tmp_path / "p.csv", index=False)
    (tmp_path / "cohort.yaml").write_text(
        "patients: p.csv\nid: id\nmodalities:\n  ct: {kind: volume, path: ct, mask: gtv}\n"
        "  pet: {kind: volume, path: pet, mask: petmask}\n"
    )
    files = read_cohort(tmp_path / "cohort.yaml").modalities["ct"].files
    assert [f[0].mask_label for f in files] == ["GTV_Mass_CT", "GTV-N", ""]
    done = preprocess.run(
        PreprocessSettings(
            cohort=tmp_path / "cohort.yaml", out=tmp_path / "o.h5", quiet=True, window={"pet": "0,20"},
            outside={"ct": "blank"}, spacing={"ct": "1,1,3.27"}, crop={"ct": "18,60,60"}, lesions={"ct": "1"},
            mask_label={"pet": "gtv_mass_pet"},
        )
    )  # fmt: skip
    assert done.exit_code == 3
    failures = pd.read_csv(tmp_path / "o.h5.failures.csv")
    assert failures["patient_id"].tolist() == ["b"]
    assert failures["reason"][0].endswith("RS.dcm: has no structure 'GTV-N'; there are: GTV_Mass_CT (1)")
    with Store(tmp_path / "o.h5") as store:
        ct, pet = store.bags["ct"], store.bags["pet"]
        assert ct.present.tolist() == [True, False, True] and pet.present.tolist() == [True, False, False]
        pixels = ct.rows("pixels", 0)[0]
        np.testing.assert_array_equal(pixels, ct.rows("pixels", 2)[0])
        assert list(ct.meta.coords) == ["x", "y", "z", "mm3", "first", "last"]
        assert ct.rows("coords", 0)[0, 3] == pytest.approx(53295.4, rel=1e-4)
        inside = pixels > -32767
        assert unit(pixels)[inside].mean() * 2000 - 1000 == pytest.approx(59.02, abs=2)
        assert inside.sum() * 3.27 == pytest.approx(53295.4, rel=0.02)
    assert {p.name for p in (tmp_path / "o.pictures/ct").iterdir()} == {"a.jpg", "c.jpg"}


def test_a_patient_without_a_second_lesion_lacks_it(organs: tuple[Path, Path], tmp_path: Path) -> None:
    ct, seg = organs
    pd.DataFrame({"id": ["a", "b"], "ct": [str(ct)] * 2, "m": [f"{seg}#5", f"{seg}#18"]}).to_csv(
        tmp_path / "p.csv", index=False
    )
    (tmp_path / "cohort.yaml").write_text(
        "patients: p.csv\nid: id\nmodalities:\n  ct: {kind: volume, path: ct, mask: m}\n"
    )
    done = preprocess.run(PreprocessSettings(cohort=tmp_path / "cohort.yaml", out=tmp_path / "o.h5", quiet=True,
                                             lesions={"": "2-3"}, pictures=False))  # fmt: skip
    assert done.exit_code == 0
    with Store(tmp_path / "o.h5") as store:
        bag = store.bags["ct"]
        assert bag.present.tolist() == [False, True] and not bag.failed.any()
        assert bag.rows("pixels", 1).shape[0] == 2
