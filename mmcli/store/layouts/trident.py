"""TRIDENT's layout: a job folder with `features_<encoder>/<name>.h5` and the tiles' `patches/<name>_patches.h5`.

A feature file has `features` (N, dim) and `coords` (N, 2) int64, the tiles' top-left corners in level-0 pixels, whose
attributes say the tile's size (`patch_size` at the target magnification, `patch_size_level0`). What is None there is
the text 'None'. `slide_features_<encoder>/<name>.h5` holds one vector (dim,) a slide: import that folder itself, and
each slide is a bag of one instance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mmcli.errors import RequestError, UnreadableError
from mmcli.store.join import JoinedBag
from mmcli.store.layouts.guess import candidates, hint, hint_among
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

TILES, SLIDES = "features_", "slide_features_"
SHARED = ("patch_size", "target_magnification", "overlap")
SIZE = "patch_size_level0"


class Trident(Layout):
    """TRIDENT's tile features, or its slide features."""

    one_a_file = True
    slides_only = True

    def files(self, folder: Path) -> list[Path]:
        """The .h5 files of a job's only feature folder, or of the folder that is given."""
        if folder.is_file():
            return [folder]
        if not folder.name.startswith((TILES, SLIDES)):
            found = sorted(p for p in folder.rglob(f"{TILES}*") if p.is_dir())
            if len(found) > 1:
                names = ", ".join(str(p.relative_to(folder)) for p in found)
                raise RequestError(f"{folder}: has features of several kinds ({names}); give one of these folders")
            vectors = [] if found else sorted(p for p in folder.rglob(f"{SLIDES}*") if p.is_dir())
            if vectors:
                raise RequestError(
                    f"{folder}: has slide features alone; give {vectors[0]} itself, and each slide becomes a bag of "
                    "one instance"
                )
            folder = found[0] if found else folder
        files = sorted(p for p in folder.glob("*.h5") if not p.name.startswith("."))
        if not files:
            raise RequestError(
                f"{folder}: no {TILES}<encoder>/*.h5 there, which TRIDENT's layout has{hint_among(candidates(folder))}"
            )
        return files

    def pieces(self, file: Path, given: Given) -> Iterator[Piece]:
        """The one slide of a file; its stem is the piece's name."""
        with opened(file) as content:
            features = dataset(content, file, "features", "TRIDENT")
            about: dict[str, Any] = {
                "layout": "trident", "file": attributes(content), "features": attributes(content["features"]),
            }  # fmt: skip
            encoder = str(plain(about["features"].get("encoder")) or plain(about["file"].get("encoder")) or "")
            vector = features.ndim == 1 and features.size > 0
            if vector:
                features = features[None]
            features = check_features(features, file, "features")
            coords: Coords = (None, ())
            if not vector:
                about["coords"] = _coords_attributes(content, file)
                coords = extra_coords(content, len(features), file) or _coords(content, file, len(features))
                about["coords_dtype"] = content["coords"].dtype.str
        folder = file.parent.name
        prefix = SLIDES if vector else TILES
        encoder = encoder or (folder.removeprefix(prefix) if folder.startswith(prefix) else "")
        shared = {"slide_level": True} if vector else {n: plain(about["coords"].get(n)) for n in SHARED}
        yield Piece(file.stem, file, features, *coords, encoder, shared, about)

    def write(self, bag: JoinedBag, plan: Plan, out: Path, about: dict[str, Any]) -> None:
        """`<job>/<magnification>x_<size>px_<overlap>px_overlap/` where these are known, and in it both folders."""
        for slide in slides(bag, plan):
            encoder = re.sub(r"[^\w.+@-]+", "_", slide.encoder)
            if slide.shared.get("slide_level"):
                _write_vector(slide, _folder(out / f"{SLIDES}{encoder}"))
                continue
            told = _told(slide)
            job = out / _job(told)
            with h5py.File(_folder(job / f"{TILES}{encoder}") / f"{slide.name}.h5", "w") as file:
                file["features"] = slide.features
                _write_coords(file, slide, told)
                own = slide.own("trident")
                named = {"name": slide.name, "savetodir": "None", "encoder": slide.encoder}
                put_attributes(file["features"], own.get("features", named))
                put_attributes(file, own.get("file", {}))
                keep_coords(file, slide, _coords(file, Path(file.filename), len(slide.features)))
            with h5py.File(_folder(job / "patches") / f"{slide.name}_patches.h5", "w") as file:
                _write_coords(file, slide, told)


def _coords_attributes(content: h5py.File, file: Path) -> dict[str, Any]:
    if not isinstance(content.get("coords"), h5py.Dataset):
        raise UnreadableError(f"{file}: lacks the dataset 'coords', so it is not of TRIDENT's layout{hint(file)}")
    return attributes(content["coords"])


def _coords(content: h5py.File, file: Path, count: int) -> Coords:
    """Level-0 rectangles int32 (N, 4); the size is rounded to a whole pixel, the file's own float stays in `about`."""
    coords, told = content["coords"][()], attributes(content["coords"])
    check_coords(coords, file, count)
    size = number(told.get(SIZE))
    if size is None:
        raise UnreadableError(f"{file}: coords have no attribute {SIZE!r}, which TRIDENT's layout has{hint(file)}")
    extent = [number(told.get(n)) or 0.0 for n in ("level0_width", "level0_height")]
    return pixels(coords, file, (size, size), extent)


def _told(slide: Slide) -> dict[str, Any]:
    """The attributes of `coords`: the file's own, or what the store knows."""
    if own := slide.own("trident"):
        return dict(own["coords"])
    side = slide.side()
    slide.level_0("TRIDENT")
    if side is None:
        raise RequestError(
            f"slide {slide.name} of patient {slide.patient}: the store does not know one size of its tiles at level 0, "
            "which TRIDENT's layout needs; give --layout npz"
        )
    target = slide.prepared.get("target_mpp") or slide.mpp
    return {
        "patch_size": int(slide.prepared.get("tile_px") or slide.shared.get("tile_size_px") or round(side)),
        SIZE: side,
        "level0_magnification": _magnification(slide.mpp),
        "target_magnification": _magnification(target),
        "overlap": 0,
        "name": slide.name,
        "savetodir": "None",
        "level0_width": "None",
        "level0_height": "None",
    }


def _magnification(mpp: float | None) -> int | float | str:
    """The objective of a pixel size, by the convention that 0.25 µm are 40x."""
    if not mpp:
        return "None"
    found = 10.0 / mpp
    return round(found) if abs(found - round(found)) < 0.05 * found else round(found, 3)


def _job(told: dict[str, Any]) -> str:
    magnification, size, overlap = (number(told.get(n)) for n in ("target_magnification", "patch_size", "overlap"))
    if magnification is None or size is None:
        return ""
    return f"{magnification:g}x_{size:g}px_{overlap or 0:g}px_overlap"


def _write_coords(file: h5py.File, slide: Slide, told: dict[str, Any]) -> None:
    corners = slide.level_0("TRIDENT")
    file["coords"] = np.rint(corners).astype(slide.own("trident").get("coords_dtype", np.int64))
    put_attributes(file["coords"], told)


def _write_vector(slide: Slide, folder: Path) -> None:
    with h5py.File(folder / f"{slide.name}.h5", "w") as file:
        file["features"] = slide.features[0]
        put_attributes(file["features"], slide.own("trident").get("features", {}))
        put_attributes(file, slide.own("trident").get("file", {}))


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
