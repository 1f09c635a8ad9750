"""The pictures of preprocess: what became of each patient's files, for a person to look at."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmcli.files import publish


class Pictures:
    """A folder `<store>.pictures/<modality>/` with a JPEG a file: `<patient>.jpg`, of several files `<patient>-2.jpg`.

    Characters that a file's name cannot have are written as in a URL.
    """

    def __init__(self, out: Path, ids: list[str]) -> None:
        self.folder, self.ids = out.with_name(f"{out.stem}.pictures"), ids

    def clear(self) -> None:
        """Remove the pictures of an earlier request, so that none is taken for a result of this one."""
        for old in self.folder.glob("*/*.jpg"):
            old.unlink(missing_ok=True)

    def keep(self, modality: str, patient: int, pictures: list[NDArray[np.uint8] | None]) -> None:
        """Write the pictures of one patient's files; None makes none."""
        folder = self.folder / _name(modality)
        for number, picture in enumerate(pictures):
            if picture is None:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            suffix = f"-{number + 1}" if number else ""
            with publish(folder / f"{_name(self.ids[patient])}{suffix}.jpg") as path:
                Image.fromarray(picture).save(path, "JPEG", quality=85)


def _name(text: str) -> str:
    name = quote(text, safe=" @+=,()")
    return name.replace(".", "%2E", 1) if name.startswith(".") else name
