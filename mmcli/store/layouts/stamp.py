"""STAMP's layout: an .h5 a slide with `feats` (N, dim) and `coords` (N, 2) in micrometres.

Level-0 pixels are micrometres / MPP; the MPP comes from the cohort or --mpp. The floats of the file are kept beside
them (`x_um`, `y_um`), so that an export has the same bits. Files of old versions have no `unit`: --unit says it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mmcli.errors import RequestError, UnreadableError
from mmcli.store.join import JoinedBag
from mmcli.store.layouts.guess import candidates, hint, hint_among, looks_like
from mmcli.store.layouts.h5files import (
    Coords,
    attributes,
    check_coords,
    check_features,
    dataset,
    extra_coords,
    keep_coords,
    number,
    opened,
    pixels,
    plain,
    put_attributes,
)
from mmcli.store.layouts.layout import Given, Layout, Piece
from mmcli.store.layouts.slides import Plan, Slide, slides

# The newest layout that was looked at; STAMP itself refuses files that are newer than itself.
VERSION = "2.4.0"
SHARED = ("tile_size_um", "tile_size_px")
UM = ("x_um", "y_um")


class Stamp(Layout):
    """STAMP's tile features."""

    one_a_file = True
    slides_only = True

    def files(self, folder: Path) -> list[Path]:
        """All .h5 files under a folder, in path order."""
        found = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*.h5") if not p.name.startswith("."))
        if not found:
            raise RequestError(f"{folder}: no .h5 file there{hint_among(candidates(folder))}")
        if all(looks_like(file) not in ("stamp", "") for file in found[:5]):
            raise RequestError(f"{found[0]}: not of STAMP's layout (no dataset 'feats'){hint(found[0])}")
        return found

    def pieces(self, file: Path, given: Given) -> Iterator[Piece]:
        """The one slide of a file; its stem is the piece's name."""
        with opened(file) as content:
            features = check_features(dataset(content, file, "feats", "STAMP"), file, "feats")
            about: dict[str, Any] = {"layout": "stamp", "file": attributes(content)}
            told = about["file"]
            kind = plain(told.get("feat_type", "tile"))
            if kind != "tile":
                raise UnreadableError(f"{file}: feat_type is {kind!r}; only tile features are bags of instances")
            _check_version(str(plain(told.get("stamp_version")) or ""), file)
            coords: Coords = (None, ())
            if "coords" in content:
                about["coords_dtype"] = content["coords"].dtype.str
                if "unit" not in told and given.unit:
                    about["unit"] = given.unit
                coords = extra_coords(content, len(features), file) or _coords(content, file, len(features), given)
        shared = {name: plain(told.get(name)) for name in SHARED if name in told}
        yield Piece(file.stem, file, features, *coords, str(plain(told.get("extractor")) or ""), shared, about)

    def write(self, bag: JoinedBag, plan: Plan, out: Path, about: dict[str, Any]) -> None:
        """One file a slide, coordinates in micrometres."""
        for slide in slides(bag, plan):
            own = slide.own("stamp")
            coords, size = _written(slide)
            with h5py.File(out / f"{slide.name}.h5", "w") as file:
                file["feats"] = slide.features
                if coords is not None:
                    file["coords"] = coords
                made = {
                    "stamp_version": VERSION, "extractor": slide.encoder, "unit": "um", "feat_type": "tile",
                    "code_hash": "", "tile_size_um": size, "tile_size_px": int(slide.prepared.get("tile_px") or 0),
                }  # fmt: skip
                put_attributes(file, own.get("file", made))
                if coords is not None:
                    given = Given(slide.mpp, own.get("unit"))
                    keep_coords(file, slide, _coords(file, Path(file.filename), len(coords), given))


def _check_version(version: str, file: Path) -> None:
    major = version.partition(".")[0]
    if major.isdigit() and int(major) > int(VERSION.partition(".")[0]):
        raise UnreadableError(
            f"{file}: made by STAMP {version}, whose layout mmcli does not know ({VERSION} is the newest that it knows)"
        )


def _coords(content: h5py.File, file: Path, count: int, given: Given) -> Coords:
    """Level-0 rectangles float32 with the micrometres beside them; micrometres alone where the MPP is unknown."""
    told = attributes(content)
    coords: NDArray[Any] = content["coords"][()]
    check_coords(coords, file, count)
    unit = plain(told["unit"]) if "unit" in told else given.unit
    if unit is None:
        raise UnreadableError(
            f"{file}: its coords have no unit, as old versions of STAMP wrote them; give --unit um, or --unit px for "
            "level-0 pixels"
        )
    if unit == "px" and "unit" not in told:
        return pixels(coords, file, None)
    if unit != "um":
        raise UnreadableError(f"{file}: coords are in {unit!r}; STAMP's layout counts in um")
    micrometres = coords.reshape(-1, 2).astype(np.float32)
    if given.mpp is None:
        return micrometres, UM
    corners = micrometres / np.float32(given.mpp)
    size = number(told.get("tile_size_um"))
    if not size:
        return np.concatenate([corners, micrometres], 1), ("x", "y", *UM)
    sides = np.full(corners.shape, size / given.mpp, np.float32)
    return np.concatenate([corners, sides, micrometres], 1), ("x", "y", "width", "height", *UM)


def _written(slide: Slide) -> tuple[NDArray[Any] | None, float]:
    """A slide's `coords` (N, 2) as the file has them, and the tile's side in micrometres (0 where unknown)."""
    own = slide.own("stamp")
    if own and slide.coords is None:
        return None, 0.0
    dtype = own.get("coords_dtype", "<f4")
    x, y = (slide.column(name) for name in UM)
    if x is not None and y is not None:
        return np.stack([x, y], 1).astype(dtype), (slide.side() or 0.0) * (slide.mpp or 0.0)
    corners = slide.level_0("STAMP")
    if own.get("unit") == "px":
        return np.rint(corners).astype(dtype), 0.0
    if slide.mpp is None:
        raise RequestError(
            f"slide {slide.name} of patient {slide.patient}: the store does not know its MPP, and STAMP's layout needs "
            "micrometres; give the MPP where the store is made (--mpp, or the cohort's mpp column)"
        )
    return (corners * slide.mpp).astype(np.float32), (slide.side() or 0.0) * slide.mpp
