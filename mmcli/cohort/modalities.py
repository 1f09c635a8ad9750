"""From a modality's keys to the files or columns of every patient."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmcli.cohort.columns import is_missing, rows_text, some
from mmcli.cohort.dates import Duration, durations, parse_date
from mmcli.cohort.model import BagSpec, FileSpec, TableSpec
from mmcli.cohort.schema import BagKeys, CohortKeys, DateKeys, TableKeys
from mmcli.cohort.tables import Findings, TableFile, check_ids, join
from mmcli.registry import did_you_mean

Paths = Literal["check", "ignore"]


@dataclass
class Place:
    """What every modality is read against."""

    cohort: Path
    root: Path
    keys: CohortKeys
    patients: TableFile
    ids: list[str]
    paths: Paths
    files: list[Path]
    findings: Findings


def _open(place: Place, name: str, file: str | None, unique: bool) -> tuple[TableFile, NDArray[np.int64]] | None:
    """The table that a modality's columns are in, and the patient of each of its lines (-1: none)."""
    if file is None:
        return place.patients, np.arange(len(place.ids))
    table = TableFile.read(place.cohort.parent / file, place.findings)
    if table is None:
        return None
    place.files.append(table.path)
    ids = table.texts(place.keys.id, f"modalities.{name}.file", place.cohort, place.findings)
    if ids is None or not check_ids(table, place.keys.id, ids, place.findings, unique):
        return None
    return table, join(table, place.keys.id, ids, place.ids, name, place.findings)


def read_bag(place: Place, name: str, keys: BagKeys) -> BagSpec | None:
    """The files of every patient; None with problems."""
    opened = _open(place, name, keys.file, unique=False)
    if opened is None:
        return None
    table, patient = opened
    columns: dict[str, NDArray[np.object_]] = {}
    asked = {"path": keys.path, "mask": keys.mask, "mpp": keys.mpp}
    for what, column in asked.items():
        if column is not None:
            cells = table.texts(column, f"modalities.{name}.{what}", place.cohort, place.findings)
            if cells is None:
                continue
            columns[what] = cells
    if len(columns) < sum(column is not None for column in asked.values()):
        return None
    reader = _Files(place, table, name, keys)
    files: list[list[FileSpec]] = [[] for _ in place.ids]
    for line in np.flatnonzero(patient >= 0):
        cells_of = {what: str(cells[line]) for what, cells in columns.items()}
        files[patient[line]] += reader.line(int(line), cells_of)
    reader.report(files)
    return BagSpec(name, keys.kind, files)


def _split(cell: str) -> list[str]:
    return [] if is_missing(cell) else [part for part in (p.strip() for p in cell.split(";")) if part]


class _Files:
    """Turns the cells of one line after the other into files, and gathers what is wrong by kind."""

    def __init__(self, place: Place, table: TableFile, name: str, keys: BagKeys) -> None:
        self.place, self.table, self.name, self.keys = place, table, name, keys
        self.absent: dict[str, list[tuple[int, str]]] = {"path": [], "mask": []}
        self.bad_mpp: list[tuple[int, str]] = []
        self.uneven: dict[str, list[int]] = {"mask": [], "mpp": []}

    def line(self, line: int, cells: dict[str, str]) -> list[FileSpec]:
        row = int(self.table.rows[line])
        shown = _split(cells["path"])
        masks = self._beside("mask", row, _split(cells.get("mask", "")), len(shown))
        mpps = self._beside("mpp", row, _split(cells.get("mpp", "")), len(shown))
        return [
            FileSpec(
                self._path("path", row, text),
                text,
                self._mpp(row, mpp) if mpp else None,
                self._path("mask", row, mask) if mask else None,
                label,
            )
            for text, (mask, label), mpp in zip(shown, map(self._labelled, masks), mpps, strict=True)
        ]

    def _labelled(self, mask: str) -> tuple[str, str]:
        """The path of a mask and what is behind its #; a file whose own name has a # is meant whole."""
        path, _, label = mask.partition("#")
        if label and os.path.exists(os.path.join(self.place.root, mask)):  # noqa: PTH110, PTH118
            return mask, ""
        return path.strip(), label.strip()

    def _beside(self, what: str, row: int, parts: list[str], count: int) -> list[str]:
        if not parts or not count:
            return [""] * count
        if len(parts) == count:
            return parts
        if what == "mpp" and len(parts) == 1:
            return parts * count
        self.uneven[what].append(row)
        return [""] * count

    def _path(self, what: str, row: int, text: str) -> Path:
        path = os.path.normpath(os.path.join(self.place.root, text))  # noqa: PTH118  (pathlib is slow for 100 000)
        if self.place.paths == "check" and not os.path.exists(path):  # noqa: PTH110
            self.absent[what].append((row, text))
        return Path(path)

    def _mpp(self, row: int, text: str) -> float | None:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not 0 < value < float("inf"):
            self.bad_mpp.append((row, text))
            return None
        return value

    def report(self, files: list[list[FileSpec]]) -> None:
        table, findings = self.table.path, self.place.findings
        columns = {"path": self.keys.path, "mask": self.keys.mask or "", "mpp": self.keys.mpp or ""}
        for what, absent in self.absent.items():
            if absent:
                findings.problems.append(
                    f"{table}, {rows_text(list(dict.fromkeys(row for row, _ in absent)))}, column {columns[what]}: "
                    "no such file: "
                    f"{some([text for _, text in absent])} (looked for in {self.place.root}); correct the cell, leave "
                    "it empty when the patient lacks it, or give --root"
                )
        if self.bad_mpp:
            findings.problems.append(
                f"{table}, {rows_text([row for row, _ in self.bad_mpp])}, column {columns['mpp']}: "
                f"{some([text for _, text in self.bad_mpp])}: not µm per pixel; a number above 0, with a point"
            )
        for what, rows in self.uneven.items():
            if rows:
                findings.problems.append(
                    f"{table}, {rows_text(rows)}, column {columns[what]}: not as many as there are paths in column "
                    f"{columns['path']}; give one for each, with ; between"
                )
        owners: dict[Path, set[str]] = defaultdict(set)
        again: set[str] = set()
        for patient, mine in zip(self.place.ids, files, strict=True):
            for file in mine:
                if patient in owners[file.path]:
                    again.add(file.shown)
                owners[file.path].add(patient)
        shared = [(path, names) for path, names in owners.items() if len(names) > 1]
        if shared:
            findings.warnings.append(
                f"{table}, column {columns['path']}: {len(shared)} files belong to several patients "
                f"({shared[0][0].name}: {some(sorted(shared[0][1]))}); a patient's evidence could be in two folds"
            )
        if again:
            findings.warnings.append(
                f"{table}, column {columns['path']}: {len(again)} files stand several times for one patient "
                f"({some(sorted(again))})"
            )
        if not any(files):
            findings.warnings.append(f"{table}, column {columns['path']}: no patient has {self.name}")


