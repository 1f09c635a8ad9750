"""CLAM's layout: `h5_files/<id>.h5` with `features` (N, dim) float32 and `coords` (N, 2) int32 in level-0 pixels, the
bare tensors `pt_files/<id>.pt` that CLAM trains on, and the tiling's `patches/<id>.h5`, which says the tiles' size.

CLAM has no fields for the encoder and the MPP. Its features are float32: of a float16 store the same numbers are
written wider, with an attribute by which the import narrows them again.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
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
from mmcli.store.parts import ROLES

H5, PT, PATCHES = "h5_files", "pt_files", "patches"
NARROW = "mmcli_dtype"


class Clam(Layout):
    """CLAM's tile features."""

    one_a_file = True

    def files(self, folder: Path) -> list[Path]:
        """The files of h5_files, else of pt_files, else of the folder that is given."""
        if folder.is_file():
            return [folder]
        h5 = _listed(folder / H5, "*.h5")
        pt = _listed(folder / PT, "*.pt")
        alone = sorted({p.stem for p in pt} - {p.stem for p in h5}) if h5 else []
        if alone:
            raise RequestError(
                f"{folder}: {PT} has {len(alone)} slides that {H5} lacks (first: {alone[0]}); give {folder / PT} itself"
            )
        files = h5 or pt or _listed(folder, "*.h5") or _listed(folder, "*.pt")
        if not files:
            told = hint_among(candidates(folder))
            raise RequestError(f"{folder}: no {H5}/*.h5 and no {PT}/*.pt there, which CLAM's layout has{told}")
        return files

    def pieces(self, file: Path, given: Given) -> Iterator[Piece]:
        """The one slide of a file; its stem is the piece's name."""
        about: dict[str, Any] = {"layout": "clam", "kind": file.suffix.lstrip(".")}
        patches = _patches(file)
        if file.suffix == ".pt":
            features = check_features(_tensor(file), file, "the tensor")
            about["dtype"] = _kept(features)
            coords = _beside(patches, file, len(features), None)
        else:
            with opened(file) as content:
                if looks_like(file) == "trident":
                    raise UnreadableError(f"{file}: not of CLAM's layout{hint(file)}")
                features = check_features(dataset(content, file, "features", "CLAM"), file, "features")
                own = content["coords"][()] if "coords" in content else None
                coords = extra_coords(content, len(features), file) or _beside(patches, file, len(features), own)
                narrow = content["features"].attrs.get(NARROW)
                about["dtype"] = _kept(features)
                about["coords_dtype"] = own.dtype.str if own is not None else ""
            if narrow == "float16" and np.array_equal(features.astype(np.float16), features):
                features = features.astype(np.float16)
        if patches is not None:
            with opened(patches) as content:
                about["patches"] = attributes(content["coords"])
                about["patches_dtype"] = content["coords"].dtype.str
        yield Piece(file.stem, file, features, *coords, about=about)

    def write(self, bag: JoinedBag, plan: Plan, out: Path, about: dict[str, Any]) -> None:
        """h5_files, pt_files, patches where the tiles' size is known, and `splits/<set>/splits_<k>.csv`."""
        for name in (H5, PT):
            (out / name).mkdir()
        for slide in slides(bag, plan):
            patches = _write_patches(slide, out)
            wide = slide.features.astype(slide.own("clam").get("dtype", np.float32), copy=False)
            torch.save(torch.from_numpy(np.ascontiguousarray(wide)), out / PT / f"{slide.name}.pt")
            with h5py.File(out / H5 / f"{slide.name}.h5", "w") as file:
                file["features"] = wide
                if slide.features.dtype != wide.dtype:
                    file["features"].attrs[NARROW] = slide.features.dtype.name
                own = None
                if slide.column("x") is not None:
                    own = np.rint(slide.level_0("CLAM")).astype(slide.own("clam").get("coords_dtype") or np.int32)
                    file["coords"] = own
                path = Path(file.filename)
                keep_coords(file, slide, _beside(patches, path, len(wide), own))
        _write_splits(plan, out)


