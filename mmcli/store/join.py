"""Several stores, or all shards of one, read as one: joined by patient id, the first one fixes the patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcli.errors import RequestError
from mmcli.files import canonical_json
from mmcli.store.parts import Patients, Source, Table
from mmcli.store.read import Bag, Store
from mmcli.store.write import BagMeta


@dataclass(frozen=True)
class JoinedBag:
    """A modality over the joined patients. `where[i]` is (piece, its row) or (-1, -1) where patient i has nothing."""

    name: str
    meta: BagMeta
    dim: int
    present: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    pieces: list[Bag]
    where: NDArray[np.int64]

    def rows(self, array: str, patient: int) -> NDArray[Any]:
        """One patient's rows of an array ("features", "coords", "pixels", "source")."""
        piece, row = self.where[patient]
        if piece < 0:
            return self._no_rows(array)
        bag = self.pieces[piece]
        return bag.rows(array, int(row)) if array in bag.arrays else self._no_rows(array)

    def _no_rows(self, array: str) -> NDArray[Any]:
        like = next(p.arrays[array] for p in self.pieces if array in p.arrays)
        none: NDArray[Any] = np.empty((0, *like.shape[1:]), like.dtype)
        return none

    def sources(self, patient: int) -> list[Source]:
        """The files that a patient's instances come from, in the order in which they first occur."""
        piece, row = self.where[patient]
        if piece < 0 or "source" not in self.pieces[piece].arrays:
            return []
        numbers = self.pieces[piece].rows("source", int(row)).tolist()
        return [self.pieces[piece].sources[i] for i in dict.fromkeys(numbers)]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The features' type; stores of float16 and float32 that are joined are read as the first one's."""
        return next((p.arrays["features"].dtype for p in self.pieces if "features" in p.arrays), np.dtype(np.float16))

    def load(self) -> NDArray[Any]:
        """All features (N, dim) of the joined patients in their order, read once."""
        out = np.empty((int(self.offsets[-1]), self.dim), self.dtype)
        for patient in np.flatnonzero(np.diff(self.offsets)):
            piece, row = self.where[patient]
            self.pieces[piece].read_into(out, int(row), int(self.offsets[patient]))
        return out


class Stores:
    """Stores joined by patient id. A context manager."""

    def __init__(self, paths: Sequence[Path], patients: Patients | None = None) -> None:
        """`patients` replaces the first store's own (a cohort given anew)."""
        if not paths:
            raise RequestError("no feature store is given")
        self.files: list[Store] = []
        try:
            for path in paths:
                self.files.append(Store(path))
            _check_shards(self.files)
            self.patients = patients or self.files[0].patients
            self._index = {patient: i for i, patient in enumerate(self.patients.ids)}
            self._rows = [_rows(file, self._index) for file in self.files]
            for file, rows in zip(self.files, self._rows, strict=True):
                if not (rows >= 0).any():
                    raise RequestError(
                        f"{file.path}: none of its patients is among those that are wanted (first id there: "
                        f"{file.patients.ids[0]!r}, wanted: {self.patients.ids[0]!r}); is it a store of another cohort?"
                    )
            _check_sources(self.files, self._rows, self.patients.ids)
            self.bags = self._join_bags()
            self.tables = self._join_tables()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Stores:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        for file in self.files:
            file.close()

    @property
    def fingerprints(self) -> list[str]:
        """The content of each store, for requests and provenance."""
        return [file.content_sha256 for file in self.files]

    def bag(self, name: str) -> JoinedBag:
        """A modality that has features; RequestError names what there is and the command that makes it."""
        bag = self.bags.get(name)
        if bag is None:
            raise RequestError(f"the stores have no modality {name!r} (there are: {', '.join(self.names()) or 'none'})")
        if not bag.dim:
            raise RequestError(
                f"{name} has no features in these stores; make them with `mmcli extract-features "
                f"{self.files[0].path} --encoder {name}=ENCODER --out features.h5`"
            )
        return bag

    def names(self) -> list[str]:
        """All modalities: bags that have features, then tables."""
        return [n for n, b in self.bags.items() if b.dim] + list(self.tables)

    def imputed_tables(self, name: str, fold_set: str) -> list[str]:
        """The tables whose holes an imputation of this name fills for a fold set; RequestError when there is none."""
        tables = [
            t for t in self.tables if any((name, fold_set) in f.imputations(t) for f in self.files if t in f.tables)
        ]
        if not tables:
            there = sorted({f"{n} for {s}" for f in self.files for t in f.tables for n, s in f.imputations(t)})
            raise RequestError(
                f"--imputer: no imputation {name!r} for {fold_set!r} in these stores (there are: "
                f"{', '.join(there) or 'none'}); make it with `mmcli impute {self.files[0].path} --table "
                f"{next(iter(self.tables), 'TABLE')} --method {name} --folds {fold_set} --out imputed.h5`"
            )
        return tables

    def filled(self, table: str, name: str, fold_set: str, fold: int) -> NDArray[np.float64]:
        """A table's values with one fold's imputations in its holes: (m, n, f); NaN where nothing was imputed."""
        own = self.tables[table]
        found: NDArray[np.float64] | None = None
        for file, rows in zip(self.files, self._rows, strict=True):
            if table not in file.tables or fold not in file.imputations(table).get((name, fold_set), []):
                continue
            theirs = file.tables[table]
            if theirs.columns != own.columns:
                raise RequestError(f"{file.path}: table {table} has other columns than the one it is joined to")
            draws, _ = file.imputed(table, name, fold_set, fold)
            if found is None:
                found = np.repeat(own.values[None], len(draws), 0)
            holes = ~theirs.observed
            full = np.full((len(draws), *theirs.values.shape), np.nan)
            full[:, holes] = draws
            target = rows >= 0
            block = found[:, rows[target]]
            own_holes = ~own.observed[rows[target]]
            block[:, own_holes] = full[:, target][:, own_holes]
            found[:, rows[target]] = block
        if found is None:
            has = sorted({n for f in self.files if table in f.tables for n, _ in f.imputations(table)})
            raise RequestError(
                f"no imputation {name!r} of {table} for fold {fold} of {fold_set!r} in these stores (there are: "
                f"{', '.join(has) or 'none'}); make it with `mmcli impute {self.files[0].path} --table {table} "
                f"--method {name} --folds {fold_set} --out imputed.h5`"
            )
        return found

    def _join_bags(self) -> dict[str, JoinedBag]:
        names = dict.fromkeys(name for file in self.files for name in file.bags)
        return {name: self._join_bag(name) for name in names}

    def _join_bag(self, name: str) -> JoinedBag:
        found = [(f, r, f.bags[name]) for f, r in zip(self.files, self._rows, strict=True) if name in f.bags]
        if any(bag.dim for *_, bag in found):  # prepared.h5 beside features.h5: the features are the modality
            found = [item for item in found if item[2].dim or not item[2].present.any()]
            found = [item for item in found if item[2].dim] or found
        n, first = len(self.patients), found[0][2]
        where = np.full((n, 2), -1, np.int64)
        present, failed, counts = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, np.int64)
        for piece, (file, rows, bag) in enumerate(found):
            _check_same(file, bag, first)
            theirs = np.flatnonzero((rows >= 0) & (bag.present | bag.failed))
            ours = rows[theirs]
            twice = ours[present[ours] | failed[ours]]
            if len(twice):
                raise RequestError(
                    f"{file.path}: modality {name} of patient {self.patients.ids[twice[0]]} is in two of the stores "
                    f"({len(twice)} patients); give only one of them"
                )
            where[ours, 0], where[ours, 1] = piece, theirs
            present[ours], failed[ours] = bag.present[theirs], bag.failed[theirs]
            counts[ours] = np.diff(bag.offsets)[theirs]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        pieces = [bag for *_, bag in found]
        dim = max(bag.dim for bag in pieces)
        return JoinedBag(name, first.meta, dim, present, failed, offsets, pieces, where)

    def _join_tables(self) -> dict[str, Table]:
        names = dict.fromkeys(name for file in self.files for name in file.tables)
        return {name: self._join_table(name) for name in names}

    def _join_table(self, name: str) -> Table:
        joined: Table | None = None
        for file, rows in zip(self.files, self._rows, strict=True):
            if name not in file.tables:
                continue
            table = _reindexed(file.tables[name], rows, len(self.patients))
            joined = table if joined is None else _merged(joined, table, name, file, self.patients.ids)
        assert joined is not None
        return joined


