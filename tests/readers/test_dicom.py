"""DICOM series: what is an even stack, against NIfTI and SimpleITK, and real series broken in every way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from mmcli.errors import UnreadableError
from mmcli.readers.volume import read_mask, read_volume

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom on damaged headers


def write_series(folder: Path, voxels: NDArray, step: float = 2.5, **changes: dict[int, object]) -> Path:
    """Slices of int16 voxels (k, j, i), falling names, rising positions; `changes`: attribute -> {slice: value}."""
    folder.mkdir(parents=True)
    series = generate_uid()
    for k, plane in enumerate(voxels):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid()
        slice_ = Dataset()
        slice_.file_meta = meta
        slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        slice_.SeriesInstanceUID, slice_.Modality, slice_.SeriesDescription = series, "CT", "made"
        slice_.InstanceNumber, slice_.SliceThickness = len(voxels) - k, 7.0
        slice_.Rows, slice_.Columns = plane.shape
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated = slice_.BitsStored = 16
        slice_.HighBit, slice_.PixelRepresentation = 15, 1
        slice_.PixelSpacing, slice_.ImageOrientationPatient = [0.5, 0.75], [1, 0, 0, 0, 1, 0]
        slice_.ImagePositionPatient = [10.0, 20.0, -30.0 + k * step]
        slice_.RescaleSlope, slice_.RescaleIntercept = 1, -1024
        slice_.PixelData = np.ascontiguousarray(plane, dtype="<i2").tobytes()
        for name, values in changes.items():
            if k in values:
                setattr(slice_, name, values[k])
        slice_.save_as(folder / f"{len(voxels) - k:03d}.dcm", enforce_file_format=True)
    return folder


@pytest.fixture
def voxels() -> NDArray:
    return np.random.default_rng(0).integers(-500, 1500, (6, 5, 4)).astype(np.int16)


def test_series_sorted_by_position_with_each_slices_rescale(tmp_path: Path, voxels: NDArray) -> None:
    folder = write_series(tmp_path / "s", voxels, RescaleSlope={2: 3.0}, RescaleIntercept={2: 7.0})
    (folder / "notes.txt").write_text("not a slice")
    expected = voxels.astype(np.float32) - 1024
    expected[2] = voxels[2] * 3.0 + 7.0
    volume = read_volume(folder)
    # LPS rows and columns grow to the left and the back: both are turned
    np.testing.assert_array_equal(volume.array, expected[:, ::-1, ::-1])
    assert volume.modality == "CT"
    assert volume.spacing == pytest.approx((0.75, 0.5, 2.5))
    assert volume.origin == pytest.approx((-10 - 3 * 0.75, -20 - 4 * 0.5, -30))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ImagePositionPatient": {3: [10, 20, -25.0]}}, "position that another has"),
        ({"ImagePositionPatient": {5: [10, 20, -15.0]}}, "1 missing slice"),
        ({"ImagePositionPatient": {5: [10, 20, -16.5]}}, "unevenly spaced"),
        ({"ImagePositionPatient": {k: [10, 20 + 0.5 * k, -30 + 2.5 * k] for k in range(6)}}, "gantry tilt"),
        ({"ImageOrientationPatient": {1: [0, 1, 0, 0, 0, -1]}}, "several orientations"),
        ({"PixelSpacing": {1: [0.6, 0.6]}}, "pixels of"),
        ({"SeriesInstanceUID": {0: "1.2.3", 1: "1.2.3"}}, "holds 2 series"),
        ({"PixelSpacing": {1: None}}, "no PixelSpacing"),
        ({"PixelData": {4: b"\0\0"}}, "cannot be decoded"),
        ({"RescaleSlope": {4: 0}}, "zero"),
    ],
)
def test_a_series_that_is_no_even_stack_is_refused(
    tmp_path: Path, voxels: NDArray, changes: dict[str, dict[int, object]], words: str
) -> None:
    with pytest.raises(UnreadableError, match=words):
        read_volume(write_series(tmp_path / "s", voxels, **changes))


def test_dicom_and_nifti_of_the_sarcoma_patient_agree(data: Path) -> None:
    root = data / "volumes/sts_ct_pet_mr"
    for modality, tolerance in (("CT", 0.0), ("PET", 2e-6), ("MR_T1", 0.0)):
        dicom = read_volume(root / "dicom/STS_002" / modality)
        images = [p for p in root.rglob("*.nii*") if modality in str(p) and "mask" not in p.name.lower()]
        assert len(images) == 1, images
        nifti = read_volume(images[0])
        assert np.abs(dicom.array - nifti.array).max() <= tolerance
        np.testing.assert_allclose(dicom.affine, nifti.affine, atol=2e-3)


def test_jpeg2000_series_without_uids_and_its_mask_the_other_way_round(data: Path) -> None:
    folder = data / "volumes/totalsegmentator_ct_dicom"
    volume = read_volume(folder / "series")
    assert volume.array.shape == (20, 512, 512) and volume.spacing == pytest.approx((0.9765625, 0.9765625, 2.0))
    assert volume.array.mean(dtype=np.float64) == pytest.approx(-624.1259, abs=1e-3)
    for label, count, mean in ((1, 130634, 79.57), (5, 366708, 89.30), (32, 23576, 267.01), (52, 11723, 177.31)):
        mask = read_mask(folder / "example_seg_dicom.nii.gz", volume, label)
        assert mask.sum() == count
        assert volume.array[mask].mean(dtype=np.float64) == pytest.approx(mean, abs=0.006)


def test_enhanced_multiframe_equals_simpleitk(data: Path) -> None:
    for name in ("eCT_Supplemental.dcm", "siemens_enhanced_mr.dcm"):
        path = data / "volumes/enhanced_multiframe" / name
        volume, other = read_volume(path), sitk.DICOMOrient(sitk.ReadImage(str(path)), "RAS")
        np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(other))
        np.testing.assert_allclose(volume.image.GetSpacing(), other.GetSpacing(), rtol=1e-3)
        np.testing.assert_allclose(volume.image.GetOrigin(), other.GetOrigin(), atol=1e-2)
    with pytest.raises(UnreadableError, match="without a position"):
        read_volume(data / "volumes/enhanced_multiframe/emri_small.dcm")


def test_damaged_header_of_a_slice_is_refused(tmp_path: Path, voxels: NDArray) -> None:
    folder = write_series(tmp_path / "s", voxels)
    broken = pydicom.dcmread(folder / "003.dcm")
    del broken.ImagePositionPatient
    broken.save_as(folder / "003.dcm")
    with pytest.raises(UnreadableError, match="no ImagePositionPatient"):
        read_volume(folder)


# ---- the clean CT series of the sarcoma patient, broken


def edit(file: Path, **values: object) -> None:
    dataset = pydicom.dcmread(file)
    for name, value in values.items():
        setattr(dataset, name, value)
    dataset.save_as(file)


def moved(file: Path, millimetres: float, sideways: float = 0.0) -> None:
    x, y, z = pydicom.dcmread(file).ImagePositionPatient
    edit(file, ImagePositionPatient=[x, y + sideways, z + millimetres])


def cut(file: Path, share: float) -> None:
    raw = file.read_bytes()
    file.write_bytes(raw[: int(len(raw) * share)])


def tilt(files: list[Path]) -> None:
    for k, file in enumerate(files):
        moved(file, 0, sideways=0.3 * k)


def shuffled(files: list[Path]) -> None:
    for k, file in enumerate(np.random.default_rng(0).permutation(files)):
        Path(file).rename(Path(file).with_name(f"x{k:03}"))


BREAKS: dict[str, tuple[Callable[[list[Path]], object], str]] = {
    "one missing": (lambda f: f[20].unlink(), r"1 missing slice\(s\): 6.54 mm between 000019.dcm and 000021.dcm"),
    "three missing": (lambda f: [x.unlink() for x in f[20:23]], r"3 missing slice\(s\)"),
    "the same file twice": (lambda f: shutil.copy(f[3], f[3].with_name("copy.dcm")), "a doubled slice"),
    "one moved by half a step": (lambda f: moved(f[9], 1.6), "unevenly spaced"),
    "half of them moved by 1 mm": (lambda f: [moved(x, 1.0) for x in f[24:]], "unevenly spaced: 4.27 mm"),
    "gantry tilt": (tilt, "gantry tilt"),
    "another series": (lambda f: [edit(x, SeriesInstanceUID="1.2.3") for x in f[:9]], "holds 2 series"),
    "another modality": (lambda f: [edit(x, Modality="PT") for x in f[:9]], "holds 2 series"),
    "another orientation": (lambda f: edit(f[7], ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), "several orientations"),
    "another pixel size": (lambda f: edit(f[7], PixelSpacing=[0.9, 0.9]), "pixels of"),
    "another frame of reference": (lambda f: edit(f[7], FrameOfReferenceUID="1.2.3"), "several frames of reference"),
    "rows that lie": (lambda f: edit(f[7], Rows=100), "161 x 143 and 161 x 100"),
    "pixels cut": (lambda f: cut(f[7], 0.7), "000007.dcm: its pixels cannot be decoded"),
    "pixels cut at the end": (lambda f: cut(f[-1], 0.99), "000047.dcm: its pixels cannot be decoded"),
    "header cut at the end": (lambda f: cut(f[-1], 0.01), "000047.dcm"),
    "end slice empty": (lambda f: f[-1].write_bytes(b""), r"000047.dcm is empty \(zero bytes\)"),
    "end slice a web page": (lambda f: f[0].write_bytes(b"<html>404"), "000000.dcm is no DICOM file"),
    "all but one gone": (lambda f: [x.unlink() for x in f[1:]], "one slice only"),
    "no position": (lambda f: edit(f[5], ImagePositionPatient=None), "000005.dcm has no ImagePositionPatient"),
    "slope of zero": (lambda f: edit(f[5], RescaleSlope=0), "RescaleSlope of zero"),
    "slope that is no number": (lambda f: edit(f[5], RescaleSlope="nan"), "NaN or infinite|damaged header"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_the_clean_ct_series_broken(data: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(data / "volumes/sts_ct_pet_mr/dicom/STS_002/CT/image", tmp_path / "CT")
    files = sorted((tmp_path / "CT").iterdir())
    for file in files:
        file.chmod(0o644)
    change, words = BREAKS[name]
    change(files)
    with pytest.raises(UnreadableError, match=words) as told:
        read_volume(tmp_path / "CT")
    assert "\n" not in str(told.value) and len(str(told.value)) < 260 and str(told.value).startswith(("CT", "0000"))


def test_names_notes_and_other_objects_change_nothing(data: Path, tmp_path: Path) -> None:
    source = data / "volumes/sts_ct_pet_mr/dicom/STS_002/CT"
    shutil.copytree(source / "image", tmp_path / "CT")
    shuffled(sorted((tmp_path / "CT").iterdir()))
    (tmp_path / "CT/notes.txt").write_text("seen by")
    (tmp_path / "CT/.hidden").write_bytes(b"")
    shutil.copy(source / "mask/RS.dcm", tmp_path / "CT/RS.dcm")
    whole, mixed = read_volume(source / "image"), read_volume(tmp_path / "CT")
    np.testing.assert_array_equal(mixed.array, whole.array)
    np.testing.assert_array_equal(mixed.affine, whole.affine)
    assert mixed.frame.startswith("1.3.6.1.4.1.14519") and mixed.series == whole.series


def test_flipped_bytes_of_a_slice_never_end_in_another_error(tmp_path: Path, voxels: NDArray) -> None:
    folder = write_series(tmp_path / "s", voxels)
    whole = (folder / "001.dcm").read_bytes()
    random = np.random.default_rng(3)
    for _ in range(60):
        raw = bytearray(whole)
        for at in random.integers(0, min(len(raw), 700), 3):
            raw[at] = random.integers(256)
        (folder / "001.dcm").write_bytes(raw)
        try:
            assert read_volume(folder).array.dtype == np.float32
        except UnreadableError as error:
            assert "\n" not in str(error)
