"""Writing a feature store: everything under a temporary name, checked in, then renamed."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mmcli import __version__
from mmcli.errors import RequestError
from mmcli.files import canonical_json, publish
from mmcli.store.hdf5 import Rows, content_digest, write_array, write_attributes, write_rows, write_text
from mmcli.store.parts import MAP_AXES, MAPS, Kind, Patients, Source, Table, in_order

SCHEMA = 1
USERBLOCK = 512
SIGNATURE = b"mmcli feature store"
STRUCTURE = 1 << 16  # bytes of a small store's groups, attributes and ids


@dataclass(frozen=True)
class BagMeta:
    """What holds for all instances of a modality. `settings` says how they were made (JSON)."""

    kind: Kind
    encoder: str = ""
    weights_sha256: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    coords: Sequence[str] = ()


@dataclass(frozen=True)
class BagData:
    """A modality over all patients: masks (n,), offsets (n+1,) and the arrays of its N instances, a stage's maps under
    "maps/<stage>"."""

    meta: BagMeta
    present: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    arrays: Mapping[str, Rows]
    sources: Sequence[Source] = ()


@dataclass(frozen=True)
class Imputation:
    """What one imputer put into one table's holes, fitted on fold k of a set: (m, u) draws of the u unobserved cells
    in row order, and the fitted imputer's own arrays and JSON."""

    table: str
    name: str
    fold_set: str
    fold: int
    values: NDArray[np.float64]
    attributes: dict[str, Any]
    fitted: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def write_store(
    out: Path,
    request: dict[str, Any],
    patients: Patients,
    tables: Mapping[str, Table],
    bags: Mapping[str, BagData] | None = None,
    imputations: Sequence[Imputation] = (),
    *,
    root: str = "",
    shard: str = "",
    compression: str = "none",
) -> str:
    """Write a store of schema 1 as a whole, and return its content's SHA-256. Nothing appears on an error.

    The file's first 512 bytes (HDF5's user block) say in text what it is, with the SHA-256 of all bytes after them.
    """
    if compression == "none":
        large = [rows for bag in (bags or {}).values() for rows in bag.arrays.values()]
        small = sum(t.values.nbytes + t.observed.nbytes for t in tables.values())
        small += sum(i.values.nbytes + sum(a.nbytes for a in i.fitted.values()) for i in imputations)
        _check_room(out, small + sum(math.prod(rows.shape) * rows.dtype.itemsize for rows in large))
    with publish(out) as temporary:
        with h5py.File(temporary, "w", userblock_size=USERBLOCK, libver=("v110", "v110")) as file:
            write_attributes(file, {"mmcli_schema": SCHEMA, "request": request, "root": root, "shard": shard})
            _write_patients(file.create_group("patients"), patients)
            file.create_group("modalities")
            file.create_group("tables")
            for name, bag in (bags or {}).items():
                _write_bag(file.create_group(f"modalities/{name}"), bag, compression)
            for name, table in tables.items():
                _write_table(file.create_group(f"tables/{name}"), table)
            for imputation in imputations:
                _write_imputation(file, imputation)
            content = content_digest(file)
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            write_attributes(file, {"mmcli_version": __version__, "created": now, "content_sha256": content})
        _sign(temporary)
    return content


def _check_room(out: Path, nbytes: int) -> None:
    """Refuse beforehand what the disk cannot hold: HDF5 does not survive a disk that gets full under it."""
    there = next(path for path in out.absolute().parents if path.is_dir())
    free = shutil.disk_usage(there).free
    needed = nbytes + nbytes // 50 + STRUCTURE
    if free < needed:
        raise RequestError(
            f"{out}: needs about {needed / 1e6:,.1f} MB, the disk has {free / 1e6:,.1f} MB left; make room, or give "
            "another --out"
        )


def _sign(path: Path) -> None:
    block = userblock(path)
    with path.open("r+b") as file:
        file.write(block)


def userblock(path: Path) -> bytes:
    """The user block that a store's file must have: a line of text and the SHA-256 of all bytes after the block."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(USERBLOCK)
        while block := file.read(1 << 22):
            digest.update(block)
    text = f"{SIGNATURE.decode()}, HDF5 after this block of {USERBLOCK} bytes\nsha256 {digest.hexdigest()}\n"
    return text.encode().ljust(USERBLOCK, b"\n")


def _write_patients(group: h5py.Group, patients: Patients) -> None:
    write_text(group, "id", patients.ids)
    if patients.group is not None:
        write_text(group, "group", patients.group)
    for task, label in patients.labels.items():
        write_array(group, f"labels/{task}", label.values.astype(np.int64))
        write_attributes(group[f"labels/{task}"], {"classes": label.classes, "ordinal": label.ordinal})
    for name, roles in patients.folds.items():
        write_array(group, f"folds/{name}", roles.astype(np.int8))


def _write_bag(group: h5py.Group, bag: BagData, compression: str) -> None:
    meta = bag.meta
    features = bag.arrays.get("features")
    write_attributes(group, {"kind": meta.kind, "encoder": meta.encoder, "weights_sha256": meta.weights_sha256,
                             "settings": meta.settings, "dim": features.shape[1] if features else 0})  # fmt: skip
    write_array(group, "present", bag.present)
    write_array(group, "failed", bag.failed)
    write_array(group, "offsets", bag.offsets.astype(np.int64))
    for name in in_order(bag.arrays):
        write_rows(group, name, bag.arrays[name], compression)
        if name.startswith(MAPS):
            write_attributes(group[name], {"axes": list(MAP_AXES)})
    if "coords" in group:
        write_attributes(group["coords"], {"columns": list(meta.coords)})
    sources = group.create_group("sources")
    for name in ("path", "fingerprint", "mpp_source"):
        write_text(sources, name, [str(getattr(s, name)) for s in bag.sources])
    if any(s.about for s in bag.sources):
        write_text(sources, "about", [s.about for s in bag.sources])
    write_array(sources, "size", np.array([s.size for s in bag.sources], np.int64))
    write_array(sources, "mpp", np.array([s.mpp for s in bag.sources], np.float64))
    write_array(sources, "spacing", np.array([s.spacing for s in bag.sources], np.float64).reshape(-1, 3))


def _write_table(group: h5py.Group, table: Table) -> None:
    write_attributes(group, {"columns": table.columns, "kinds": table.kinds, "categories": table.categories,
                             "units": table.units})  # fmt: skip
    write_array(group, "present", table.present)
    write_array(group, "values", np.where(table.observed, table.values, np.nan))
    write_array(group, "observed", table.observed)
    if table.about:
        write_attributes(group, {"about": table.about})
    write_text(group, "dictionary", [canonical_json(line) for line in table.dictionary()])


def _write_imputation(file: h5py.File, imputation: Imputation) -> None:
    i = imputation
    group = file.require_group(f"tables/{i.table}/imputed/{i.name}/{i.fold_set}")
    write_array(group, str(i.fold), i.values)
    write_attributes(group[str(i.fold)], i.attributes)
    for name, array in i.fitted.items():
        write_array(group, f"{i.fold}-fitted/{name}", array)
