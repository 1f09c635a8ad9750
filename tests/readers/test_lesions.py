"""Lesions and sequences of slices: against SciPy and SimpleITK, and numbers worked by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcli.errors import UnreadableError
from mmcli.readers.lesions import crop_frames, crop_lesion, lesions, sequences, whole
from mmcli.readers.volume import Volume, crop_volume, read_mask, read_volume


def made(array: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Volume:
    return Volume(array.astype(np.float32), np.diag([*spacing, 1.0]), "CT", Path("made"))


def test_organs_fall_into_the_parts_that_are_known(data: Path) -> None:
    """Numbers of parts of the data's own facts, 26-connected: pancreas 3 where 6-connected it has 5."""
    folder = data / "volumes/totalsegmentator_ct"
    volume = read_volume(folder / "example_ct_sm.nii.gz")
    for label, parts, voxels in (
        (5, 1, 38634), (7, 3, 644), (8, 1, 152), (18, 4, 1020), (19, 2, 1110), (20, 2, 12993), (64, 2, 901),
        (117, 6, 2100),
    ):  # fmt: skip
        mask = read_mask(folder / "example_seg.nii.gz", volume, label)
        found = lesions(mask)
        assert len(found) == parts
        sizes = [one.voxels() for one in found]
        assert sizes == sorted(sizes, reverse=True) and sum(sizes) == voxels
        # ITK's own components, fully connected, by size
        labelled = sitk.RelabelComponent(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True))
        assert sizes == np.bincount(sitk.GetArrayFromImage(labelled).ravel())[1:].tolist()
        back = np.zeros(mask.shape, bool)
        for one in found:
            back[tuple(slice(c, c + n) for c, n in zip(one.corner, one.mask.shape, strict=True))] |= one.mask
        np.testing.assert_array_equal(back, mask)


def test_lesions_by_hand() -> None:
    mask = np.zeros((5, 6, 7), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True  # touch at a corner
    mask[3:5, 4:6, 4:7] = True
    mask[0, 5, 5] = True
    found = lesions(mask)
    assert [one.voxels() for one in found] == [12, 2, 1]
    assert [one.corner for one in found] == [(3, 4, 4), (0, 0, 0), (0, 5, 5)]
    assert found[0].centre == (3.5, 4.5, 5.0) and found[0].last == (4, 5, 6)
    assert whole(mask).corner == (0, 0, 0) and whole(mask).voxels() == 15
    with pytest.raises(UnreadableError, match="empty"):
        lesions(np.zeros((2, 2, 2), bool))


def test_a_lesions_crop_is_the_masks_crop_and_may_be_blank_outside() -> None:
    random = np.random.default_rng(0)
    volume = made(random.normal(size=(20, 22, 24)) * 100, (0.8, 0.9, 1.5))
    mask = np.zeros(volume.array.shape, bool)
    mask[5:9, 8:15, 3:8] = True
    one = whole(mask)
    spacing, size = (0.7, 1.2, 1.0), (9, 8, 10)
    crop = crop_lesion(volume, one, spacing, size, None)
    np.testing.assert_array_equal(crop, crop_volume(volume, mask, spacing, size))
    blank = crop_lesion(volume, one, spacing, size, -1000.0)
    inside = blank != -1000
    np.testing.assert_array_equal(blank[inside], crop[inside])
    # the lesion is 6 mm high, 6.3 mm deep and 3.5... 4 mm wide: the crop's voxels whose centre is in it
    for axis, (step, extent) in enumerate(zip(spacing[::-1], (4 * 1.5, 7 * 0.9, 5 * 0.8), strict=True)):
        at = (np.arange(size[axis]) - (size[axis] - 1) / 2) * step
        expected = np.abs(at) <= extent / 2
        other = tuple(a for a in range(3) if a != axis)
        np.testing.assert_array_equal(inside.any(axis=other), expected)


def test_blank_keeps_a_lesion_of_odd_shape_voxel_for_voxel() -> None:
    random = np.random.default_rng(1)
    volume = made(random.normal(size=(9, 9, 9)))
    mask = np.zeros((9, 9, 9), bool)
    mask[2:7, 2:7, 2:7] = random.random((5, 5, 5)) < 0.5
    mask[2, 2, 2] = mask[6, 6, 6] = True
    crop = crop_lesion(volume, whole(mask), (1, 1, 1), (9, 9, 9), -50.0)
    np.testing.assert_array_equal(crop, np.where(mask, volume.array, np.float32(-50)))


def test_sequences_by_hand() -> None:
    # 324 slices: 64 of the head and 97 of the feet fall away, 163 stay, 6 sequences of 24 and 19 over
    ranges = sequences(324, 24, (0.2, 0.3))
    assert len(ranges) == 6 and ranges[0] == (97 + 9, 97 + 9 + 23) and ranges[-1][1] == 324 - 64 - 10 - 1
    assert sequences(100, 24, (0.2, 0.3)) == [(31, 54), (55, 78)]
    assert sequences(48, 24, (0.0, 0.0)) == [(0, 23), (24, 47)]
    with pytest.raises(UnreadableError, match="30 slices, of which --frames-drop leaves 15: a sequence has 24"):
        sequences(30, 24, (0.2, 0.3))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.integers(1, 40), st.floats(0, 0.6), st.floats(0, 0.39))
