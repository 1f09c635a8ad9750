"""`mmcli store info|verify|pack`: look into, check and pack feature stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmcli.cohort.columns import limits_text, some
from mmcli.errors import DAMAGED, DamagedError
from mmcli.stages.common import existing_request
from mmcli.stages.outcome import Outcome, is_done
from mmcli.store import (
    BagData,
    Imputation,
    JoinedBag,
    Store,
    Stores,
    write_store,
)
from mmcli.store import verify as verify_store
from mmcli.store.hdf5 import Rows
from mmcli.store.parts import MAP_AXES, MAPS, ROLES, Table, in_order
from mmcli.store.read import Bag

MANY_COLUMNS = 40


def info(paths: list[Path]) -> Outcome:
    """What stores hold, one row a part."""
    rows: list[dict[str, Any]] = []
    for path in paths:
        with Store(path) as store:
            patients = store.patients
            head = f"{path.name}: " if len(paths) > 1 else ""
            shard = f", shard {store.shard}" if store.shard else ""
            rows.append(
                {
                    "holds": f"{head}patients",
                    "count": len(patients),
                    "what": f"made by mmcli {store.version} on {store.created}{shard}",
                }
            )
            for task, label in patients.labels.items():
                shares = [f"{c} {int((label.values == i).sum())}" for i, c in enumerate(label.classes)]
                rows.append(
                    {"holds": f"{head}label {task}", "count": int((label.values >= 0).sum()), "what": ", ".join(shares)}
                )
            for name, roles in patients.folds.items():
                first = " / ".join(str(int((roles[:, 0] == role).sum())) for role in ROLES.values())
                what = f"train / validation / test of the first: {first}"
                rows.append({"holds": f"{head}folds {name}", "count": roles.shape[1], "what": what})
            for bag in store.bags.values():
                encoder = f"{bag.meta.encoder} {bag.dim}-dim features" if bag.dim else "not encoded yet"
                failed = f", {int(bag.failed.sum())} failed" if bag.failed.any() else ""
                what = f"{bag.meta.kind}, {encoder}, {int(bag.offsets[-1])} instances{failed}"
                rows.append({"holds": f"{head}modality {bag.name}", "count": int(bag.present.sum()), "what": what})
                rows += _map_rows(head, bag)
            for name, table in store.tables.items():
                cells = table.observed[table.present]
                what = f"table, {len(table.columns)} columns, {cells.mean() if cells.size else 0:.1%} observed"
                imputed = sorted({n for n, _ in store.imputations(name)})
                what += f", imputed by {', '.join(imputed)}" if imputed else ""
                rows.append({"holds": f"{head}table {name}", "count": int(table.present.sum()), "what": what})
                rows += _column_rows(head, name, table)
    return Outcome("", {}, rows)


def _map_rows(head: str, bag: Bag) -> list[dict[str, Any]]:
    """The maps that a modality's encoder gave beside its latents."""
    rows = []
    for name, array in bag.arrays.items():
        if name.startswith(MAPS):
            shape = " x ".join(map(str, array.shape[1:]))
            what = f"map {shape} ({', '.join(MAP_AXES)}) of an instance, {array.dtype}"
            rows.append({"holds": f"{head}  {bag.name}/{name}", "count": int(bag.present.sum()), "what": what})
    return rows


def _column_rows(head: str, name: str, table: Table) -> list[dict[str, Any]]:
    """The data dictionary of a table, or where it lies for one that would fill screens."""
    lines = table.dictionary()
    if len(lines) > MANY_COLUMNS:
        what = f"{len(lines)} columns: /tables/{name}/dictionary in the file holds the data dictionary, JSON a column"
        return [{"holds": f"{head}  {name}.*", "count": int(table.observed.any(axis=1).sum()), "what": what}]
    return [
        {"holds": f"{head}  {name}.{line['name']}", "count": line["observed"], "what": _column(line)} for line in lines
    ]