def read_columns(place: Place, name: str, keys: TableKeys) -> TableSpec | None:
    """A table modality's text, one row a patient; None with problems."""
    opened = _open(place, name, keys.file, unique=True)
    if opened is None:
        return None
    table, patient = opened
    findings, key = place.findings, f"{place.cohort}, key modalities.{name}"
    known = [str(column) for column in table.frame.columns]
    columns = keys.columns if keys.columns is not None else [column for column in known if column != place.keys.id]
    there, chosen = set(known), set(columns)
    wrong = [f"{key}.columns: {table.unknown(column)}" for column in columns if column not in there]
    if place.keys.id in columns:
        wrong.append(f"{key}.columns: {place.keys.id!r} is the id; leave it out")
    if not columns:
        wrong.append(f"{key}.file: {table.path} has no column beside the id")
    made = [_duration(column, dates) for column, dates in keys.dates.items()]
    for duration in made:
        if duration.column not in chosen:
            near = did_you_mean(duration.column, columns).split(" (there are:")[0]
            wrong.append(f"{key}.dates: {duration.column!r} is not among its columns{near}")
        if parse_date(duration.other) is None and duration.other not in there:
            wrong.append(f"{key}.dates.{duration.column}: {table.unknown(duration.other)}")
    renamed = {duration.column: duration.name for duration in made}
    names = [renamed.get(column, column) for column in columns]
    twice = sorted({name for name in renamed.values() if names.count(name) > 1})
    wrong += [f"{key}.dates: the name {name!r} is another column's; give another" for name in twice]
    for part, named in (
        ("ordinal", keys.ordinal), ("kinds", keys.kinds), ("units", keys.units), ("limits", keys.limits),
    ):  # fmt: skip
        for column in named:
            if column not in names:
                near = did_you_mean(column, names).split(" (there are:")[0]
                wrong.append(f"{key}.{part}: {column!r} is not among its columns{near}")
    findings.problems += wrong
    if wrong:
        return None
    lines = np.full(len(place.ids), -1, dtype=np.int64)
    mine = np.flatnonzero(patient >= 0)
    lines[patient[mine]] = mine
    whole = table.frame.reset_index(drop=True)
    frame = whole[columns].reindex(lines, fill_value="").reset_index(drop=True)
    rows = np.where(lines >= 0, table.rows[lines], 0)
    bad: list[str] = []
    for duration in made:
        fixed = None if duration.other in there else parse_date(duration.other)
        others = fixed or whole[duration.other].reindex(lines, fill_value="").to_numpy(dtype=object)
        cells = frame[duration.column].to_numpy(dtype=object)
        texts, complaints = durations(duration, cells, others, rows, str(table.path))
        bad += [line for line in complaints if line not in bad]
        if texts:
            frame[duration.column] = texts
    findings.problems += bad
    if bad:
        return None
    frame.columns = names
    units = {duration.name: duration.unit for duration in made} | keys.units
    spec = TableSpec(
        name, names, frame, rows, table.path, keys.ordinal, keys.kinds, units, keys.limits, keys.outside == "missing",
        {duration.name: duration.made for duration in made},
    )  # fmt: skip
    findings.problems += spec.typed.problems
    findings.warnings += spec.typed.warnings
    _look_closely(place, spec)
    return spec


def _duration(column: str, keys: DateKeys) -> Duration:
    other = keys.until if keys.until is not None else keys.since
    return Duration(column, keys.name or column, other or "", keys.until is not None, keys.unit, keys.format)


def _look_closely(place: Place, spec: TableSpec) -> None:
    """Warnings about columns that a person should look at."""
    held = dict.fromkeys(place.keys.labels, "a label")
    held |= {keys.column: "a fold set" for keys in place.keys.folds.values() if hasattr(keys, "column")}
    for column in spec.columns:
        if column in held:
            place.findings.warnings.append(
                f"{place.cohort}, key modalities.{spec.name}: column {column!r} is {held[column]} too: a model that "
                "sees it knows the answer; leave it out with columns: unless it is known beforehand"
            )
    if spec.typed.problems:
        return
    seen = np.flatnonzero(spec.typed.observed.any(axis=0))
    bare = [spec.columns[j] for j in np.setdiff1d(np.arange(len(spec.columns)), seen)]
    if bare:
        place.findings.warnings.append(f"{spec.path}: no observed cell in column {some(bare, quote=False)}")
