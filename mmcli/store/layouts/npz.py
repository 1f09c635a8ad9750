"""Plain `.npz` files: `patient_id` (n,) and `x`.

`x` is (n, dim) with a row an instance (a patient may have several rows), or (n, k, dim) with k instances a patient.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmcli.errors import RequestError, UnreadableError
from mmcli.files import publish
from mmcli.store.join import JoinedBag
from mmcli.store.layouts.layout import Layout, Piece


class Npz(Layout):
    """Plain npz files with `patient_id` and `x`."""

    one_a_file = False

    def files(self, folder: Path) -> list[Path]:
        """One .npz file, or all of a folder in name order."""
        found = [folder] if folder.is_file() else sorted(folder.glob("*.npz"))
        if not found:
            raise RequestError(f"{folder}: no .npz file there")
        return found

    def pieces(self, file: Path, mpp: float | None) -> Iterator[Piece]:
        """The patients of one file, in the order in which they first occur."""
        try:
            with np.load(file, allow_pickle=False) as content:
                lacking = {"patient_id", "x"} - set(content.files)
                if lacking:
                    raise UnreadableError(
                        f"{file}: lacks the array {' and '.join(sorted(lacking))} (it has {', '.join(content.files)})"
                    )
                ids, x = content["patient_id"], content["x"]
        except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
            raise UnreadableError(f"{file}: not an npz file of plain arrays ({' '.join(str(error).split())})") from None
        if ids.ndim != 1 or x.ndim not in (2, 3) or len(ids) != len(x):
            raise UnreadableError(
                f"{file}: patient_id is {ids.shape} and x {x.shape}; expected (n,) and (n, dim) or (n, k, dim)"
            )
        if x.dtype.kind != "f":
            raise UnreadableError(f"{file}: x is {x.dtype}, not floating point")
        rows: dict[str, list[int]] = {}
        for row, patient in enumerate(ids.astype(str).tolist()):
            rows.setdefault(patient, []).append(row)
        for patient, own in rows.items():
            yield Piece(patient, file, x[own].reshape(-1, x.shape[-1]))

    def write(self, bag: JoinedBag, ids: list[str], out: Path) -> int:
        """One file: a row an instance."""
        if out.exists() and not (out.is_file() and zipfile.is_zipfile(out)):
            raise RequestError(f"--out {out} exists and is no .npz file; give another --out")
        counts = np.diff(bag.offsets)
        names = np.repeat(np.array(ids), counts)
        with publish(out) as temporary, temporary.open("wb") as file:
            np.savez(file, patient_id=names, x=bag.load())
        return int((counts > 0).sum())
