"""Whole-slide images to the coordinates of their tiles."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmcli.cohort.model import FileSpec
from mmcli.errors import RequestError, UnreadableError
from mmcli.readers.slide import open_slide
from mmcli.readers.tiling import tile_grid
from mmcli.stages.prepare.base import Given, Prepared, check_exists, source_of

OPTIONS = ("mpp", "target_mpp", "tile_px", "min_tissue")
COORDS = ("x", "y", "width", "height")


def options(given: Given) -> dict[str, Any]:
    """target_mpp None = the slide's own pixels; mpp None = what the file or the cohort says."""
    options = {
        "target_mpp": None if given.text("target_mpp") == "native" else given.number("target_mpp"),
        "tile_px": given.number("tile_px", int),
        "min_tissue": given.number("min_tissue"),
        "mpp": given.number("mpp") if given.text("mpp") else None,
    }
    if (
        options["tile_px"] < 1
        or not 0 <= options["min_tissue"] <= 1
        or any(options[m] is not None and options[m] <= 0 for m in ("mpp", "target_mpp"))
    ):
        raise RequestError("--mpp, --target-mpp and --tile-px must be above 0, --min-tissue between 0 and 1")
    return options


def prepare(file: FileSpec, options: dict[str, Any]) -> Prepared:
    """Tiles with tissue: coords int32 (N, 4) in level-0 pixels."""
    check_exists(file)
    mpp, origin = (options["mpp"], "--mpp") if options["mpp"] else (file.mpp, "cohort")
    with open_slide(file.path, mpp, origin) as slide:
        coords = tile_grid(slide, options["target_mpp"], options["tile_px"], options["min_tissue"])
        source = source_of(file, mpp=slide.mpp or 0.0, mpp_source=slide.mpp_source)
    if not len(coords):
        raise UnreadableError(
            f"{file.shown}: no tile of {options['tile_px']} px has {options['min_tissue']:.0%} tissue"
        )
    return Prepared(source, coords.astype(np.int32))
