"""Reading one feature store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mmcli.errors import DamagedError, RequestError
from mmcli.store.hdf5 import RawRows, dataset_digest, json_attribute, read_text
from mmcli.store.parts import ARRAYS, MAPS, Label, Patients, Source, Table
from mmcli.store.write import SCHEMA, SIGNATURE, USERBLOCK, BagMeta, userblock


@dataclass(frozen=True)
class Bag:
    """A modality of one store: small arrays in memory, large ones as open datasets."""

    name: str
    meta: BagMeta
    dim: int
    present: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    arrays: dict[str, h5py.Dataset]
    sources: list[Source] = field(repr=False)
    _raws: dict[str, RawRows | None] = field(default_factory=dict, repr=False, compare=False)

    def rows(self, name: str, patient: int) -> NDArray[Any]:
        """One patient's rows of an array ("features", "coords", "pixels", "source", "maps/<stage>")."""
        return self._between(name, int(self.offsets[patient]), int(self.offsets[patient + 1]))

    def some_rows(self, name: str, patient: int, start: int, stop: int) -> NDArray[Any]:
        """Rows start:stop of a patient's own."""
        first, end = int(self.offsets[patient]), int(self.offsets[patient + 1])
        return self._between(name, min(first + start, end), min(first + stop, end))

    def read_into(self, out: NDArray[Any], patient: int, start: int) -> None:
        """Copy one patient's features into out[start:], straight from the file."""
        dataset, raw = self.arrays["features"], self._raw("features")
        first, last = int(self.offsets[patient]), int(self.offsets[patient + 1])
        target = out[start : start + last - first]
        with reading(dataset):
            if raw and raw.dtype == out.dtype and target.flags.c_contiguous and len(target) == last - first:
                raw.read_into(target, first)
            elif last > first:
                dataset.read_direct(out, np.s_[first:last], np.s_[start : start + last - first])

    def _between(self, name: str, first: int, last: int) -> NDArray[Any]:
        """Rows first:last of an array of the store."""
        dataset, raw = self.arrays[name], self._raw(name)
        with reading(dataset):
            array: NDArray[Any] = raw.read(first, max(first, last)) if raw else dataset[first:last]
        return array

    def _raw(self, name: str) -> RawRows | None:
        """The direct way to an array, looked up once; None where it is compressed."""
        if name not in self._raws:
            self._raws[name] = RawRows.of(self.arrays[name])
        return self._raws[name]


@contextmanager
def reading(dataset: h5py.Dataset) -> Iterator[None]:
    """Turn what HDF5 says of damaged bytes into DamagedError with the file and the dataset."""
    try:
        yield
    except OSError as error:
        path = dataset.file.filename
        raise DamagedError(f"{path}: {dataset.name} is damaged ({_short(error)}); make the store again") from None


class Store:
    """One store, opened for reading. A context manager; everything small is read at once.

    Raises RequestError when it is not there, DamagedError when it is truncated, not a store, or of another schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise RequestError(f"{path}: no such feature store; `mmcli preprocess` or `extract-features` makes one")
        try:
            # Stores never change once they exist, so that no lock is needed (NFS and Lustre often have none).
            self._file = h5py.File(path, "r", locking=False)
            schema = self._file.attrs.get("mmcli_schema")
        except (OSError, KeyError, RuntimeError) as error:
            raise DamagedError(f"{path}: not a feature store, or truncated ({_short(error)}); make it again") from None
        if schema != SCHEMA:
            self._file.close()
            problem = "an HDF5 file, but no feature store" if schema is None else f"a feature store of schema {schema}"
            raise DamagedError(f"{path}: {problem}; this mmcli reads schema {SCHEMA}: make it again")
        try:
            self._read()
        except (KeyError, OSError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            self._file.close()
            raise DamagedError(f"{path}: damaged ({_short(error)}); make it again") from None

    def _read(self) -> None:
        attributes = self._file.attrs
        self.request: dict[str, Any] = json.loads(attributes["request"])
        self.content_sha256 = str(attributes["content_sha256"])
        self.version, self.created = str(attributes["mmcli_version"]), str(attributes["created"])
        self.root, self.shard = str(attributes["root"]), str(attributes["shard"])
        self.patients = _read_patients(self._file["patients"])
        self.bags = {name: _read_bag(name, group) for name, group in self._file["modalities"].items()}
        self.tables = {name: _read_table(group) for name, group in self._file["tables"].items()}

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; datasets of its bags cannot be read any more."""
        self._file.close()

    def imputations(self, table: str) -> dict[tuple[str, str], list[int]]:
        """(name, fold set) -> folds that a table's holes were filled for."""
        group = self._file.get(f"tables/{table}/imputed", {})
        return {
            (name, fold_set): sorted(int(k) for k in folds if k.isdigit())
            for name, sets in group.items()
            for fold_set, folds in sets.items()
        }

    def imputed(self, table: str, name: str, fold_set: str, fold: int) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """The (m, u) draws for the u unobserved cells in row order, and how they were made."""
        dataset = self._file[f"tables/{table}/imputed/{name}/{fold_set}/{fold}"]
        return dataset[:], {k: (v.tolist() if isinstance(v, np.generic) else v) for k, v in dataset.attrs.items()}

    def fitted(self, table: str, name: str, fold_set: str, fold: int) -> dict[str, NDArray[Any]]:
        """The arrays of the imputer that was fitted on a fold."""
        group = self._file.get(f"tables/{table}/imputed/{name}/{fold_set}/{fold}-fitted", {})
        return {key: dataset[()] for key, dataset in group.items()}


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]


