"""What a cohort is in memory: the patients, and where the evidence of each modality lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmcli.cohort.columns import Limits, TypedColumns, type_columns
from mmcli.errors import RequestError
from mmcli.store.parts import ColumnKind, Patients


class CohortError(RequestError):
    """Everything that is wrong with a cohort; `problems` has one line each: file, row, column, remedy."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        self.problems = problems
        if len(problems) == 1:
            super().__init__(problems[0])
        else:
            super().__init__(f"{path}: {len(problems)} problems\n" + "\n".join(f"  {line}" for line in problems))


@dataclass(frozen=True)
class FileSpec:
    """One file of one patient: `path` is absolute, `shown` as the table has it, `mpp` in µm per pixel at level 0.

    `mask_label` says what of the mask is meant: the cell `rs.dcm#GTV-T` is the mask rs.dcm and the label GTV-T.
    """

    path: Path
    shown: str
    mpp: float | None = None
    mask: Path | None = None
    mask_label: str = ""


@dataclass(frozen=True)
class BagSpec:
    """A modality of files: `files` has one list per patient, empty where the patient lacks the modality."""

    name: str
    kind: Literal["slide", "volume", "image"]
    files: list[list[FileSpec]]


@dataclass(frozen=True)
class TableSpec:
    """A modality of table columns.

    `frame` (n, f) is text, one row per patient in the order of the patients; `present` (n,) is True where at least
    one cell is observed; `rows` (n,) is each patient's row in the file `path`, 0 where it has none. `limits` are the
    plausible (low, high) of columns; what lies outside is a problem, or with `drop_outside` not observed. `made` says
    of a column that is not in the file how it was made (years between two dates).
    """

    name: str
    columns: list[str]
    frame: pd.DataFrame
    rows: NDArray[np.int64]
    path: Path
    ordinal: dict[str, list[str]] = field(default_factory=dict)
    kinds: dict[str, ColumnKind] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    limits: dict[str, Limits] = field(default_factory=dict)
    drop_outside: bool = False
    made: dict[str, str] = field(default_factory=dict)

    @cached_property
    def typed(self) -> TypedColumns:
        """The columns' kinds and values, and all that is wrong with them."""
        return type_columns(
            self.frame, str(self.path), self.rows, self.ordinal, self.kinds, self.limits, self.drop_outside
        )

    @property
    def present(self) -> NDArray[np.bool_]:
        """(n,) True for a patient with at least one observed cell."""
        return np.asarray(self.typed.observed.any(axis=1), dtype=np.bool_)


ModalitySpec = BagSpec | TableSpec


@dataclass(frozen=True)
class Cohort:
    """A cohort that was read and found right. `files`: the YAML and every table that was read, for fingerprints."""

    path: Path
    root: Path
    id_column: str
    patients: Patients
    modalities: dict[str, ModalitySpec]
    files: list[Path]
    warnings: list[str]
