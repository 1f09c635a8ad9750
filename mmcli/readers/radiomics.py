"""Radiomics of a masked volume: shape, intensity and texture, each a named number.

The features are those of the Image Biomarker Standardisation Initiative (Zwanenburg et al., Radiology 2020;295:328,
manual arXiv:1612.07003), computed by MIRP (Zwanenburg et al., JOSS 2024;9:6413), an optional extra. Names are MIRP's:
the family (morph, stat, ih, cm, rlm, szm, ngt, ngl), the feature, and how it was averaged (3d_avg: over 13 directions).

Grey levels are bins of one width whose edges are its multiples, so that a level means the same in every patient; the
first bin is the one with the mask's darkest voxel. This is what PyRadiomics does by default, too.
"""

from __future__ import annotations

import logging
import math
import re
import tempfile
import threading
import warnings
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from mmcli.errors import RequestError, UnreadableError
from mmcli.readers.faults import one_line
from mmcli.readers.itk import to_sitk
from mmcli.readers.spatial import moran_and_geary
from mmcli.readers.volume import Volume

FAMILIES = ["morphological", "statistics", "intensity_histogram", "glcm", "glrlm", "glszm", "ngtdm", "ngldm"]
UNITS = {
    "morph_volume": "mm³", "morph_vol_approx": "mm³", "morph_area_mesh": "mm²", "morph_av": "1/mm", "morph_com": "mm",
    "morph_diam": "mm", "morph_pca_maj_axis": "mm", "morph_pca_min_axis": "mm", "morph_pca_least_axis": "mm",
}  # fmt: skip
SPATIAL = {"morph_moran_i", "morph_geary_c"}  # whose MIRP draws samples: ours are exact
RIM = 3  # voxels that are left around the mask
MOST_BINS = 10_000
_FAMILY = re.compile(r"(morph|stat|ih|cm|rlm|szm|ngt|ngl)_")
_BINS = re.compile(r"_fbs_w[0-9.]+$")
_one_at_a_time = threading.Lock()  # MIRP does not say that it may run in several threads


def check_installed() -> str:
    """MIRP's version; RequestError where the extra is not installed."""
    try:
        # It would write its log to stdout; a root logger that has a handler is left alone by logging.basicConfig.
        if not logging.getLogger().handlers:
            logging.getLogger().addHandler(logging.NullHandler())
        import_module("mirp")
    except ImportError as error:
        raise RequestError(
            f"--radiomics needs an extra (Python 3.11 or later): pip install 'mmcli[radiomics]' ({one_line(error)})"
        ) from error
    return version("mirp")


def radiomics(
    volume: Volume, mask: NDArray[np.bool_], bin_width: float, spacing: float | None = None
) -> dict[str, float]:
    """All features of the voxels of `mask` (z, y, x), NaN where one is not defined for them.

    `bin_width`: of the grey levels, in the volume's unit. `spacing`: mm of the cubic voxels that volume (splines) and
    mask (linear) are resampled to before, None = as they are. UnreadableError where MIRP refuses.
    """
    check_installed()
    image, region = _cut(volume, mask, spacing)
    inside = sitk.GetArrayViewFromImage(image)[sitk.GetArrayViewFromImage(region) > 0]
    if not inside.size:
        raise UnreadableError(f"its mask is smaller than a voxel of {spacing:g} mm")
    low = math.floor(float(inside.min()) / bin_width) * bin_width
    if (float(inside.max()) - low) / bin_width > MOST_BINS:
        raise UnreadableError(f"bins of {bin_width:g} make more than {MOST_BINS} grey levels of its intensities")
    settings: dict[str, Any] = {
        "base_feature_families": FAMILIES, "base_discretisation_method": "fixed_bin_size",
        "base_discretisation_bin_width": bin_width, "resegmentation_intensity_range": [low, np.inf],
        "glcm_spatial_method": "3d_average", "glrlm_spatial_method": "3d_average",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = {"image": Path(folder) / "image.nrrd", "mask": Path(folder) / "mask.nrrd"}
        sitk.WriteImage(image, str(paths["image"]))
        sitk.WriteImage(region, str(paths["mask"]))
        try:
            found = import_module("mirp").extract_features(
                image=str(paths["image"]), mask=str(paths["mask"]), num_cpus=1, **settings
            )
        except Exception as error:  # MIRP has no error of its own
            raise UnreadableError(f"its radiomics cannot be computed ({one_line(error)})") from error
    if not found or len(found[0]) != 1:
        raise UnreadableError("its radiomics cannot be computed (MIRP found no region to describe)")
    row = found[0].iloc[0]
    values = {_BINS.sub("", str(k)): _number(v) for k, v in row.items() if _FAMILY.match(str(k))}
    if not SPATIAL.isdisjoint(values):
        whole, within = sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(region) > 0
        exact = moran_and_geary(whole, within, image.GetSpacing())
        values |= dict(zip(("morph_moran_i", "morph_geary_c"), exact, strict=True))
    if not any(math.isfinite(v) for v in values.values()):
        raise UnreadableError("its radiomics cannot be computed (no feature is defined for so small a mask)")
    return values


def _cut(volume: Volume, mask: NDArray[np.bool_], spacing: float | None) -> tuple[sitk.Image, sitk.Image]:
    """The surroundings of the mask, and the mask (0, 1) on the same grid: the volume's own, or cubic voxels of
    `spacing` mm about the same centre (IBSI 2.4: tricubic spline, and where linear interpolation gives a half)."""
    where = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(slice(max(0, int(at[0]) - RIM), int(at[-1]) + 1 + RIM) for at in where)
    affine = np.array(volume.affine, dtype=np.float64)
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in reversed(box)]
    image = to_sitk(np.ascontiguousarray(volume.array[box]), affine)
    region = to_sitk(mask[box].astype(np.uint8), affine)
    if spacing is None:
        return image, region
    grid = sitk.ResampleImageFilter()
    grid.SetOutputSpacing([spacing] * 3)
    size = [max(1, math.ceil(n * s / spacing)) for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    grid.SetSize(size)
    grid.SetOutputDirection(image.GetDirection())
    centre = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    half = np.array([(n - 1) / 2 * spacing for n in size])
    grid.SetOutputOrigin((np.array(centre) - np.array(image.GetDirection()).reshape(3, 3) @ half).tolist())
    grid.SetDefaultPixelValue(float(volume.array[box].min()))
    grid.SetInterpolator(sitk.sitkBSpline)
    resampled = grid.Execute(image)
    grid.SetInterpolator(sitk.sitkLinear)
    grid.SetDefaultPixelValue(0)
    return resampled, sitk.Cast(grid.Execute(sitk.Cast(region, sitk.sitkFloat32)) >= 0.5, sitk.sitkUInt8)


def _number(value: Any) -> float:
    number = float(value) if value is not None else math.nan
    return number if math.isfinite(number) else math.nan
