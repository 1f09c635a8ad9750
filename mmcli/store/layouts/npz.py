"""Plain `.npz` files: `patient_id` (n,) and `x`.

`x` is (n, dim) with a row an instance (a patient may have several rows), or (n, k, dim) with k instances a patient. An
export has a row an instance, and where the store has them `coords` (n, c) with their names `columns` (c,), and
`encoder`; an import takes these too.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmcli.errors import RequestError, UnreadableError
from mmcli.store.join import JoinedBag
from mmcli.store.layouts.guess import candidates, hint, hint_among
from mmcli.store.layouts.layout import Given, Layout, Piece
from mmcli.store.layouts.slides import Plan

ABOUT = "mmcli"


class Npz(Layout):
    """Plain npz files with `patient_id` and `x`."""

    one_a_file = False
    suffix = ".npz"

    def files(self, folder: Path) -> list[Path]:
        """One .npz file, or all of a folder in name order."""
        found = [folder] if folder.is_file() else sorted(folder.glob("*.npz"))
        if not found:
            raise RequestError(f"{folder}: no .npz file there{hint_among(candidates(folder))}")
        return found

    def pieces(self, file: Path, given: Given) -> Iterator[Piece]:
        """The patients of one file, in the order in which they first occur."""
        try:
            with np.load(file, allow_pickle=False) as content:
                lacking = {"patient_id", "x"} - set(content.files)
                if lacking:
                    raise UnreadableError(
                        f"{file}: lacks the array {' and '.join(sorted(lacking))} (it has {', '.join(content.files)})"
                    )
                ids, x = content["patient_id"], content["x"]
                coords = content["coords"] if "columns" in content.files else None
                columns = tuple(content["columns"].astype(str).tolist()) if coords is not None else ()
                encoder = str(content["encoder"]) if "encoder" in content.files else ""
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError, TypeError, MemoryError) as error:
            told = " ".join(str(error).split())
            if "pickle" in told:  # NumPy advises to load such a file unsafely
                told = "no zip of arrays, or arrays of Python objects"
            raise UnreadableError(f"{file}: not an npz file of plain arrays ({told}){hint(file)}") from None
        if ids.ndim != 1 or x.ndim not in (2, 3) or len(ids) != len(x):
            raise UnreadableError(
                f"{file}: patient_id is {ids.shape} and x {x.shape}; expected (n,) and (n, dim) or (n, k, dim)"
            )
        if x.dtype.kind != "f":
            raise UnreadableError(f"{file}: x is {x.dtype}, not floating point")
        if coords is not None and (x.ndim != 2 or coords.shape != (len(x), len(columns))):
            raise UnreadableError(f"{file}: coords is {coords.shape} for {len(x)} features and {len(columns)} columns")
        rows: dict[str, list[int]] = {}
        for row, patient in enumerate(ids.astype(str).tolist()):
            rows.setdefault(patient, []).append(row)
        for patient, own in rows.items():
            features = x[own].reshape(-1, x.shape[-1])
            yield Piece(patient, file, features, coords[own] if coords is not None else None, columns, encoder)

    def write(self, bag: JoinedBag, plan: Plan, out: Path, about: dict[str, Any]) -> None:
        """One file: a row an instance."""
        names = np.repeat(np.array(plan.patients.ids), np.diff(bag.offsets))
        arrays = {"patient_id": names, "x": bag.load(), "encoder": np.array(bag.meta.encoder)}
        if bag.meta.coords and any("coords" in piece.arrays for piece in bag.pieces):
            own = [bag.rows("coords", target.patient) for target in plan.targets]
            arrays |= {"coords": np.concatenate(own), "columns": np.array(list(bag.meta.coords))}
        with out.open("wb") as file:
            np.savez(file, **arrays, **{ABOUT: np.array(json.dumps(about))})  # type: ignore[arg-type]

    def written_for(self, file: Path) -> dict[str, Any] | None:
        """The `about` of a file that `write` made, None where it is none."""
        try:
            with np.load(file, allow_pickle=False) as content:
                found = json.loads(str(content[ABOUT]))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError, TypeError):
            return None
        return found if isinstance(found, dict) else None
