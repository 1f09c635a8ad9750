"""Volumes against nibabel, SimpleITK and the published facts of real files, and what must be refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from mmcli.errors import UnreadableError
from mmcli.readers.volume import Volume, crop_volume, read_mask, read_volume

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom on damaged headers


def write_nifti(path: Path, array: NDArray, affine: NDArray | None = None) -> Path:
    nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([2.0, 3.0, 4.0, 1.0]) if affine is None else affine).to_filename(
        path
    )
    return path


@pytest.fixture
def voxels() -> NDArray:
    return np.random.default_rng(0).integers(-500, 1500, (6, 5, 4)).astype(np.int16)


# ---- orientation


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL", "ALS", "IRP"])
def test_any_storage_order_becomes_the_same_ras_array(tmp_path: Path, voxels: NDArray, codes: str) -> None:
    ras = nib.Nifti1Image(
        voxels.transpose(2, 1, 0), np.array([[2, 0, 0, -9], [0, 3, 0, 5], [0, 0, 4, 7], [0, 0, 0, 1.0]])
    )
    turn = nib.orientations.ornt_transform(nib.io_orientation(ras.affine), nib.orientations.axcodes2ornt(codes))
    ras.as_reoriented(turn).to_filename(tmp_path / "turned.nii")
    volume = read_volume(tmp_path / "turned.nii")
    np.testing.assert_array_equal(volume.array, voxels.astype(np.float32))
    np.testing.assert_allclose(volume.affine, ras.affine, atol=1e-5)
    assert volume.spacing == pytest.approx((2, 3, 4)) and volume.origin == pytest.approx((-9, 5, 7))
    # SimpleITK's own reading of the same file, turned by its own filter, lies the same way
    other = sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "turned.nii")), "RAS")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(other), voxels)
    np.testing.assert_allclose(volume.image.GetOrigin(), other.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(volume.image.GetDirection(), other.GetDirection(), atol=1e-4)


@pytest.mark.parametrize("name", ["nrrd", "mha", "mhd", "nii.gz"])
def test_formats_of_one_oblique_image_agree(tmp_path: Path, voxels: NDArray, name: str) -> None:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-12.0, 40.0, 3.0))
    c, s = np.cos(0.3), np.sin(0.3)
    image.SetDirection((c, -s, 0, s, c, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / f"image.{name}"))
    volume = read_volume(tmp_path / f"image.{name}")
    oriented = sitk.DICOMOrient(image, "RAS")
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(oriented))
    np.testing.assert_allclose(volume.image.GetOrigin(), oriented.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(volume.image.GetDirection(), oriented.GetDirection(), atol=1e-5)


def test_real_nifti_equal_nibabels_closest_canonical(data: Path) -> None:
    folder = data / "volumes"
    names = ["totalsegmentator_ct/example_mr_sm.nii.gz", "totalsegmentator_ct/example_ct_sm.nii.gz"]
    names += [f"awkward/nibabel/{name}" for name in ("anatomical.nii", "reoriented_anat_moved.nii", "standard.nii.gz")]
    names += [
        f"awkward/made/{name}" for name in ("ct_SAR_storage.nii.gz", "oblique_20deg.nii.gz", "scl_slope_zero.nii")
    ]
    names += [f"awkward/made/{name}" for name in ("big_endian.nii", "scl_inter_hu.nii", "zero_pixdim.nii")]
    for name in names:
        volume = read_volume(folder / name)
        canonical = nib.as_closest_canonical(nib.load(folder / name))
        expected = np.asarray(canonical.get_fdata(dtype=np.float32)).transpose(2, 1, 0)
        np.testing.assert_array_equal(volume.array, expected, err_msg=name)
        np.testing.assert_allclose(volume.affine, canonical.affine, atol=1e-4, err_msg=name)


def test_nifti2_equals_nifti1(tmp_path: Path, voxels: NDArray) -> None:
    nib.Nifti2Image(voxels.transpose(2, 1, 0), np.diag([2.0, 3, 4, 1])).to_filename(tmp_path / "two.nii.gz")
    one, two = read_volume(write_nifti(tmp_path / "one.nii", voxels)), read_volume(tmp_path / "two.nii.gz")
    np.testing.assert_array_equal(one.array, two.array)
    np.testing.assert_array_equal(one.affine, two.affine)


# ---- masks


def test_organ_volumes_and_means_equal_the_published_statistics(data: Path) -> None:
    folder = data / "volumes/totalsegmentator_ct"
    volume = read_volume(folder / "example_ct_sm.nii.gz")
    truth = json.loads((folder / "statistics.json").read_text())
    assert volume.array.mean(dtype=np.float64) == pytest.approx(-354.0953, abs=1e-3)
    for organ, label in (("spleen", 1), ("kidney_right", 2), ("liver", 5), ("aorta", 52)):
        mask = read_mask(folder / "example_seg_fast.nii.gz", volume, label)
        assert mask.sum() * np.prod(volume.spacing) == pytest.approx(truth[organ]["volume"], rel=1e-5)
        assert volume.array[mask].mean(dtype=np.float64) == pytest.approx(truth[organ]["intensity"], abs=1e-4)


def test_masks_are_put_in_place_by_position(data: Path, tmp_path: Path) -> None:
    made = data / "volumes/awkward/made"
    volume = read_volume(made / "base_ct.nii.gz")
    base = read_mask(made / "base_mask.nii.gz", volume)
    assert base.shape == volume.array.shape and base.dtype == np.bool_
    for name in ("mask_LPS_storage", "mask_float_labels", "mask_origin_1e-4"):
        np.testing.assert_array_equal(read_mask(made / f"{name}.nii.gz", volume), base, err_msg=name)
        liver = read_mask(made / f"{name}.nii.gz", volume, 5)
        np.testing.assert_array_equal(liver, read_mask(made / "base_mask.nii.gz", volume, 5))
    fewer = read_mask(made / "mask_fewer_slices.nii.gz", volume)
    np.testing.assert_array_equal(fewer[:20], base[:20])
    assert not fewer[20:].any()
    # half a voxel is a tie between two neighbours; a whole one moves the mask by one index to the right
    tied = read_mask(made / "mask_shifted_half_voxel.nii.gz", volume)
    moved = nib.load(made / "base_mask.nii.gz")
    nib.Nifti1Image(np.asarray(moved.dataobj), moved.affine + np.outer([3.0, 0, 0, 0], [0, 0, 0, 1])).to_filename(
        tmp_path / "moved.nii"
    )
    shifted = read_mask(tmp_path / "moved.nii", volume)
    np.testing.assert_array_equal(shifted[:, :, 1:], base[:, :, :-1])
    assert not shifted[:, :, 0].any() and (shifted != base).any()
    assert (tied == base).all() or (tied == shifted).all()
    for label, words in ((None, "wholly outside"), (77, "no label '77'; there are: 1, 2")):
        away = nib.load(made / "base_mask.nii.gz")
        nib.Nifti1Image(np.asarray(away.dataobj), away.affine + np.outer([1, 0, 0, 0], [0, 0, 0, 900])).to_filename(
            tmp_path / "away.nii"
        )
        with pytest.raises(UnreadableError, match=words):
            read_mask(tmp_path / "away.nii", volume, label)


def test_mask_of_another_grid_marks_the_same_millimetres(tmp_path: Path) -> None:
    volume = read_volume(write_nifti(tmp_path / "v.nii", np.zeros((10, 10, 10), np.int16), np.diag([1.0, 1, 1, 1])))
    coarse = np.zeros((5, 5, 5), np.uint8)
    coarse[2, 1, 3] = 4
    # voxel centres of the 2 mm grid at 0.5 + 2 i: each covers exactly two 1 mm voxels a side
    affine = np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1.0]])
    mask = read_mask(write_nifti(tmp_path / "m.nii", coarse, affine), volume)
    expected = np.zeros((10, 10, 10), bool)
    expected[4:6, 2:4, 6:8] = True
    np.testing.assert_array_equal(mask, expected)


def test_masks_that_are_none(tmp_path: Path) -> None:
    volume = read_volume(write_nifti(tmp_path / "v.nii", np.zeros((4, 4, 4), np.int16)))
    with pytest.raises(UnreadableError, match="empty"):
        read_mask(write_nifti(tmp_path / "e.nii", np.zeros((4, 4, 4), np.uint8)), volume)
    with pytest.raises(UnreadableError, match="fractions"):
        read_mask(write_nifti(tmp_path / "f.nii", np.full((4, 4, 4), 0.4, np.float32)), volume)
    with pytest.raises(UnreadableError, match="no such file"):
        read_mask(tmp_path / "none.nii", volume)


# ---- crops


def made_volume(array: NDArray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Volume:
    return Volume(array.astype(np.float32), np.diag([*spacing, 1.0]), "CT", Path("made.nii"))


def test_crop_at_own_spacing_is_a_padded_slice() -> None:
    array = np.random.default_rng(1).normal(size=(7, 8, 9))
    mask = np.zeros(array.shape, bool)
    mask[1:4, 0:3, 5:8] = True  # middle (2, 1, 6)
    crop = crop_volume(made_volume(array), mask, (1, 1, 1), (5, 5, 7))
    padded = np.pad(array.astype(np.float32), 9, constant_values=np.float32(array.min()))
    np.testing.assert_array_equal(crop, padded[9 + 0 : 9 + 5, 9 - 1 : 9 + 4, 9 + 3 : 9 + 10])
    np.testing.assert_array_equal(crop, crop_volume(made_volume(array), mask, (1, 1, 1), (5, 5, 7)))


def test_crop_equals_simpleitks_linear_resampling() -> None:
    array = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=(12, 14, 16)), 1) * 100
    volume = made_volume(array, (0.8, 0.9, 2.5))
    spacing, size = (1.1, 0.7, 1.9), (20, 24, 10)
    crop = crop_volume(volume, None, spacing, size)
    image = volume.image
    target = sitk.ResampleImageFilter()
    target.SetInterpolator(sitk.sitkLinear)
    target.SetSize(size[::-1])
    target.SetOutputSpacing(spacing)
    target.SetOutputDirection(image.GetDirection())
    middle = np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))
    half = np.array(spacing) * (np.array(size[::-1]) - 1) / 2
    target.SetOutputOrigin((middle - np.array(image.GetDirection()).reshape(3, 3) @ half).tolist())
    target.SetDefaultPixelValue(float(volume.array.min()))
    np.testing.assert_allclose(crop, sitk.GetArrayFromImage(target.Execute(image)), atol=2e-3)


def test_crop_refuses_an_empty_mask() -> None:
    with pytest.raises(UnreadableError, match="empty"):
        crop_volume(made_volume(np.ones((3, 3, 3))), np.zeros((3, 3, 3), bool), (1, 1, 1), (2, 2, 2))


# ---- bad files


def test_truncated_and_contradictory_files_of_our_own(tmp_path: Path, voxels: NDArray) -> None:
    whole = write_nifti(tmp_path / "whole.nii", voxels).read_bytes()
    for name, raw, words in [
        ("cut.nii", whole[:-20], "truncated"),
        ("header.nii", whole[:200], "truncated"),
        ("cut.nii.gz", gzip.compress(whole, mtime=0)[:-12], "truncated"),
        ("long.nii", whole + bytes(200), "more voxels"),
        ("empty.nii", b"", "zero bytes"),
        ("page.nii", b"<html>404</html>", "HTML"),
    ]:
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(UnreadableError, match=words):
            read_volume(tmp_path / name)
    nan = voxels.astype(np.float32)
    nan[0, 0, 0] = np.nan
    with pytest.raises(UnreadableError, match="1 voxels are NaN"):
        read_volume(write_nifti(tmp_path / "nan.nii", nan))
    for name in ("nan.nrrd", "nan.mha"):
        sitk.WriteImage(sitk.GetImageFromArray(nan), str(tmp_path / name))
        with pytest.raises(UnreadableError, match="1 voxels are NaN"):
            read_volume(tmp_path / name)
    for name in ("cut.nrrd", "cut.mha"):
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / name), useCompression=False)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-30])
        with pytest.raises(UnreadableError, match=r"too short|truncated"):
            read_volume(tmp_path / name)
    huge = bytearray(whole)
    huge[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    (tmp_path / "huge.nii").write_bytes(huge)
    with pytest.raises(UnreadableError, match="more than the limit"):
        read_volume(tmp_path / "huge.nii")


def test_the_forms_of_one_ct_are_equal_voxel_for_voxel(data: Path) -> None:
    made = data / "volumes/awkward/made"
    base = read_volume(made / "base_ct.nii.gz").array
    for name in (
        "big_endian.nii", "ct_SAR_storage.nii.gz", "good.mha", "good.nrrd", "gzip_named_nii.nii", "scl_inter_hu.nii",
        "oblique_20deg.nii.gz", "plain_named_gz.nii.gz", "scl_slope_zero.nii", "shape_4d_one.nii.gz", "zero_pixdim.nii",
    ):  # fmt: skip
        np.testing.assert_array_equal(read_volume(made / name).array, base, err_msg=name)
    # the same numbers in RAS mean the opposite directions: x and y run the other way
    np.testing.assert_array_equal(read_volume(made / "space_RAS.nrrd").array, base[:, ::-1, ::-1])


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd", "a.mha"])
def test_flipped_bytes_never_end_in_another_error(tmp_path: Path, voxels: NDArray, name: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / name), useCompression=True)
    whole = (tmp_path / name).read_bytes()
    random = np.random.default_rng(3)
    for _ in range(60):
        raw = bytearray(whole)
        for at in random.integers(0, min(len(raw), 700), 3):
            raw[at] = random.integers(256)
        (tmp_path / name).write_bytes(raw)
        try:
            assert read_volume(tmp_path / name).array.dtype == np.float32
        except UnreadableError as error:
            assert "\n" not in str(error)
