"""The five tables of the protocol, as values and columns for mmcli's imputers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmcli.imputers.imputer import Columns

HEPATITIS = [
    "class", "age", "sex", "steroid", "antivirals", "fatigue", "malaise", "anorexia", "liver_big", "liver_firm",
    "spleen", "spiders", "ascites", "varices", "bilirubin", "alk_phosphate", "sgot", "albumin", "protime", "histology",
]  # fmt: skip
MARKERS = ["AFP", "CEA", "CA125", "CA19-9", "CA72-4", "HE4"]


@dataclass(frozen=True)
class RealTable:
    """`values` (n, f) with NaN in real holes, codes in categories; `label` (n,) splits the patients and is no input;
    `hideable` (f,) marks the columns whose cells the protocol hides."""

    name: str
    values: NDArray[np.float64]
    columns: Columns
    label: NDArray[np.int64]
    hideable: NDArray[np.bool_]


def cirrhosis(root: Path) -> RealTable:
    """Primary biliary cholangitis, 418 patients, a whole block lacking in a quarter of them."""
    frame = pd.read_csv(root / "cirrhosis_pbc/cirrhosis.csv", index_col="ID")
    label = (frame.pop("Status") == "D").to_numpy(np.int64)
    frame = frame.drop(columns="N_Days")
    return _table("cirrhosis_pbc", frame, label, ["Age", "Gender"], ordinal=["Stage"])


def hepatitis(root: Path) -> RealTable:
    """Hepatitis, 155 patients."""
    frame = pd.read_csv(root / "hepatitis/hepatitis.data", names=HEPATITIS, na_values="?")
    label = (frame.pop("class") == 1).to_numpy(np.int64)
    return _table("hepatitis", frame, label, ["age", "sex"])


def hancock(root: Path) -> RealTable:
    """Head and neck cancer, 667 patients of the recurrence task: clinical, pathology, blood, cell density."""
    read = [pd.read_csv(root / f"hancock/{name}.csv", dtype={"patient_id": str}).set_index("patient_id")
            for name in ("clinical", "pathological", "blood", "tma_cell_density", "targets")]  # fmt: skip
    targets = read.pop()
    early = (targets.recurrence == "yes") & (targets.days_to_recurrence <= 1095)
    free = (targets.recurrence == "no") & ((targets.days_to_last_information > 1095)
                                           | (targets.survival_status == "living"))  # fmt: skip
    frame = pd.concat(read, axis=1).reindex(targets.index)[early | free]
    # Suspected to tell the label.
    frame = frame.drop(columns="primarily_metastasis")
    return _table("hancock", frame, early[early | free].to_numpy(np.int64), ["age_at_initial_diagnosis", "sex"])


def ovarian(root: Path) -> RealTable:
    """Ovarian tumours, 349 patients: only the six tumour markers are hidden."""
    frame = pd.read_excel(root / "ovarian_soochow/Supplementary data 1.xlsx").drop(columns="SUBJECT_ID")
    label = (frame.pop("TYPE") == 0).to_numpy(np.int64)
    frame = frame.rename(columns=str.strip)
    for column in frame.select_dtypes(exclude="number"):
        frame[column] = pd.to_numeric(frame[column].astype(str).str.strip(" \t<>"), errors="coerce")
    return _table("ovarian_soochow", frame, label, [c for c in frame if c not in MARKERS])


def hcv(root: Path) -> RealTable:
    """Hepatitis C and blood donors, 615 patients."""
    frame = pd.read_csv(root / "hcv/hcvdat0.csv", index_col=0)
    label = frame.pop("Category").str[0].isin(list("123")).to_numpy(np.int64)
    return _table("hcv", frame, label, ["Age", "Sex"])


TABLES: dict[str, Callable[[Path], RealTable]] = {
    "cirrhosis_pbc": cirrhosis, "hepatitis": hepatitis, "hancock": hancock, "ovarian_soochow": ovarian, "hcv": hcv,
}  # fmt: skip


def _table(
    name: str, frame: pd.DataFrame, label: NDArray[np.int64], kept: list[str], ordinal: list[str] | None = None
) -> RealTable:
    """Text, two-valued and small whole-number columns become categories, named ones ordinal."""
    kinds, categories, values = [], {}, np.full(frame.shape, np.nan)
    for j, (column, cells) in enumerate(frame.items()):
        if column in (ordinal or []) or not pd.api.types.is_numeric_dtype(cells) or _is_code(cells):
            coded = pd.Categorical(cells)
            values[:, j] = np.where(coded.codes >= 0, coded.codes, np.nan)
            categories[column] = [str(c) for c in coded.categories]
            kinds.append("ordinal" if column in (ordinal or []) else "categorical")
        else:
            values[:, j] = cells
            kinds.append("numeric")
    hideable = np.array([c not in kept for c in frame])
    return RealTable(name, values, Columns([str(c) for c in frame], kinds, categories), label, hideable)


def _is_code(cells: pd.Series) -> bool:
    seen = cells.dropna().unique()
    return len(seen) <= 12 and all(float(c).is_integer() for c in seen)
