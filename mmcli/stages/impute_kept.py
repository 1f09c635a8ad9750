"""What an interrupted command has finished: arrays in a folder beside its output, for one request."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcli import __version__
from mmcli.files import canonical_json, publish, publish_text

Arrays = dict[str, NDArray[Any]]
REQUEST = "request.json"


class Kept:
    """Named arrays in `.OUT.unfinished`; what lies there of another request or version is thrown away."""

    def __init__(self, out: Path, request: dict[str, Any]) -> None:
        place = Path(os.path.abspath(out))  # noqa: PTH100  (resolve() would follow a link that the user put there)
        self.folder = place.with_name(f".{place.name}.unfinished")
        self.request = canonical_json({**request, "mmcli_version": __version__})
        try:
            there = canonical_json(json.loads((self.folder / REQUEST).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            there = ""
        if there != self.request:
            self.remove()

    def load(self, name: str) -> Arrays | None:
        """The arrays of that name, None where they were not finished (or their file is damaged)."""
        try:
            with np.load(self.folder / f"{name}.npz", allow_pickle=False) as file:
                return dict(file.items())
        except (OSError, ValueError, zipfile.BadZipFile):
            return None

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep finished arrays; the folder is made with the first of them."""
        if not (self.folder / REQUEST).exists():
            publish_text(self.folder / REQUEST, self.request)
        with publish(self.folder / f"{name}.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def remove(self) -> None:
        """Nothing is needed any more."""
        shutil.rmtree(self.folder, ignore_errors=True)
