"""Whose layout a file is, for the message about a wrong --layout."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import h5py

NAMES = {"trident": "TRIDENT", "clam": "CLAM", "stamp": "STAMP", "npz": "npz"}


def looks_like(file: Path) -> str:
    """The layout that a file's own content speaks for: a name of `NAMES`, "coordinates", "store", or "" for none."""
    try:
        if file.suffix == ".pt":
            return "clam" if zipfile.is_zipfile(file) else ""
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as content:
                return "npz" if {"patient_id.npy", "x.npy"} <= set(content.namelist()) else ""
        with h5py.File(file, "r", locking=False) as content:
            if "mmcli_schema" in content.attrs:
                return "store"
            if "feats" in content:
                return "stamp"
            if "features" not in content:
                return "coordinates" if "coords" in content else ""
            told = {
                *content["features"].attrs,
                *content.attrs,
                *(content["coords"].attrs if "coords" in content else ()),
            }
            return "trident" if told & {"encoder", "patch_size_level0"} else "clam" if "coords" in content else ""
    except (OSError, KeyError, RuntimeError, ValueError, AttributeError):
        return ""


def hint(file: Path) -> str:
    """The tail of a message about a file that is not of the layout that was given."""
    found = looks_like(file)
    if found == "coordinates":
        return "; it has the coordinates of tiles and no features: give the folder of the features"
    if found == "store":
        return "; it is a feature store of mmcli, which needs no import"
    return f"; it looks like {NAMES[found]}'s: give --layout {found}" if found else ""


def hint_among(files: Iterable[Path]) -> str:
    """The same for a folder: of the first of its files that looks like something."""
    return next((told for told in map(hint, files) if told), "")


def candidates(folder: Path, most: int = 20) -> list[Path]:
    """The first files of a folder that might be features, for `hint_among`."""
    found: list[Path] = []
    for file in folder.rglob("*") if folder.is_dir() else [folder]:
        if file.suffix in (".h5", ".hdf5", ".pt", ".npz") and file.is_file():
            found.append(file)
        if len(found) >= most:
            break
    return sorted(found)
