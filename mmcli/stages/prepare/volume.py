"""Volumes (CT, MR, PET) to crops of voxels, kept in the store."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mmcli.cohort.model import FileSpec
from mmcli.errors import RequestError
from mmcli.readers.volume import crop_volume, read_mask, read_volume
from mmcli.stages.pixels import quantise
from mmcli.stages.prepare.base import Given, Prepared, check_exists, source_of

OPTIONS = ("spacing", "crop", "window")
COORDS = ("z", "y", "x")
MOST_VOXELS = 1 << 28


def options(given: Given) -> dict[str, Any]:
    """spacing (x, y, z) in mm, crop (z, y, x) in voxels, window (low, high)."""
    options = {
        "spacing": given.numbers("spacing", 3), "crop": given.numbers("crop", 3, int),
        "window": given.numbers("window", 2),
    }  # fmt: skip
    if min(*options["spacing"], *options["crop"]) <= 0 or options["window"][0] >= options["window"][1]:
        raise RequestError("--spacing and --crop must be above 0, and --window LOW,HIGH must rise")
    if math.prod(options["crop"]) > MOST_VOXELS:
        raise RequestError(f"--crop: {given.text('crop')} is more than {MOST_VOXELS} voxels, which no encoder reads")
    return options


def prepare(file: FileSpec, options: dict[str, Any]) -> Prepared:
    """One crop around the mask, or the volume's centre: pixels int16 (1, d, h, w)."""
    check_exists(file)
    volume = read_volume(file.path)
    mask = read_mask(file.mask, volume) if file.mask else None
    crop = crop_volume(volume, mask, tuple(options["spacing"]), tuple(options["crop"]))
    source = source_of(file, spacing=tuple(float(s) for s in volume.spacing))
    return Prepared(source, np.zeros((1, 3), np.int32), quantise(crop, options["window"])[None])
