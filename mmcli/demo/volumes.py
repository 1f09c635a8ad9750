"""Made CT: an upper abdomen in Hounsfield units with one lesion in the liver, written as NIfTI with its mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]
SHAPE = (32, 64, 80)  # slices, rows, columns
SPACING = (3.0, 3.0, 4.0)  # mm along columns, rows, slices
ORIENTATIONS = ("LPS", "RAS", "LAS", "RPI")
_VOXEL = np.array(SPACING[::-1])


def draw_volume(
    rng: np.random.Generator, factor: float, slide_factor: float
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Draw int16 (32, 64, 80) HU and the lesion's mask; axes run to Superior, Posterior and Left.

    `factor` (standard normal) makes the lesion larger and darker. `slide_factor` makes it patchy, with much noise: the
    faint trace in the CT of what the slide shows plainly.
    """
    looks = np.clip(factor * np.array([0.9, 0.9]) + rng.normal(0, 0.4, 2), -2.5, 2.5)
    patchy = float(np.clip(0.65 * slide_factor + rng.normal(0, 0.76), -2.5, 2.5))
    radius = 17.0 * np.exp(0.26 * looks[0])  # mm
    lesion_hu = 56 - 24 * looks[1]
    body = rng.uniform(0.92, 1.06)
    shift = np.array([rng.normal(0, 3), rng.normal(0, 4), rng.normal(0, 4)])
    place = _grid() - shift[:, None, None, None]

    hu = np.full(SHAPE, -1000.0, np.float32)
    trunk = _ellipsoid(place, (0, 0, 0), (400, 84 * body, 112 * body))
    wall = _ellipsoid(place, (0, 0, 0), (400, 74 * body, 101 * body))
    inner = _ellipsoid(place, (0, -4, 0), (400, 62 * body, 91 * body))
    hu[trunk < 1] = -100
    hu[wall < 1] = 52
    hu[inner < 1] = -85
    _bones_and_vessels(hu, place, body)
    _organs(hu, rng, place, body)
    liver = _ellipsoid(place, (8, -6, -44 * body), (60, 48 * body, 46 * body)) + 0.10 * _noise(rng, 4.0)
    hu[(liver < 1) & (inner < 0.97)] = 108 + rng.normal(0, 4)

    centre = np.array([rng.normal(6, 3), rng.normal(-6, 4), -44 * body + rng.normal(0, 4)])
    stretch = rng.uniform(0.9, 1.12, 3)
    distance = np.sqrt(_ellipsoid(place, centre, radius * stretch)) + 0.09 * _noise(rng, 2.0)
    lesion = (distance < 1) & (liver < 1.05) & (inner < 0.97)
    texture = _noise(rng, 1.1)
    hu[lesion] = lesion_hu + (13 * np.exp(0.45 * patchy)) * texture[lesion]

    hu = ndimage.gaussian_filter(hu, (0.4, 0.5, 0.5))  # the scanner's point spread
    hu += ndimage.gaussian_filter(rng.normal(0, 17, SHAPE).astype(np.float32), (0, 0.6, 0.6))
    return np.clip(np.round(hu), -1024, 3071).astype(np.int16), lesion


def write_volume(
    path: Path,
    mask_path: Path,
    hu: NDArray[np.int16],
    lesion: NDArray[np.bool_],
    orientation: str,
    mask_orientation: str,
) -> None:
    """Write volume and mask as NIfTI, their axes stored in the given orientations; the positions in mm are the same."""
    for target, array, axes in ((path, hu, orientation), (mask_path, lesion.astype(np.uint8), mask_orientation)):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(SPACING)
        image.SetOrigin((-SPACING[0] * SHAPE[2] / 2, -SPACING[1] * SHAPE[1] / 2, -40.0))
        sitk.WriteImage(sitk.DICOMOrient(image, axes), str(target), useCompression=True)


def _grid() -> Array:
    """(3, slices, rows, columns) position in mm from the middle, as z, y, x: to Superior, Posterior, Left."""
    index = np.indices(SHAPE, dtype=np.float32)
    middle = (np.array(SHAPE) - 1) / 2
    return np.asarray((index - middle[:, None, None, None]) * _VOXEL[:, None, None, None], np.float32)


def _ellipsoid(place: Array, centre: object, radii: object) -> Array:
    """Squared distance (slices, rows, columns) from `centre` in units of `radii` (z, y, x in mm): < 1 is inside."""
    middle, size = (np.asarray(v, np.float32).reshape(3, 1, 1, 1) for v in (centre, radii))
    return np.asarray(np.square((place - middle) / size).sum(axis=0), np.float32)


def _noise(rng: np.random.Generator, sigma: float) -> Array:
    """Smooth noise of unit variance on the grid; `sigma` in voxels."""
    noise = ndimage.gaussian_filter(rng.standard_normal(SHAPE, dtype=np.float32), sigma)
    return np.asarray(noise / noise.std(), np.float32)


def _bones_and_vessels(hu: Array, place: Array, body: float) -> None:
    along = 400  # a structure that runs through all slices
    hu[_ellipsoid(place, (0, 52, 0), (along, 20, 24)) < 1] = 55
    vertebra = _ellipsoid(place, (0, 38, 0), (along, 15, 19))
    hu[vertebra < 1] = 420
    hu[vertebra < 0.7] = 190
    hu[_ellipsoid(place, (0, 64, 0), (along, 12, 4)) < 1] = 400
    hu[_ellipsoid(place, (0, 56, 0), (along, 7, 8)) < 1] = 25
    hu[_ellipsoid(place, (0, 15, 8), (along, 9, 9)) < 1] = 165
    hu[_ellipsoid(place, (0, 16, -15), (along, 8, 10)) < 1] = 130
    for angle in np.deg2rad(np.arange(10, 360, 24)):
        if np.sin(angle) < 0.85:  # the spine is there
            y, x = 68 * body * np.sin(angle), 96 * body * np.cos(angle)
            slope = 0.35 * place[0] * np.sign(np.cos(angle))
            rib = np.hypot((place[1] - y) / 5, (place[2] - x + 0.3 * slope) / 5)
            hu[(rib < 1) & (np.sin(place[0] / 9 + 5 * angle) > -0.3)] = 330


def _organs(hu: Array, rng: np.random.Generator, place: Array, body: float) -> None:
    hu[_ellipsoid(place, (10, 24, 62 * body), (36, 24, 22 * body)) < 1] = 118
    stomach = _ellipsoid(place, (12, -26, 36 * body), (36, 24, 32))
    hu[stomach < 1] = 45
    hu[stomach < 0.82] = 15
    hu[(stomach < 0.82) & (place[1] < -32)] = -950
    for side in (-1, 1):
        kidney = _ellipsoid(place, (-42 + 5 * side, 34, 46 * side), (34, 17, 15))
        hu[kidney < 1] = 170
        hu[kidney < 0.2] = 60 + rng.normal(0, 5)
