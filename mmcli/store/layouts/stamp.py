"""STAMP's layout: an .h5 a slide with `feats` (N, dim) float16 and `coords` (N, 2) in micrometres.

Level-0 pixels are micrometres / MPP. The MPP comes from the cohort or --mpp; the original floats are kept beside them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from mmcli.errors import RequestError, UnreadableError
from mmcli.files import partial_name, publish, reason
from mmcli.store.join import JoinedBag
from mmcli.store.layouts.layout import Layout, Piece

ATTRIBUTES = ("stamp_version", "extractor", "unit", "tile_size_um", "tile_size_px", "code_hash", "feat_type")
# The newest layout that was looked at; STAMP itself refuses files that are newer than itself.
VERSION = "2.4.0"


class Stamp(Layout):
    """STAMP's tile features."""

    one_a_file = True

    def files(self, folder: Path) -> list[Path]:
        """All .h5 files under a folder, in path order."""
        found = [folder] if folder.is_file() else sorted(folder.rglob("*.h5"))
        if not found:
            raise RequestError(f"{folder}: no .h5 file there")
        return found

    def pieces(self, file: Path, mpp: float | None) -> Iterator[Piece]:
        """The one slide of a file; its stem is the piece's name."""
        try:
            with h5py.File(file, "r", locking=False) as content:
                if "feats" not in content:
                    raise UnreadableError(
                        f"{file}: lacks the dataset 'feats' (it has {', '.join(content) or 'nothing'}), so it is "
                        "not of STAMP's layout"
                    )
                features = content["feats"][()]
                coords = content["coords"][()] if "coords" in content else None
                about = {k: _plain(content.attrs[k]) for k in ATTRIBUTES if k in content.attrs}
        except OSError as error:
            raise UnreadableError(f"{file}: not HDF5, or truncated ({' '.join(str(error).split())[:120]})") from None
        if features.ndim != 2 or features.dtype.kind != "f":
            raise UnreadableError(f"{file}: feats is {features.dtype} {features.shape}; expected floats (N, dim)")
        if about.get("feat_type", "tile") != "tile":
            raise UnreadableError(
                f"{file}: feat_type is {about['feat_type']!r}; only tile features are bags of instances"
            )
        if coords is None:
            yield Piece(file.stem, file, features, about=about)
            return
        if coords.shape != (len(features), 2):
            raise UnreadableError(f"{file}: coords is {coords.shape} for {len(features)} features")
        if about.get("unit", "um") != "um":
            raise UnreadableError(f"{file}: coords are in {about['unit']!r}; STAMP's layout counts in um")
        yield Piece(
            file.stem, file, features, _with_pixels(coords.astype(np.float32), about, mpp), _columns(about, mpp), about
        )

    def write(self, bag: JoinedBag, ids: list[str], out: Path) -> int:
        """A folder with one file a patient, coordinates in micrometres; a new one appears when it is complete."""
        counts = np.diff(bag.offsets)
        owners = np.flatnonzero(counts)
        bad = [ids[i] for i in owners if Path(ids[i]).name != ids[i]]
        if bad:
            raise RequestError(f"patient {bad[0]!r} cannot be a file's name, which STAMP's layout makes of it")
        if out.exists() and not out.is_dir():
            raise RequestError(f"--out {out} exists and is no folder; STAMP's layout is a folder: give another --out")
        folder = out if out.is_dir() else partial_name(out)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._write_files(bag, ids, owners, folder)
            if folder != out:
                folder.replace(out)
        except OSError as error:
            raise RequestError(f"{out}: cannot be written ({reason(error)}); give another --out or make room") from None
        finally:
            if folder != out:
                shutil.rmtree(folder, ignore_errors=True)
        return len(owners)

    def _write_files(self, bag: JoinedBag, ids: list[str], owners: np.ndarray, out: Path) -> None:
        columns = list(bag.meta.coords)
        for patient in owners:
            rows = bag.rows("coords", int(patient)) if any("coords" in p.arrays for p in bag.pieces) else None
            coords, size = _micrometres(bag, int(patient), rows, columns)
            with publish(out / f"{ids[patient]}.h5") as temporary, h5py.File(temporary, "w") as file:
                file.create_dataset("feats", data=bag.rows("features", int(patient)).astype(np.float16))
                file.create_dataset("coords", data=coords)
                file.attrs.update(
                    stamp_version=VERSION, extractor=bag.meta.encoder, unit="um", feat_type="tile", code_hash=""
                )
                file.attrs.update(
                    tile_size_um=size, tile_size_px=int(bag.meta.settings.get("prepared", {}).get("tile_px", 0))
                )


def _columns(about: dict[str, object], mpp: float | None) -> tuple[str, ...]:
    return ("x_um", "y_um") if mpp is None else ("x_um", "y_um", "x", "y", "width", "height")


def _with_pixels(coords: np.ndarray, about: dict[str, object], mpp: float | None) -> np.ndarray:
    """The original floats and, where the MPP is known, the level-0 rectangle of each tile."""
    if mpp is None:
        return coords
    side = np.full(len(coords), float(str(about.get("tile_size_um", 0))) / mpp, np.float32)
    return np.column_stack([coords, coords / mpp, side, side]).astype(np.float32)


def _micrometres(bag: JoinedBag, patient: int, rows: np.ndarray | None, columns: list[str]) -> tuple[np.ndarray, float]:
    if rows is not None and "x_um" in columns:
        size = bag.meta.settings.get("about", {}).get("tile_size_um", 0.0)
        return rows[:, [columns.index("x_um"), columns.index("y_um")]].astype(np.float32), float(size)
    mpps = {source.mpp for source in bag.sources(patient)}
    if rows is None or "x" not in columns or len(mpps) != 1 or mpps == {0.0}:
        raise RequestError(
            f"{bag.name}: patient row {patient} has no level-0 coordinates with one known MPP; "
            "STAMP's layout needs micrometres"
        )
    mpp = mpps.pop()
    side = float(rows[0, columns.index("width")]) * mpp
    return (rows[:, [columns.index("x"), columns.index("y")]] * mpp).astype(np.float32), side


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
