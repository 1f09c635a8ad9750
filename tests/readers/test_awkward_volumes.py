"""Every file and folder of volumes/awkward, as a volume and as a mask: read rightly, or refused with one clear line.

Each runs under an alarm of ten seconds, in a process that may take 2 GB beside what its libraries need.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

LICENCE = ("unknown format", "unknown format")
BASE = [24, 36, 40]  # made/base_ct: mean 7.5865 HU
NO_MASK = "holds no SEG or RTSTRUCT"
ONE = "one slice only"
IMAGE = "an image, not a mask"
OUTSIDE = "lies wholly outside"
CT = (BASE, 7.5865), IMAGE
LABELS = (BASE, 11.9380)
# as a volume: (shape, mean), as a mask: voxels on made/base_ct; or a piece of the refusal. For a tuple of two, both.
TABLE: dict[str, Any] = {
    "made/base_ct.nii.gz": CT, "made/big_endian.nii": CT, "made/ct_SAR_storage.nii.gz": CT, "made/good.mha": CT,
    "made/good.nrrd": CT, "made/gzip_named_nii.nii": CT, "made/oblique_20deg.nii.gz": CT, "made/scl_inter_hu.nii": CT,
    "made/plain_named_gz.nii.gz": CT, "made/scl_slope_zero.nii": CT, "made/shape_4d_one.nii.gz": CT,
    "made/space_RAS.nrrd": CT, "made/zero_pixdim.nii": CT,
    "made/base_mask.nii.gz": (LABELS, 15072), "made/mask_LPS_storage.nii.gz": (LABELS, 15072),
    "made/mask_float_labels.nii.gz": (LABELS, 15072), "made/mask_origin_1e-4.nii.gz": (LABELS, 15072),
    # half a voxel away is as near to one voxel as to its neighbour: all of it stays
    "made/mask_shifted_half_voxel.nii.gz": (LABELS, 15072),
    "made/mask_fewer_slices.nii.gz": (([20, 36, 40], 12.649), 12157),
    "made/dicom_good": (([16, 27, 30], 0.89311), NO_MASK),
    "made/dicom_instance_reversed": (([16, 27, 30], 0.89311), NO_MASK),
    "made/dicom_duplicate_position": ("005.dcm and 016.dcm): a doubled slice", NO_MASK),
    "made/dicom_same_file_twice": ("005.dcm and 016.dcm): a doubled slice", NO_MASK),
    "made/dicom_missing_one": ("1 missing slice(s): 6.54 mm between 006.dcm and 007.dcm", NO_MASK),
    "made/dicom_uneven_gap": ("unevenly spaced: 4.27 mm", NO_MASK),
    "made/dicom_mixed_spacing": ("pixels of 5.469 and 4 mm (004.dcm)", NO_MASK),
    "made/dicom_rows_lie": ("30 x 27 and 30 x 25 pixels (003.dcm)", NO_MASK),
    "made/nan_inf_voxels.nii.gz": ("1,749 voxels are NaN or infinite", "NaN or infinite"),
    "made/complex64.nii.gz": "complex", "made/dims_too_big.nii": "69,120 of 103,680 bytes",
    "made/dims_too_small.nii": "more voxels than its header says (40, 36, 16)", "made/directions_none.nrrd": "(none)",
    "made/empty_file.nii.gz": "zero bytes", "made/html_named.nii.gz": "an HTML page",
    "made/missing_raw.mhd": "not_there.raw is not there", "made/missing_raw.nhdr": "not_there.raw is not there",
    "made/no_xform.nii.gz": "left and right are unknown", "made/rgb24.nii.gz": "RGB",
    "made/sform_qform_conflict.nii.gz": "3 x 3 x 3 and 1.5 x 1.5 x 3 mm", "made/shape_2d.nii.gz": "2-D picture",
    "made/shape_4d_three.nii.gz": "3 volumes", "made/sheared_sform.nii.gz": "not at right angles",
    "made/sizes_lie.nrrd": "too short", "made/trunc.nrrd": "too short", "made/trunc.mha": "40,218 of 69,120 bytes",
    "made/trunc_gz.nii.gz": "truncated", "made/trunc_raw.nii": "41,331 of 69,120 bytes",
    "made/zero_dim.nii": "axis of length zero",
    "dicom2nifti/LICENSE": LICENCE, "pydicom/LICENSE": LICENCE, "nibabel/COPYING": LICENCE, "pynrrd/LICENSE": LICENCE,
    "rt_utils/LICENSE": LICENCE,
    "dicom2nifti/failing_slicecount_001": (([256, 256, 2], 126.85), NO_MASK),
    "dicom2nifti/failing_sliceincrement_002": ("1 missing slice(s): 1.499 mm", NO_MASK),
    "dicom2nifti/failing_sliceorientation_001": ("several orientations", NO_MASK),
    "dicom2nifti/ge_dti_001": ("4 slice(s) at a position that another has", NO_MASK),
    "dicom2nifti/philips_fmri_001": ("6 slice(s) at a position that another has", NO_MASK),
    "dicom2nifti/generic_anatomical_002_non_isotropic": (([4, 28, 64], 51.604), NO_MASK),
    "dicom2nifti/generic_compressed_j2k_001": (([256, 256, 4], 127.05), NO_MASK),
    "dicom2nifti/generic_compressed_jpegls_001": (([256, 256, 4], 127.05), NO_MASK),
    "dicom2nifti/generic_rgb_001": ("in colour", NO_MASK),
    "msd_hippocampus/image_without_label.nii.gz": (([33, 52, 37], 58.462), OUTSIDE),
    "msd_hippocampus/label_without_image.nii.gz": (([94, 512, 512], 0.00084013), OUTSIDE),
    "nibabel/anatomical.nii": (([25, 41, 33], 8401.1), IMAGE),
    "nibabel/reoriented_anat_moved.nii": (([22, 26, 21], 2725.6), "fractions, not whole labels"),
    "nibabel/standard.nii.gz": (([7, 5, 4], 54.643), OUTSIDE),
    "nibabel/analyze.hdr": "Analyze 7.5", "nibabel/nifti1.hdr": "nifti1.img is not there",
    "nibabel/decimal_rescale.dcm": (ONE, "modality MR, no mask"),
    "nibabel/slicethickness_empty_string.dcm": (ONE, "modality MR, no mask"),
    "nibabel/example_nifti2.nii.gz": "2 volumes", "nibabel/functional.nii": "20 volumes",
    "nibabel/siemens_dwi_0.dcm.gz": "unzip it first", "nibabel/test.mgz": "holds no NIfTI",
    "nibabel/small.mnc": "unknown format",
    "pydicom/CT_small.dcm": (ONE, "modality CT, no mask"), "pydicom/J2K_pixelrep_mismatch.dcm": (ONE, "no mask"),
    "pydicom/MR_small_bigendian.dcm": (ONE, "no mask"), "pydicom/MR_small_padded.dcm": (ONE, "no mask"),
    "pydicom/MR_truncated.dcm": (ONE, "no mask"), "pydicom/ExplVR_BigEnd.dcm": ("in colour", "no mask"),
    "pydicom/JPEG2000.dcm": ("no ImagePositionPatient", "no mask"), "pydicom/badVR.dcm": ("a dose grid", "no mask"),
    "pydicom/rtdose.dcm": ("a dose grid", "modality RTDOSE, no mask"),
    "pydicom/dicomdirtests": ("6154 has no PixelSpacing", NO_MASK),
    "pydicom/liver_1frame.dcm": ("a segmentation, not an image", "says 1 frames and describes 3"),
    "pydicom/meta_missing_tsyntax.dcm": ("without an image", "modality unknown, no mask"),
    "pydicom/no_meta.dcm": "unknown format",
    "pydicom/rtstruct.dcm": ("a set of contours, not an image", OUTSIDE),
    "pynrrd/BallBinary30x30x30.nhdr": (([30, 30, 30], 136.38), OUTSIDE),
    "pynrrd/BallBinary30x30x30_gz_lineskip.nrrd": (([30, 30, 30], 136.38), OUTSIDE),
    "pynrrd/BallBinary30x30x30.raw": "unknown format", "pynrrd/BallBinary30x30x30_bz2.nrrd": "bzip2",
    "pynrrd/BallBinary30x30x30_byteskip_minus_five.nhdr": "damaged", "pynrrd/test2d_ascii.nrrd": "2 axes",
    "pynrrd/test_simple4d_raw.nrrd": "(none)",
    "rt_utils/mock_data": (([2, 512, 512], -835.51), "holds 3 SEG or RTSTRUCT"),
    "rt_utils/oriented_data": (([3, 50, 100], 0.02435), NO_MASK),
    "rt_utils/mock_data/ct_1.dcm": (ONE, "modality CT, no mask"),
    "rt_utils/mock_data/ct_2.dcm": (ONE, "modality CT, no mask"),
    "rt_utils/mock_data/rt.dcm": ("contours, not an image", 1443),
    "rt_utils/mock_data/invalid_reference_rt.dcm": ("contours", "there are: ROI-1 (1), ROI-2 (2), ROI-3 (3), ROI-4"),
    "rt_utils/mock_data/non_existent_reference_rt.dcm": ("contours", "holds 4 structures"),
}  # fmt: skip

CHILD = """
import json, resource, signal, sys, time
from pathlib import Path
from mmcli.errors import UnreadableError
from mmcli.readers.volume import read_mask, read_volume
root = Path(sys.argv[1])
base, mock = read_volume(root / "made/base_ct.nii.gz"), read_volume(root / "rt_utils/mock_data")
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if Path("/proc").is_dir() else 0
if size:
    resource.setrlimit(resource.RLIMIT_AS, (size + (2 << 30), size + (2 << 30)))
