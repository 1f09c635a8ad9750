"""Columns of the patients that evaluation may group by: from a table, from predictions, from the runs' stores."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from mmcli.errors import RequestError
from mmcli.frames import read_frame
from mmcli.registry import did_you_mean
from mmcli.store import Stores

MISSING = "(not observed)"
# A numeric column with at most this many values is a category of that many.
FEW = 8
GROUP = "group"


@dataclass
class Attributes:
    """`columns[name][patient]` is the text of a cell; "" and patients who are not there are not observed."""

    columns: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, name: str, values: Mapping[str, str]) -> None:
        """A column; one that is there already stays, and takes only the patients that it lacks."""
        own = self.columns.setdefault(name, {})
        for patient, value in values.items():
            if not own.get(patient):
                own[patient] = value

    def column(self, name: str, option: str) -> dict[str, str]:
        """A column by its name; RequestError names the option and what there is."""
        if name not in self.columns:
            raise RequestError(
                f"{option}: no column {name!r}{did_you_mean(name, sorted(self.columns))}; give a table with it by "
                "--patients, or the stores by --stores"
            )
        return self.columns[name]

    def numbers(self, name: str, option: str) -> dict[str, float] | None:
        """A column as numbers where all observed cells are finite numbers; else None."""
        column = {patient: value for patient, value in self.column(name, option).items() if value}
        numbers = pd.to_numeric(pd.Series(column, dtype=object), errors="coerce").astype(np.float64)
        if not len(numbers) or not np.isfinite(numbers).all():
            return None
        return dict(zip(numbers.index, numbers.tolist(), strict=True))


def of_frame(frame: pd.DataFrame, where: str, leave: Iterable[str] = ()) -> Attributes:
    """All columns of a table with `patient_id`, each patient's first observed cell."""
    if "patient_id" not in frame:
        raise RequestError(f"{where}: has no column 'patient_id' (there are: {', '.join(map(str, frame.columns))})")
    found = Attributes()
    ids = frame["patient_id"].astype(str)
    for name in frame.columns:
        if name not in {"patient_id", *leave}:
            text = frame[name].astype(object).where(frame[name].notna(), "").map(str).str.strip()
            seen = text[text != ""]
            found.add(str(name), dict(zip(ids[seen.index][::-1], seen[::-1], strict=True)))
    return found


def of_file(path: Path) -> Attributes:
    """The columns of `--patients FILE`."""
    return of_frame(read_frame(path), str(path))


def of_stores(stores: Stores, wanted: Collection[str]) -> Attributes:
    """Group, labels and the tables' columns of joined stores, as text. Columns that are not `wanted` stay empty, for
    their names alone: a table may have ten thousand."""
    found, ids = Attributes(), stores.patients.ids
    if stores.patients.group is not None:
        found.add(GROUP, dict(zip(ids, stores.patients.group, strict=True)))
    for table in stores.tables.values():
        for j, (column, kind) in enumerate(zip(table.columns, table.kinds, strict=True)):
            seen = np.flatnonzero(table.observed[:, j]) if column in wanted else np.empty(0, np.int64)
            values = table.values[seen, j]
            if kind == "numeric":
                text = [f"{v:.12g}" for v in values]
            else:
                text = [table.categories[column][int(v)] for v in values]
            found.add(column, {ids[i]: t for i, t in zip(seen, text, strict=True)})
    for task, label in stores.patients.labels.items():
        found.add(task, {i: label.classes[v] for i, v in zip(ids, label.values, strict=True) if v >= 0})
    return found


def subgroups(attributes: Attributes, by: Sequence[str], cut: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """For each column of `--by` the subgroup's name of each patient. A numeric column with more than eight values is
    cut at the limits of `--cut`, or at its median."""
    for name in cut:
        if name not in by:
            raise RequestError(f"--cut {name}: is no column of --by{did_you_mean(name, [*by])}")
    found = {}
    for name in by:
        column = {p: value for p, value in attributes.column(name, "--by").items() if value}
        numbers = attributes.numbers(name, "--by")
        if name in cut and numbers is None:
            raise RequestError(f"--cut {name}: the column is not numeric, so that it cannot be cut")
        if numbers is not None and (name in cut or len(set(numbers.values())) > FEW):
            column = _cut(numbers, _limits(name, cut[name]) if name in cut else [float(np.median([*numbers.values()]))])
        found[name] = column
    return found


def _limits(name: str, text: str) -> list[float]:
    try:
        limits = [float(t) for t in text.split(",")]
    except ValueError:
        raise RequestError(f"--cut {name}={text}: write numbers with commas, for example --cut {name}=50,65") from None
    if sorted(set(limits)) != limits or not np.isfinite(limits).all():
        raise RequestError(f"--cut {name}={text}: the limits must rise")
    return limits


def _cut(numbers: Mapping[str, float], limits: Sequence[float]) -> dict[str, str]:
    edges = [f"{v:g}" for v in limits]
    names = [f"< {edges[0]}", *(f"{a} to < {b}" for a, b in pairwise(edges)), f">= {edges[-1]}"]
    return {patient: names[int(np.searchsorted(limits, v, side="right"))] for patient, v in numbers.items()}