def _rows(file: Store, index: dict[str, int]) -> NDArray[np.int64]:
    """For each patient of a file the joined row, -1 where the cohort does not have them."""
    return np.array([index.get(patient, -1) for patient in file.patients.ids], np.int64)


def _check_shards(files: list[Store]) -> None:
    """All shards of a store must be there; what belongs together was asked for in the same way."""
    shards: dict[tuple[str, str], set[str]] = {}
    for file in files:
        if file.shard:
            number, _, total = file.shard.partition("/")
            request = canonical_json({k: v for k, v in file.request.items() if k != "shard"})
            shards.setdefault((total, request), set()).add(number)
    for (total, _), have in shards.items():
        lacking = [str(i) for i in range(int(total)) if str(i) not in have]
        if lacking:
            raise RequestError(f"shard {', '.join(lacking)} of {total} is missing: give all shards of the store")


def _check_sources(files: list[Store], rows: list[NDArray[np.int64]], ids: list[str]) -> None:
    """RequestError where two stores took one patient's file, of the same modality (`slide` and `slide@uni` are one),
    with different content. Paths are compared first: whose they are is looked up only where they differ."""
    known: dict[tuple[str, str], tuple[int, Bag, str]] = {}
    for number, file in enumerate(files):
        for bag in file.bags.values():
            family = bag.name.split("@")[0]
            for source in bag.sources:
                first = known.setdefault((family, source.path), (number, bag, source.fingerprint))
                if first[0] == number or "" in (first[2], source.fingerprint) or first[2] == source.fingerprint:
                    continue
                both = _owners(first[1], rows[first[0]], source.path) & _owners(bag, rows[number], source.path)
                if both:
                    raise RequestError(
                        f"{file.path}: {family} of patient {ids[min(both)]} was made from another {source.path} (its "
                        f"content differs) than in {files[first[0]].path}; make the older one again, or give only one"
                    )