def _read_patients(group: h5py.Group) -> Patients:
    ids = read_text(group["id"])
    labels = {
        task: Label(data[:], json_attribute(data, "classes", []), bool(data.attrs["ordinal"]))
        for task, data in group.get("labels", {}).items()
    }
    folds = {name: data[:] for name, data in group.get("folds", {}).items()}
    return Patients(ids, read_text(group["group"]) if "group" in group else None, labels, folds)


def _read_bag(name: str, group: h5py.Group) -> Bag:
    arrays = {n: group[n] for n in ARRAYS if n in group}
    arrays |= {MAPS + stage: dataset for stage, dataset in group.get("maps", {}).items()}
    coords = json_attribute(group["coords"], "columns", []) if "coords" in group else []
    settings = json_attribute(group, "settings", {})
    meta = BagMeta(group.attrs["kind"], group.attrs["encoder"], group.attrs["weights_sha256"], settings, coords)
    masks = group["present"][:], group["failed"][:], group["offsets"][:]
    return Bag(name, meta, int(group.attrs["dim"]), *masks, arrays, _read_sources(group["sources"]))


def _read_sources(group: h5py.Group) -> list[Source]:
    texts = {n: read_text(group[n]) for n in ("path", "fingerprint", "mpp_source", "about") if n in group}
    numbers = {n: group[n][:].tolist() for n in ("size", "mpp", "spacing")}
    return [
        Source(**dict(zip((*texts, *numbers), row, strict=True)) | {"spacing": tuple(row[-1])})
        for row in zip(*texts.values(), *numbers.values(), strict=True)
    ]


def _read_table(group: h5py.Group) -> Table:
    attribute = {n: json_attribute(group, n, {}) for n in ("columns", "kinds", "categories", "units", "about")}
    return Table(present=group["present"][:], values=group["values"][:], observed=group["observed"][:], **attribute)


def is_store(path: Path) -> bool:
    """Whether a file is a feature store of ours, whole or damaged: what its first bytes say."""
    with path.open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def store_request(path: Path) -> dict[str, Any] | None:
    """The request that a store was made for, None where there is no file."""
    if not path.exists():
        return None
    with Store(path) as store:
        return store.request


def verify(path: Path) -> list[str]:
    """Read every byte of a store and compare it with the checksum: what is damaged, by name; empty when nothing is."""
    with Store(path) as store:
        with path.open("rb") as file:
            if file.read(USERBLOCK) == userblock(path):
                return []
        return _damaged(store._file) or ["the file's bytes differ from its checksum, outside of the data"]


def _damaged(file: h5py.File) -> list[str]:
    names: list[str] = []

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            try:
                if dataset_digest(item) != item.attrs["sha256"]:
                    names.append(f"/{name} differs from its checksum")
            except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
                names.append(f"/{name} cannot be read ({_short(error)})")

    try:
        file.visititems(look)
    except (RuntimeError, KeyError, OSError, TypeError, ValueError) as error:
        names.append(f"its structure cannot be walked ({_short(error)})")
    return names
