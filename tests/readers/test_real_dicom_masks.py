"""Real SEG and RTSTRUCT files against the label maps of the same patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmcli.errors import UnreadableError
from mmcli.readers.volume import read_mask, read_volume


@pytest.mark.parametrize(("modality", "voxels"), [("CT", 17090), ("PET", 555), ("MR_T1", 17090)])
def test_contours_of_the_sarcoma_patient_are_their_nifti_voxel_for_voxel(
    data: Path, modality: str, voxels: int
) -> None:
    root = data / "volumes/sts_ct_pet_mr"
    folder = root / "dicom/STS_002" / modality
    volume = read_volume(folder)
    drawn = read_mask(folder / "mask/RS.dcm", volume)
    stored = read_mask(root / f"nifti/STS_002/{modality}_mask.nii.gz", volume)
    assert stored.sum() == voxels
    np.testing.assert_array_equal(drawn, stored)  # Dice 1
    np.testing.assert_array_equal(read_mask(folder / "mask", volume, f"gtv_mass_{modality}"), drawn)  # the folder
    with pytest.raises(UnreadableError, match=rf"no structure 'GTV'; there are: GTV_Mass_{modality} \(1\)"):
        read_mask(folder / "mask/RS.dcm", volume, "GTV")


def test_contours_drawn_on_ct_mark_the_same_place_on_pet(data: Path) -> None:
    """Other slices, other voxels, one frame of reference: the volume of the tumour stays within 3 %."""
    folder = data / "volumes/sts_ct_pet_mr/dicom/STS_002"
    pet = read_volume(folder / "PET")
    mask = read_mask(folder / "CT/mask/RS.dcm", pet)
    own = read_mask(folder / "PET/mask/RS.dcm", pet)
    assert 2 * (mask & own).sum() / (mask.sum() + own.sum()) > 0.95
    assert mask.sum() * np.prod(pet.spacing) == pytest.approx(53295.4, rel=0.03)


def test_seg_of_the_liver_lies_where_its_label_map_does(data: Path) -> None:
    folder = data / "volumes/dcmqi_liver_ct_seg"
    volume = read_volume(folder / "ct-3slice")
    liver = read_mask(folder / "liver.dcm", volume, "Liver")
    assert liver.sum(axis=(1, 2)).tolist() == [36233, 35645, 35220]  # z rises here, the files' order falls
    np.testing.assert_array_equal(liver, read_mask(folder / "liver_seg.nrrd", volume))
    assert 30 < volume.array[liver].mean() < 60
    for name, planes in {
        "GREEN": [0, 9602, 0], "orange": [0, 11888, 0], "3": [117, 117, 10509], "LIGHT_BLUE": [6693, 0, 0],
        "DARK_BLUE": [4713, 0, 0],
    }.items():  # fmt: skip
        assert read_mask(folder / "partial_overlaps.dcm", volume, name).sum(axis=(1, 2)).tolist() == planes
    parts = [read_mask(folder / "partial_overlaps.dcm", volume, name) for name in ("GREEN", "ORANGE")]
    np.testing.assert_array_equal(read_mask(folder / "partial_overlaps.dcm", volume, "GREEN|2"), parts[0] | parts[1])
    with pytest.raises(UnreadableError, match=r"holds 5 segments: name one with #NAME .* GREEN \(1\), ORANGE \(2\)"):
        read_mask(folder / "partial_overlaps.dcm", volume)


def test_toy_seg_and_the_legacy_converted_series(data: Path) -> None:
    folder = data / "volumes/dcmqi_liver_ct_seg/24x38x3"
    volume, enhanced = read_volume(folder / "image"), read_volume(folder / "multiframe/mf.dcm")
    np.testing.assert_array_equal(volume.array, enhanced.array)
    np.testing.assert_allclose(volume.affine, enhanced.affine)
    mask = read_mask(folder / "seg/label.seg", volume)
    assert mask.sum(axis=(1, 2)).tolist() == [0, 315, 0]
    np.testing.assert_array_equal(mask, read_mask(folder / "nrrd/label.nrrd", enhanced))
