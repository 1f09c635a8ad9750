"""Whole-slide images to the coordinates of their tiles."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmcli.cohort.model import FileSpec
from mmcli.errors import RequestError, UnreadableError
from mmcli.readers.slide import open_slide
from mmcli.readers.tiling import graded_tiles, in_sequences, slide_tissue
from mmcli.stages.prepare.base import Given, Prepared, check_exists, source_of
from mmcli.stages.prepare.slide_picture import PICTURE_PX, draw_picture

OPTIONS = ("mpp", "target_mpp", "tile_px", "min_tissue", "overlap", "sequence")
COORDS = ("x", "y", "width", "height")
LONGEST = 4096  # tiles in a sequence


def options(given: Given) -> dict[str, Any]:
    """target_mpp None = the slide's own pixels; mpp None = what file or cohort say; sequence only if asked for."""
    options = {
        "target_mpp": None if given.text("target_mpp") == "native" else given.number("target_mpp"),
        "tile_px": given.number("tile_px", int),
        "min_tissue": given.number("min_tissue"),
        "mpp": given.number("mpp") if given.text("mpp") else None,
        "overlap": given.number("overlap", int),
    }
    if (
        options["tile_px"] < 1
        or not 0 <= options["min_tissue"] <= 1
        or any(options[m] is not None and options[m] <= 0 for m in ("mpp", "target_mpp"))
    ):
        raise RequestError("--mpp, --target-mpp and --tile-px must be above 0, --min-tissue between 0 and 1")
    if not 0 <= options["overlap"] < options["tile_px"]:
        raise RequestError(f"--overlap: must be from 0 to less than the tile's {options['tile_px']} px")
    if given.text("sequence"):
        options["sequence"] = given.number("sequence", int)
        if not 2 <= options["sequence"] <= LONGEST:
            raise RequestError(f"--sequence: must be from 2 to {LONGEST} tiles")
    return options


def prepare(file: FileSpec, options: dict[str, Any], draw: bool = True) -> Prepared:
    """Tiles with tissue: coords int32 (N, 4) in level-0 pixels, row by row. With `sequence` = n, N is a multiple of n
    and rows 0 to n - 1 are the first sequence, which no other slide's tiles share."""
    check_exists(file)
    target, side, least = options["target_mpp"], options["tile_px"], options["min_tissue"]
    mpp, origin = (options["mpp"], "--mpp") if options["mpp"] else (file.mpp, "cohort")
    with open_slide(file.path, mpp, origin) as slide:
        mask = None
        if least > 0:
            thumbnail, mask = slide_tissue(slide, target, side)
        coords, share = graded_tiles(slide, target, side, least, options["overlap"], mask)
        length = options.get("sequence", 1)
        if len(coords) < length:
            raise UnreadableError(f"{file.shown}: {_too_few(len(coords), mask, options, slide.dimensions)}")
        if length > 1:
            coords = in_sequences(coords, share, length)
        for x, y, width, height in coords[[0, len(coords) // 2, -1]].tolist():
            slide.read(x, y, width, height, (side, side))  # the thumbnail may be of another level than the tiles
        source = source_of(file, mpp=slide.mpp or 0.0, mpp_source=slide.mpp_source)
        picture = None
        if draw:
            if mask is None:
                thumbnail = slide.thumbnail(PICTURE_PX)
            picture = draw_picture(slide, file.shown, thumbnail, mask, coords, options)
    return Prepared(source, coords.astype(np.int32), picture=picture)


def _too_few(count: int, mask: Any, options: dict[str, Any], dimensions: tuple[int, int]) -> str:
    width, height = dimensions
    what = f"of {width} x {height} px" if mask is None else f"{float(mask.mean()):.1%} of it is tissue"
    if count:
        many = f"only {count} tiles of {options['tile_px']} px have {options['min_tissue']:.0%} tissue"
        return f"{many}, fewer than a sequence of {options['sequence']} ({what})"
    if mask is None:
        return f"no tile of {options['tile_px']} px lies wholly within it ({what})"
    return f"no tile of {options['tile_px']} px has {options['min_tissue']:.0%} tissue ({what})"
