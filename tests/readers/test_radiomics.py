"""Radiomics against PyRadiomics' own published regression values, feature by feature, and what has no value."""

from __future__ import annotations

import csv
import logging
import math
from pathlib import Path

import numpy as np
import pytest

from mmcli.errors import RequestError, UnreadableError
from mmcli.readers import radiomics as module
from mmcli.readers.radiomics import check_installed, radiomics
from mmcli.readers.volume import Volume, read_mask, read_volume

SAME = {  # family and feature of PyRadiomics -> ours; the same definition in both
    "firstorder": {
        "Mean": "stat_mean", "Variance": "stat_var", "Skewness": "stat_skew", "Median": "stat_median",
        "Minimum": "stat_min", "Maximum": "stat_max", "10Percentile": "stat_p10", "90Percentile": "stat_p90",
        "InterquartileRange": "stat_iqr", "Range": "stat_range", "MeanAbsoluteDeviation": "stat_mad",
        "RobustMeanAbsoluteDeviation": "stat_rmad", "Uniformity": "ih_uniformity", "Entropy": "ih_entropy",
    },
    "shape": {
        "MeshVolume": "morph_volume", "VoxelVolume": "morph_vol_approx", "SurfaceArea": "morph_area_mesh",
        "SurfaceVolumeRatio": "morph_av", "Sphericity": "morph_sphericity", "Maximum3DDiameter": "morph_diam",
        "Elongation": "morph_pca_elongation", "Flatness": "morph_pca_flatness",
    },
    "glcm": {name: f"cm_{ours}_d1_3d_avg" for name, ours in {
        "JointAverage": "joint_avg", "JointEntropy": "joint_entr", "JointEnergy": "energy", "SumSquares": "joint_var",
        "MaximumProbability": "joint_max", "SumAverage": "sum_avg", "SumEntropy": "sum_entr",
        "DifferenceAverage": "diff_avg", "DifferenceEntropy": "diff_entr", "DifferenceVariance": "diff_var",
        "Contrast": "contrast", "Id": "inv_diff", "Idn": "inv_diff_norm", "Idm": "inv_diff_mom",
        "Idmn": "inv_diff_mom_norm", "InverseVariance": "inv_var", "Correlation": "corr",
        "Autocorrelation": "auto_corr", "ClusterTendency": "clust_tend", "ClusterShade": "clust_shade",
        "ClusterProminence": "clust_prom", "Imc1": "info_corr1", "Imc2": "info_corr2",
    }.items()},
    "glrlm": {name: f"rlm_{ours}_3d_avg" for name, ours in {
        "ShortRunEmphasis": "sre", "LongRunEmphasis": "lre", "LowGrayLevelRunEmphasis": "lgre",
        "HighGrayLevelRunEmphasis": "hgre", "ShortRunLowGrayLevelEmphasis": "srlge",
        "ShortRunHighGrayLevelEmphasis": "srhge", "LongRunLowGrayLevelEmphasis": "lrlge",
        "LongRunHighGrayLevelEmphasis": "lrhge", "GrayLevelNonUniformity": "glnu",
        "GrayLevelNonUniformityNormalized": "glnu_norm", "RunLengthNonUniformity": "rlnu",
        "RunLengthNonUniformityNormalized": "rlnu_norm", "RunPercentage": "r_perc", "GrayLevelVariance": "gl_var",
        "RunVariance": "rl_var", "RunEntropy": "rl_entr",
    }.items()},
    "glszm": {name: f"szm_{ours}_3d" for name, ours in {
        "SmallAreaEmphasis": "sze", "LargeAreaEmphasis": "lze", "LowGrayLevelZoneEmphasis": "lgze",
        "HighGrayLevelZoneEmphasis": "hgze", "SmallAreaLowGrayLevelEmphasis": "szlge",
        "SmallAreaHighGrayLevelEmphasis": "szhge", "LargeAreaLowGrayLevelEmphasis": "lzlge",
        "LargeAreaHighGrayLevelEmphasis": "lzhge", "GrayLevelNonUniformity": "glnu",
        "GrayLevelNonUniformityNormalized": "glnu_norm", "SizeZoneNonUniformity": "zsnu",
        "SizeZoneNonUniformityNormalized": "zsnu_norm", "ZonePercentage": "z_perc", "GrayLevelVariance": "gl_var",
        "ZoneVariance": "zs_var", "ZoneEntropy": "zs_entr",
    }.items()},
    "gldm": {name: f"ngl_{ours}_d1_a0.0_3d" for name, ours in {
        "SmallDependenceEmphasis": "lde", "LargeDependenceEmphasis": "hde", "LowGrayLevelEmphasis": "lgce",
        "HighGrayLevelEmphasis": "hgce", "SmallDependenceLowGrayLevelEmphasis": "ldlge",
        "SmallDependenceHighGrayLevelEmphasis": "ldhge", "LargeDependenceLowGrayLevelEmphasis": "hdlge",
        "LargeDependenceHighGrayLevelEmphasis": "hdhge", "GrayLevelNonUniformity": "glnu",
        "DependenceNonUniformity": "dcnu", "DependenceNonUniformityNormalized": "dcnu_norm",
        "GrayLevelVariance": "gl_var", "DependenceVariance": "dc_var", "DependenceEntropy": "dc_entr",
    }.items()},
    "ngtdm": {name: f"ngt_{name.lower()}_3d"
              for name in ("Coarseness", "Complexity", "Strength", "Contrast", "Busyness")},
}  # fmt: skip
OTHERWISE = {  # defined otherwise, or not by IBSI
    "firstorder_Kurtosis": "IBSI subtracts 3", "firstorder_Energy": "theirs adds 2000 to each voxel",
    "firstorder_RootMeanSquared": "theirs adds 2000 to each voxel", "firstorder_TotalEnergy": "energy times volume",
    "shape_MajorAxisLength": "n - 1 for n", "shape_MinorAxisLength": "n - 1 for n",
    "shape_LeastAxisLength": "n - 1 for n", "glcm_MCC": "not in IBSI", "shape_Maximum2DDiameterSlice": "not in IBSI",
    "shape_Maximum2DDiameterColumn": "not in IBSI", "shape_Maximum2DDiameterRow": "not in IBSI",
}  # fmt: skip
CLOSE = 1e-4  # relative: MIRP keeps intensities in float32
MESHES = {"MeshVolume": 3e-4, "SurfaceArea": 6e-3, "SurfaceVolumeRatio": 6e-3, "Sphericity": 6e-3}