def told(read):
    try:
        return read()
    except UnreadableError as error:
        return str(error)
def volume(path):
    found = read_volume(path)
    return [list(found.array.shape), float(found.array.mean(dtype=float))]
for name in json.loads(sys.stdin.read()):
    signal.alarm(10)
    started = time.process_time()
    like = mock if name.startswith("rt_utils/mock") else base
    said = [told(lambda: volume(root / name)), told(lambda: int(read_mask(root / name, like).sum()))]
    print(json.dumps([name, *said, time.process_time() - started]), flush=True)
"""


def entries(root: Path) -> list[str]:
    """All there is: the files and folders of each source, what lies beside the two slices of rt_utils/mock_data, and
    the files and folders of the DICOMDIR tree."""
    found = [*root.glob("*/*"), *root.glob("rt_utils/mock_data/*"), *root.glob("pydicom/dicomdirtests/**/*")]
    return sorted(str(path.relative_to(root)) for path in found)


@pytest.fixture(scope="module")
def told(data: Path) -> dict[str, list[Any]]:
    root = data / "volumes/awkward"
    started = time.monotonic()
    run = subprocess.run([sys.executable, "-c", CHILD, str(root)], input=json.dumps(entries(root)), text=True,
                         capture_output=True, timeout=120)  # fmt: skip
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == 0, (run.returncode, lines[-1:], run.stderr[-2000:])
    assert run.stderr == ""  # no library speaks past mmcli
    assert time.monotonic() - started < 60
    return {name: rest for name, *rest in lines}


def test_the_table_names_all_there_is_and_nothing_else(data: Path) -> None:
    there = {name for name in entries(data / "volumes/awkward") if not name.startswith("pydicom/dicomdirtests/")}
    assert set(TABLE) == there
    assert len(there) >= 100


@pytest.mark.parametrize("name", TABLE)
def test_read_rightly_or_refused(told: dict[str, list[Any]], name: str) -> None:
    row = TABLE[name] if isinstance(TABLE[name], tuple) else (TABLE[name], TABLE[name])
    *said, seconds = told[name]
    assert seconds < 3
    for expected, got in zip(row, said, strict=True):
        if isinstance(expected, str):
            assert isinstance(got, str), (expected, got)
            assert expected in got
            assert got.startswith(Path(name).name)
        elif isinstance(expected, int):
            assert got == expected
        else:
            assert got[0] == expected[0]
            assert got[1] == pytest.approx(expected[1], rel=1e-4)


def test_refusals_are_one_clear_line(told: dict[str, list[Any]]) -> None:
    for name, (as_volume, as_mask, seconds) in told.items():
        for said in (as_volume, as_mask):
            if isinstance(said, str):
                assert "\n" not in said and 10 < len(said) < 260, name
        assert seconds < 3, name


TREE: dict[str, Any] = {
    "77654033/CR1": "no PixelSpacing", "77654033/CR2": "no PixelSpacing", "77654033/CR3": "no PixelSpacing",
    "77654033/CT2": "161 missing slice(s): 202.5 mm", "98892001/CT2N": "several orientations",
    "98892001/CT5N": [[5, 16, 16], -138.53125], "98892003/MR1": "holds 3 series", "98892003/MR2": "holds 3 series",
    "98892003/MR700": "several orientations", "TINY_ALPHA/PT000000": "its header ends before its image",
}  # fmt: skip


def test_the_dicomdir_tree_is_read_folder_by_folder(data: Path, told: dict[str, list[Any]]) -> None:
    """Five of its slices are an even stack; nothing else of the tree is read as a volume, or as a mask."""
    root = "pydicom/dicomdirtests/"
    series = {name.removeprefix(root) for name in told if name.startswith(root) and name.count("/") == 3}
    assert set(TREE) == {name for name in series if (data / "volumes/awkward" / root / name).is_dir()}
    for name, expected in TREE.items():
        got = told[root + name][0]
        assert expected in got if isinstance(expected, str) else got == expected, (name, got)
    stack = sitk.ReadImage([str(p) for p in (data / "volumes/awkward" / root / "98892001/CT5N").iterdir()])
    assert sitk.GetArrayFromImage(stack).mean() == TREE["98892001/CT5N"][1]
    read = {name for name, said in told.items() if name.startswith(root) and not isinstance(said[0], str)}
    assert read == {root + "98892001/CT5N"}
    assert all(isinstance(said[1], str) for name, said in told.items() if name.startswith(root))
