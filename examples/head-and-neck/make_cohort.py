"""From the HANCOCK download to a cohort: labels by the authors' rules, their splits, five tables, tissue tiles.

    python make_cohort.py DATA --out FOLDER

DATA holds what README.md lists, in one folder or as downloaded (`features/`, `DataSplits_DataDictionaries/`). FOLDER
gets patients.csv, cohort.yaml, the tables and, for each stain whose features are in DATA, tiles/<stain>.npz.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

TABLES = ["clinical", "pathological", "blood", "icd_codes", "tma_cell_density"]
STAINS = ["HE", "CD3", "CD8", "CD56", "CD68", "CD163", "MHC1", "PDL1"]
SPLITS = {"split_in": "dataset_split_in.json", "split_out": "dataset_split_out.json"}
OROPHARYNX = "4"  # of primary_tumor_site, whose codes stand in alphabetical order
THREE_YEARS = 3 * 365  # days, as the authors count them
TILE = 256  # features of one tile; a patient has up to two tiles a stain, one after the other

COHORT = """\
# The HANCOCK cohort, made by make_cohort.py
patients: patients.csv
id: patient_id
labels:
  recurrence: [no, yes]                   # within three years, by the authors' rule; without a label: not known
  survival: [living, deceased]            # deceased of another cause: without a label
folds:
  published_in: {column: split_in}        # the authors' test patients; a fifth of train is taken for validation
  published_out: {column: split_out}
  oropharynx: {column: split_oropharynx}  # test: tumours of the oropharynx
  cv: {n: 5, repeats: 2, stratify: recurrence, validation: 0.2, seed: 0}
modalities:
  # A column of clinical.csv that may tell the outcome (see README.md): a modality of its own, so that
  # --modalities can leave it out.
  metastasis: {kind: table, file: clinical.csv, columns: [primarily_metastasis]}
  clinical:
    kind: table
    file: clinical.csv
    columns: [sex, smoking_status, age_at_initial_diagnosis]
    kinds: {smoking_status: categorical}
    units: {age_at_initial_diagnosis: years}
  pathological:
    kind: table
    file: pathological.csv
    kinds:                                # numbers that are names, as the authors treat them; the stages are ordered
      primary_tumor_site: categorical
      histologic_type: categorical
      grading: categorical
      hpv_association_p16: categorical
      resection_status: categorical
      resection_status_carcinoma_in_situ: categorical
    units: {infiltration_depth_in_mm: mm}
  blood: {kind: table, file: blood.csv}
  icd: {kind: table, file: icd_codes.csv}
  cell_density: {kind: table, file: tma_cell_density.csv}
"""


def main() -> None:
    """Read the arguments, write the folder."""
    parser = argparse.ArgumentParser(description="Make an mmcli cohort of the HANCOCK download.")
    parser.add_argument("data", type=Path, help="folder with the downloaded files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    given = parser.parse_args()
    (given.out / "tiles").mkdir(parents=True, exist_ok=True)

    for table in TABLES:
        read(given.data, f"{table}.csv").to_csv(given.out / f"{table}.csv")
    patients(given.data).to_csv(given.out / "patients.csv")
    (given.out / "cohort.yaml").write_text(COHORT, encoding="utf-8")
    print(f"{given.out}/cohort.yaml: 5 tables")

    for stain in STAINS:
        if (file := find(given.data, f"tma_tile_dtr_{TILE}_{stain}.npz")) is not None:
            ids, x = tiles(file)
            out = given.out / "tiles" / f"{stain.lower()}.npz"
            np.savez(out, patient_id=ids, x=x)
            print(f"{out}: {len(x)} tiles of {len(set(ids))} patients")


def find(data: Path, name: str) -> Path | None:
    """The file in the folder itself, or where the two downloads have it."""
    folders = [data, data / "features", data / "DataSplits_DataDictionaries"]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def need(data: Path, name: str) -> Path:
    """The file, or the end of the script."""
    file = find(data, name)
    if file is None:
        sys.exit(f"{data}: lacks {name}; README.md says where to get it")
    return file


def read(data: Path, name: str) -> pd.DataFrame:
    """A table by patient, every cell as it is written: ids are "001", a hole is ""."""
    return pd.read_csv(need(data, name), dtype=str, keep_default_na=False).set_index("patient_id")


def patients(data: Path) -> pd.DataFrame:
    """The patients' table: two labels, three splits."""
    targets = read(data, "targets.csv")
    frame = pd.DataFrame({"recurrence": recurrence(targets), "survival": survival(targets)}, index=targets.index)
    for column, name in SPLITS.items():
        split = pd.read_json(need(data, name), dtype={"patient_id": str}).set_index("patient_id")["dataset"]
        frame[column] = split.reindex(frame.index).map({"training": "train", "test": "test"}).fillna("")
    site = read(data, "pathological.csv")["primary_tumor_site"].reindex(frame.index)
    frame["split_oropharynx"] = np.where(site == OROPHARYNX, "test", "train")
    return frame


def recurrence(targets: pd.DataFrame) -> np.ndarray:
    """yes: recurred within three years. no: did not, and was seen for more than three years or is living. Else "":
    a later recurrence, or a death before three years were over."""
    days = pd.to_numeric(targets["days_to_recurrence"])
    followed = pd.to_numeric(targets["days_to_last_information"]) > THREE_YEARS
    yes = (targets["recurrence"] == "yes") & (days <= THREE_YEARS)
    no = (targets["recurrence"] == "no") & (followed | (targets["survival_status"] == "living"))
    return np.select([yes, no], ["yes", "no"], "")


def survival(targets: pd.DataFrame) -> pd.Series:
    """living or deceased; "" for a death that is not of the tumour."""
    other_cause = targets["survival_status_with_cause"] == "deceased not tumor specific"
    return targets["survival_status"].mask(other_cause, "")


def tiles(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Ids (N,) and features (N, 256), a row a tile, from either layout: one array of 512 a patient, named by the
    patient's id (the download), or `patient_id` (n,) and `x` (n, 512)."""
    with np.load(file, allow_pickle=False) as content:
        if "patient_id" in content.files:
            pairs = dict(zip(content["patient_id"].tolist(), content["x"], strict=True))
        else:
            pairs = {name: content[name] for name in sorted(content.files)}
    ids: list[str] = []
    rows: list[np.ndarray] = []
    for patient, both in pairs.items():
        own = split_tiles(both)
        ids += [patient] * len(own)
        rows += own
    return np.array(ids), np.stack(rows)


def split_tiles(both: np.ndarray) -> list[np.ndarray]:
    """The tiles (256,) of one patient's 512 numbers. The authors padded a single tile with zeros on both sides."""
    quarter = TILE // 2
    if not both[:quarter].any() and not both[-quarter:].any():
        return [both[quarter:-quarter]]
    return [both[:TILE], both[TILE:]]


if __name__ == "__main__":
    main()
