"""Made CT, read back with SimpleITK and nibabel."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from mmcli.demo.tables import draw_patients
from mmcli.demo.volumes import ORIENTATIONS, SHAPE, draw_volume, write_volume


def draw(factor: float, slide_factor: float, key: int) -> tuple[np.ndarray, np.ndarray]:
    return draw_volume(np.random.default_rng([4, key]), factor, slide_factor)


def test_hounsfield_units_are_those_of_an_abdomen() -> None:
    hu, lesion = draw(0.0, 0.0, 0)
    assert hu.shape == lesion.shape == SHAPE and hu.dtype == np.int16
    assert np.median(hu[:, :3, :3]) == pytest.approx(-1000, abs=15)
    assert hu.max() > 250
    around = np.zeros(SHAPE, bool)
    z, y, x = (int(v.mean()) for v in np.nonzero(lesion))
    around[z - 5 : z + 6, y - 9 : y + 10, x - 9 : x + 10] = True
    liver = np.median(hu[around & ~lesion & (hu > 70) & (hu < 150)])
    assert liver == pytest.approx(108, abs=15)
    assert hu[lesion].mean() < liver - 10


def test_lesion_size_and_density_follow_the_ct_factor_only() -> None:
    z = draw_patients(30, 0).truth[["z_ct", "z_slide"]].to_numpy()
    drawn = [draw(a, b, i) for i, (a, b) in enumerate(z)]
    assert all(lesion.sum() > 30 for _, lesion in drawn)
    size = np.log([lesion.sum() for _, lesion in drawn])
    mean = [hu[lesion].mean() for hu, lesion in drawn]
    spread = np.log([hu[lesion].std() for hu, lesion in drawn])
    assert np.corrcoef(size, z[:, 0])[0, 1] > 0.65
    assert np.corrcoef(mean, z[:, 0])[0, 1] < -0.65
    assert abs(np.corrcoef(size, z[:, 1])[0, 1]) < 0.4
    assert 0.25 < np.corrcoef(spread, z[:, 1])[0, 1] < 0.85


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_stored_orientation_changes_but_no_position(tmp_path: Path, axes: str) -> None:
    hu, lesion = draw(0.5, 0.0, 1)
    write_volume(tmp_path / "v.nii.gz", tmp_path / "m.nii.gz", hu, lesion, axes, "RAS")
    image, mask = (sitk.ReadImage(str(tmp_path / name)) for name in ("v.nii.gz", "m.nii.gz"))
    np.testing.assert_allclose(image.GetSpacing(), (3, 3, 4), rtol=1e-6)
    back = sitk.DICOMOrient(image, "LPS")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), hu)
    on_grid = sitk.Resample(mask, back, sitk.Transform(), sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(on_grid) > 0, lesion)
    # SimpleITK names an axis by where it goes to in LPS, nibabel by where it goes to in RAS.
    assert "".join(nibabel.aff2axcodes(nibabel.load(tmp_path / "v.nii.gz").affine)) == axes


def test_same_generator_same_voxels() -> None:
    for first, again in zip(draw(1.0, 1.0, 3), draw(1.0, 1.0, 3), strict=True):
        np.testing.assert_array_equal(first, again)
    assert (draw(1.0, 1.0, 4)[0] != draw(1.0, 1.0, 3)[0]).any()