def _owners(bag: Bag, rows: NDArray[np.int64], path: str) -> set[int]:
    """The joined patients whose instances come from a file."""
    if "source" not in bag.arrays:
        return set()
    numbers = [i for i, source in enumerate(bag.sources) if source.path == path]
    used = np.flatnonzero(np.isin(bag.arrays["source"][:], numbers))
    owners = rows[np.unique(np.searchsorted(bag.offsets, used, side="right") - 1)]
    return set(owners[owners >= 0].tolist())


def _check_same(file: Store, bag: Bag, first: Bag) -> None:
    keys = ("kind", "encoder", "weights_sha256", "settings")
    for key in keys:
        if getattr(bag.meta, key) != getattr(first.meta, key):
            raise RequestError(
                f"{file.path}: modality {bag.name} was made with another {key.removesuffix('_sha256')} "
                f"({getattr(bag.meta, key)!r} here, {getattr(first.meta, key)!r} in the store before)"
            )
    if bag.dim and first.dim and bag.dim != first.dim:
        raise RequestError(f"{file.path}: modality {bag.name} has {bag.dim} dimensions, the store before {first.dim}")


def _reindexed(table: Table, rows: NDArray[np.int64], n: int) -> Table:
    present = np.zeros(n, bool)
    values = np.full((n, len(table.columns)), np.nan)
    observed = np.zeros(values.shape, bool)
    known = rows >= 0
    ours = rows[known]
    present[ours], values[ours], observed[ours] = table.present[known], table.values[known], table.observed[known]
    return replace(table, present=present, values=values, observed=observed)


def _merged(one: Table, two: Table, name: str, file: Store, ids: list[str]) -> Table:
    """A table that is carried along by several stores; rows that both have must be the same."""
    for key in ("columns", "kinds", "categories"):
        if getattr(one, key) != getattr(two, key):
            raise RequestError(
                f"{file.path}: table {name} has other {key} than in the store before; give only one of them"
            )
    both = one.present & two.present
    same = (np.array_equal(one.observed[both], two.observed[both])
            and np.array_equal(one.values[both], two.values[both], equal_nan=True))  # fmt: skip
    if not same:
        differs = both & (
            (one.observed != two.observed).any(1) | (np.nan_to_num(one.values) != np.nan_to_num(two.values)).any(1)
        )
        raise RequestError(
            f"{file.path}: table {name} differs from the store before for patient "
            f"{ids[int(np.flatnonzero(differs)[0])]}; give only one of them"
        )
    new = two.present & ~one.present
    return replace(
        one,
        present=one.present | two.present,
        values=np.where(new[:, None], two.values, one.values),
        observed=np.where(new[:, None], two.observed, one.observed),
    )