def published(folder: Path, case: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for family in SAME:
        with (folder / f"baseline/baseline_{family}.csv").open(newline="") as file:
            rows = [r for r in csv.DictReader(file) if r["featureName"].startswith("original_")]
        found[family] = {r["featureName"].split("_")[2]: float(r[case]) for r in rows if r.get(case)}
    return found


@pytest.mark.parametrize(("case", "voxels"), [("breast1", 143), ("brain1", 4137)])
def test_published_values(data: Path, case: str, voxels: int, capfd: pytest.CaptureFixture[str]) -> None:
    """96 features of each case. The two have other triangles where the brain's two lesions touch at an edge only: its
    mesh differs by 0.02 % in volume and 0.5 % in area; the breast's is the same."""
    pytest.importorskip("mirp")
    folder = data / "volumes/pyradiomics"
    volume = read_volume(folder / f"{case}_image.nrrd")
    mask = read_mask(folder / f"{case}_label.nrrd", volume)
    assert mask.sum() == voxels
    ours, theirs = radiomics(volume, mask, 25.0), published(folder, case)
    compared = 0
    for family, names in SAME.items():
        for name, mine in names.items():
            loose = MESHES.get(name, CLOSE) if case == "brain1" else CLOSE
            assert ours[mine] == pytest.approx(theirs[family][name], rel=loose), (family, name)
            compared += 1
        left = {f"{family}_{name}" for name in theirs[family]} - {f"{family}_{name}" for name in names}
        assert left <= set(OTHERWISE), left
    assert compared == 96
    assert ours["stat_kurt"] + 3 == pytest.approx(theirs["firstorder"]["Kurtosis"], rel=CLOSE)
    unshifted = float(theirs["firstorder"]["Variance"]) + float(theirs["firstorder"]["Mean"]) ** 2
    assert ours["stat_energy"] == pytest.approx(unshifted * voxels, rel=CLOSE)
    assert ours["stat_rms"] == pytest.approx(math.sqrt(unshifted), rel=CLOSE)
    for name, mine in (("MajorAxisLength", "maj"), ("MinorAxisLength", "min"), ("LeastAxisLength", "least")):
        expected = theirs["shape"][name] * math.sqrt(voxels / (voxels - 1))
        assert ours[f"morph_pca_{mine}_axis"] == pytest.approx(expected, rel=CLOSE)
    assert capfd.readouterr().out == ""  # MIRP would write its log to stdout


def ball(radius: float = 6.0) -> tuple[Volume, np.ndarray]:
    z, y, x = np.mgrid[:20, :20, :20] - 9.5
    mask = x**2 + y**2 + z**2 <= radius**2
    affine = np.diag([1.5, 1.5, 1.5, 1.0])
    values = np.random.default_rng(0).normal(100, 20, mask.shape).astype(np.float32)
    return Volume(values, affine, "CT", Path("ball.nii")), mask


def test_a_ball_and_its_resampling() -> None:
    pytest.importorskip("mirp")
    volume, mask = ball()
    plain = radiomics(volume, mask, 10.0)
    finer = radiomics(volume, mask, 10.0, spacing=1.0)
    assert plain["morph_vol_approx"] == pytest.approx(mask.sum() * 1.5**3)
    for found in (plain, finer):
        assert found["morph_volume"] == pytest.approx(4 / 3 * math.pi * 9**3, rel=0.06)
        assert 0.9 < found["morph_sphericity"] <= 1 and found["morph_pca_flatness"] == pytest.approx(1, abs=0.03)
    assert finer["morph_vol_approx"] == round(finer["morph_vol_approx"])  # voxels of 1 mm³
    assert list(plain) == list(finer)
    assert plain["stat_mean"] == pytest.approx(float(volume.array[mask].mean()), rel=1e-5)
    again = radiomics(volume, mask, 10.0)
    assert plain == again


def test_features_do_not_change_with_the_place_of_a_temporary_file() -> None:
    pytest.importorskip("mirp")
    volume, mask = ball(7.0)
    assert mask.sum() > 1000  # from here on MIRP draws samples, and its seed knows the folder
    assert radiomics(volume, mask, 10.0) == radiomics(volume, mask, 10.0)


def test_spatial_features_are_mirps_where_it_does_not_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mirp")
    volume, mask = ball(4.0)
    ours = radiomics(volume, mask, 10.0)
    monkeypatch.setattr(module, "SPATIAL", set())
    theirs = radiomics(volume, mask, 10.0)
    for name in ("morph_moran_i", "morph_geary_c"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-5) and ours[name] != theirs[name]


def test_what_has_no_value_and_what_is_refused() -> None:
    pytest.importorskip("mirp")
    volume, mask = ball()
    one = np.zeros_like(mask)
    one[3, 4, 5] = True
    found = radiomics(volume, one, 10.0)
    assert found["stat_mean"] == pytest.approx(float(volume.array[3, 4, 5])) and math.isnan(found["morph_pca_flatness"])
    with pytest.raises(UnreadableError, match="more than 10000 grey levels"):
        radiomics(volume, mask, 1e-3)
    with pytest.raises(UnreadableError, match="smaller than a voxel of 9 mm"):
        radiomics(volume, one, 10.0, spacing=9.0)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "import_module", _gone)
    with pytest.raises(RequestError, match=r"pip install 'mmcli\[radiomics\]'"):
        check_installed()
    assert logging.getLogger().handlers


def _gone(name: str) -> None:
    raise ModuleNotFoundError(f"No module named {name!r}")