def _listed(folder: Path, pattern: str) -> list[Path]:
    return sorted(p for p in folder.glob(pattern) if not p.name.startswith("."))


def _tensor(file: Path) -> NDArray[Any]:
    """A bare tensor (N, dim), read without running anything that the file holds."""
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UnreadableError(
            f"{file}: holds pickled objects other than a tensor, which are not loaded, as that would run their code; "
            "save the bare tensor again"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UnreadableError(f"{file}: no tensor file, or truncated ({' '.join(str(error).split())[:120]})") from None
    if not isinstance(found, torch.Tensor):
        raise UnreadableError(f"{file}: holds a {type(found).__name__}; CLAM's layout has a bare tensor (N, dim)")
    if found.dtype == torch.bfloat16:
        found = found.float()
    array: NDArray[Any] = found.detach().numpy()
    return array


def _kept(features: NDArray[Any]) -> str:
    """The type that an export gives the features again; a store has no float64."""
    return "<f2" if features.dtype == np.float16 else "<f4"


def _patches(file: Path) -> Path | None:
    """The tiling's file of a slide: in `patches` beside the features' folder, or beside that one's."""
    for folder in (file.parent, file.parent.parent, file.parent.parent.parent):
        found = folder / PATCHES / f"{file.stem}.h5"
        if found.is_file() and found != file:
            return found
    return None


def _beside(patches: Path | None, file: Path, count: int, own: NDArray[Any] | None) -> Coords:
    """Coordinates of `count` features: the file's `own`, with the tiles' size out of the patches' file."""
    if own is not None:
        check_coords(own, file, count)
    if patches is None:
        return (None, ()) if own is None else pixels(own, file, None)
    with opened(patches) as content:
        theirs = dataset(content, patches, "coords", "CLAM")
        told = attributes(content["coords"])
    check_coords(theirs, patches, count)
    if own is not None and not np.array_equal(own, theirs):
        raise UnreadableError(f"{file}: coords differ from those of {patches}, from which they were made")
    size = number(told.get("patch_size"))
    ratio = plain(told.get("downsample", [1.0, 1.0]))
    ratio = list(ratio) if isinstance(ratio, list) and len(ratio) == 2 else [1.0, 1.0]
    level = plain(told.get("level_dim")) or []
    extent = [n * r for n, r in zip(level, ratio, strict=False)]
    return pixels(theirs, patches, None if size is None else (size * ratio[0], size * ratio[1]), extent)


def _write_patches(slide: Slide, out: Path) -> Path | None:
    """The tiling's file: the original's attributes, or what the store knows at level 0."""
    own = slide.own("clam").get("patches")
    side = slide.side()
    if slide.column("x") is None or (own is None and (side is None or side != round(side))):
        return None
    told = own or {"patch_size": round(side or 0), "patch_level": 0, "name": slide.name}
    (out / PATCHES).mkdir(exist_ok=True)
    path = out / PATCHES / f"{slide.name}.h5"
    with h5py.File(path, "w") as file:
        dtype = slide.own("clam")["patches_dtype"] if own else np.int64
        file["coords"] = np.rint(slide.level_0("CLAM")).astype(dtype)
        put_attributes(file["coords"], told)
        if own is None:
            file["coords"].attrs["downsample"] = np.ones(2)
    return path


def _write_splits(plan: Plan, out: Path) -> None:
    """One file a fold, with the slides of its training, validation and test patients under each other."""
    for name, roles in plan.patients.folds.items():
        folder = out / "splits" / name
        folder.mkdir(parents=True)
        for k in range(roles.shape[1]):
            columns = [[t.name for t in plan.targets if roles[t.patient, k] == role] for role in ROLES.values()]
            lines = [",train,val,test"]
            for row in range(max(map(len, columns))):
                lines.append(",".join([str(row), *(_cell(c[row]) if row < len(c) else "" for c in columns)]))
            (folder / f"splits_{k}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _cell(text: str) -> str:
    """A cell of a CSV, quoted where it must be."""
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text
