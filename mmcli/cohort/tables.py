"""One table file of a cohort while it is read, and the lists that problems and warnings are gathered in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmcli.cohort.columns import SHOWN, rows_text, some
from mmcli.errors import RequestError
from mmcli.frames import read_frame
from mmcli.registry import did_you_mean

MANY = 12


@dataclass
class Findings:
    """What is wrong (`problems`), and what is only worth a look (`warnings`)."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TableFile:
    """A table of text (m, columns) and the row (m,) that each line has in its file."""

    path: Path
    frame: pd.DataFrame
    rows: NDArray[np.int64]

    @classmethod
    def read(cls, path: Path, findings: Findings) -> TableFile | None:
        """The file, or None with the reason among the problems."""
        try:
            frame = read_frame(path)
        except RequestError as error:
            findings.problems.append(str(error))
            return None
        if not len(frame):
            findings.problems.append(f"{path}: no row under the header; a cohort needs at least one patient")
            return None
        return cls(path, frame, frame.index.to_numpy(dtype=np.int64))

    def texts(self, column: str, key: str, cohort: Path, findings: Findings) -> NDArray[np.object_] | None:
        """(m,) stripped cells of a column; None and a problem that names `key` of the YAML when there is none."""
        if column not in self.frame.columns:
            findings.problems.append(f"{cohort}, key {key}: {self.unknown(column)}")
            return None
        cells = self.frame[column].to_numpy(dtype=object)
        return np.array([cell.strip() for cell in cells], dtype=object)

    def unknown(self, column: str) -> str:
        """What to say about a column that the file does not have."""
        names = [str(name) for name in self.frame.columns]
        listed = did_you_mean(column, names)
        if len(names) > MANY:  # a gene table's names would fill screens
            listed = listed.split(" (there are:")[0] + f" (it has {len(names)} columns)"
        return f"{self.path} has no column {column!r}{listed}"

    def where(self, wanted: NDArray[np.bool_]) -> str:
        """ "patients.csv, rows 3 and 5" of the wanted lines (m,)."""
        return f"{self.path}, {rows_text(self.rows[wanted])}"


def check_ids(table: TableFile, column: str, ids: NDArray[np.object_], findings: Findings, unique: bool = True) -> bool:
    """Whether every id is there and, where it must be, stands once; else problems."""
    good = True
    empty = ids == ""
    if empty.any():
        good = False
        findings.problems.append(f"{table.where(empty)}, column {column}: no id; give each patient one")
    twice = pd.Series(ids).duplicated(keep=False).to_numpy() & ~empty
    if unique and twice.any():
        good = False
        names = list(dict.fromkeys(ids[twice]))
        for name in names[:SHOWN]:
            findings.problems.append(
                f"{table.where(ids == name)}, column {column}: the id {name!r} stands "
                f"{int((ids == name).sum())} times; keep one row a patient"
            )
        if len(names) > SHOWN:
            findings.problems.append(
                f"{table.path}, column {column}: {len(names) - SHOWN} more ids stand several times"
            )
    return good


def join(
    table: TableFile, column: str, ids: NDArray[np.object_], patients: Sequence[str], name: str, findings: Findings
) -> NDArray[np.int64]:
    """(m,) which patient each line of a modality's own file belongs to, -1 for one who is not in the cohort."""
    index = pd.Index(list(dict.fromkeys(patients)))
    place = index.get_indexer(pd.Index(ids))
    strangers = list(dict.fromkeys(ids[place < 0]))
    if (place < 0).all():
        findings.problems.append(
            f"{table.path}, column {column}: none of its {len(strangers)} ids is a patient of the cohort "
            f"({strangers[0]!r} here, {patients[0]!r} there); write them alike"
        )
    elif strangers:
        findings.warnings.append(
            f"{table.path}, column {column}: {len(strangers)} ids are not patients of the cohort and are left out of "
            f"{name} ({some(strangers)})"
        )
    return np.asarray(place, dtype=np.int64)