def test_sequences_lie_side_by_side_within_what_is_kept(depth: int, frames: int, head: float, feet: float) -> None:
    try:
        ranges = sequences(depth, frames, (head, feet))
    except UnreadableError:
        assert depth * (1 - head - feet) < frames
        return
    assert all(last - first + 1 == frames for first, last in ranges)
    assert all(a[1] + 1 == b[0] for a, b in pairwise(ranges))
    low, high = depth * feet - 1, depth * (1 - head) + 1
    assert low <= ranges[0][0] and ranges[-1][1] <= high
    assert (ranges[0][0] - low) + (high - ranges[-1][1]) < frames + 4


def test_frames_are_whole_slices_without_distortion() -> None:
    """The longer side fills the picture; SimpleITK resamples the same slices to the same values."""
    random = np.random.default_rng(2)
    volume = made(random.normal(size=(12, 30, 50)) * 100, (0.8, 0.9, 2.0))
    block = crop_frames(volume, 3, 8, (32, 32))
    pixel = 50 * 0.8 / 32
    resample = sitk.ResampleImageFilter()
    resample.SetSize([32, 32, 6])
    resample.SetOutputSpacing([pixel, pixel, 2.0])
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing((0.8, 0.9, 2.0))
    middle = np.array([49 / 2 * 0.8, 29 / 2 * 0.9])
    resample.SetOutputOrigin([*(middle - 31 / 2 * pixel).tolist(), 3 * 2.0])
    resample.SetInterpolator(sitk.sitkLinear)
    resample.SetDefaultPixelValue(float(volume.array.min()))
    np.testing.assert_allclose(block, sitk.GetArrayFromImage(resample.Execute(image)), atol=1e-3)
    assert (block[:, 0] == volume.array.min()).all() and not (block[:, 16] == volume.array.min()).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_crops_equal_simpleitk_on_random_affines(seed: int) -> None:
    """Any turn of the axes, spacing and size: linear resampling along the volume's own axes."""
    random = np.random.default_rng(seed)
    array = random.normal(size=random.integers(4, 14, 3)).astype(np.float32) * 100
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    affine = np.eye(4)
    affine[:3, :3] = turn * random.uniform(0.5, 3, 3)
    affine[:3, 3] = random.normal(size=3) * 50
    volume = Volume(array, affine, None, Path("made"))
    mask = np.zeros(array.shape, bool)
    corner = [int(random.integers(0, n)) for n in array.shape]
    mask[tuple(slice(c, c + 3) for c in corner)] = True
    spacing = tuple(random.uniform(0.4, 3, 3).tolist())
    size = tuple(int(n) for n in random.integers(1, 12, 3))
    image = volume.image
    box = np.argwhere(mask)
    middle = image.TransformContinuousIndexToPhysicalPoint(((box.min(0) + box.max(0)) / 2)[::-1].tolist())
    direction = np.array(image.GetDirection()).reshape(3, 3)
    resample = sitk.ResampleImageFilter()
    resample.SetInterpolator(sitk.sitkLinear)
    resample.SetSize(size[::-1])
    resample.SetOutputSpacing(spacing)
    resample.SetOutputDirection(image.GetDirection())
    resample.SetOutputOrigin(
        (np.array(middle) - direction @ (np.array(spacing) * (np.array(size[::-1]) - 1) / 2)).tolist()
    )
    resample.SetDefaultPixelValue(float(array.min()))
    np.testing.assert_allclose(
        crop_volume(volume, mask, spacing, size), sitk.GetArrayFromImage(resample.Execute(image)), atol=0.05
    )