def _column(line: dict[str, Any]) -> str:
    parts = [line["kind"], line["unit"], " < ".join(line["categories"]) if line["kind"] == "ordinal" else ""]
    parts.append(some(line["categories"], quote=False) if line["kind"] == "categorical" else "")
    if "limits" in line:
        parts.append(limits_text(tuple(line["limits"])))
    parts.append(f"{line['outside']} outside taken as missing" if line.get("outside") else "")
    parts += [line.get("made", ""), f"{line['missing_share']:.1%} missing"]
    return ", ".join(part for part in parts if part)


def verify(paths: list[Path]) -> Outcome:
    """Every byte of every store against its checksums; DAMAGED when one differs or cannot be opened."""
    rows: list[dict[str, Any]] = []
    code = 0
    for path in paths:
        try:
            damage = verify_store(path)
        except DamagedError as error:
            damage = [str(error)]
        rows.append({"store": str(path), "state": "damaged: " + "; ".join(damage) if damage else "whole"})
        code = DAMAGED if damage else code
    return Outcome("", {}, rows, code)


def pack(paths: list[Path], out: Path, force: bool) -> Outcome:
    """Write one store that holds all parts of several, or of all shards of one."""
    with Stores(paths) as stores:
        request = {"command": "store pack", "inputs": stores.fingerprints}
        if is_done(out, request, existing_request(out, paths, force), force):
            return Outcome(f"{out} holds this already: nothing to do")
        for path in paths:  # a store of damaged bytes with new checksums would look whole for ever
            damage = verify_store(path)
            if damage:
                raise DamagedError(f"{path}: damaged ({'; '.join(damage)}); make it again before it is packed")
        roots = {file.root for file in stores.files if file.root}
        data = {name: _packed(bag) for name, bag in stores.bags.items()}
        write_store(
            out, request, stores.patients, stores.tables, data, _imputations(stores), root=min(roots, default="")
        )
        return Outcome(
            f"{out}: {len(stores.patients)} patients, {', '.join([*data, *stores.tables])}", {"out": str(out)}
        )


def _packed(bag: JoinedBag) -> BagData:
    """A joined modality in patient order; source numbers count through all pieces."""
    starts = np.cumsum([0, *(len(p.sources) for p in bag.pieces)])
    sources = [source for piece in bag.pieces for source in piece.sources]
    arrays = {}
    for name in in_order(name for piece in bag.pieces for name in piece.arrays):
        like = next(p.arrays[name] for p in bag.pieces if name in p.arrays)
        shape = (int(bag.offsets[-1]), *like.shape[1:])
        arrays[name] = Rows(shape, like.dtype, lambda n=name: _patient_rows(bag, n, starts))  # type: ignore[misc]
    return BagData(bag.meta, bag.present, bag.failed, bag.offsets, arrays, sources)


def _patient_rows(bag: JoinedBag, name: str, starts: Any) -> Any:
    for patient in np.flatnonzero(np.diff(bag.offsets)):
        rows = bag.rows(name, int(patient))
        yield rows + np.int32(starts[bag.where[patient, 0]]) if name == "source" else rows


def _imputations(stores: Stores) -> list[Imputation]:
    """All imputations of the stores, for the joined patients' holes."""
    found: dict[tuple[str, str, str, int], Imputation] = {}
    for file in stores.files:
        for table in file.tables:
            for (name, fold_set), folds in file.imputations(table).items():
                for fold in folds:
                    holes = ~stores.tables[table].observed
                    values = stores.filled(table, name, fold_set, fold)[:, holes]
                    _, attributes = file.imputed(table, name, fold_set, fold)
                    attributes.pop("sha256", None)
                    fitted = file.fitted(table, name, fold_set, fold)
                    found[table, name, fold_set, fold] = Imputation(
                        table, name, fold_set, fold, values, attributes, fitted
                    )
    return list(found.values())
