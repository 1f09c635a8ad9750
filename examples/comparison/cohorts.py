"""The cohorts as mmcli reads them: a patients' table, tables of modalities and a YAML, written from the data's files.

`prepare(name, data, out)` writes `out/NAME/cohort.yaml` and what it names, then runs `mmcli preprocess` (and, for bags,
`mmcli store import`) on it. Nothing is fitted here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from mmcli.settings import PreprocessSettings, StoreImportSettings
from mmcli.stages import imports, preprocess

STAINS = ("HE", "CD3", "CD8", "CD56", "CD68", "CD163", "MHC1", "PDL1")
PUBLISHED = ("in", "out", "oropharynx")
TABLES = ("clinical", "pathological", "blood", "icd", "cell_density")
OMICS = ("mrna", "methylation", "mirna")
LOGGED = ("RNASeq2GeneNorm", "miRNASeqGene")
# Few validate: nobody stops early on them (protocol.py), and a fifth of 83 training bags costs a forest .02 of AUC.
MUSK_FOLDS = {"cv": {"n": 10, "repeats": 5, "stratify": "musk", "validation": 0.05}}


@dataclass
class Written:
    """What a cohort is made of. `tables` go into files of their own, `bags` (instances of each patient) into npz."""

    patients: pd.DataFrame
    labels: dict[str, list[str]]
    folds: dict[str, dict[str, object]]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    kinds: dict[str, dict[str, str]] = field(default_factory=dict)
    bags: dict[str, dict[str, NDArray[np.float32]]] = field(default_factory=dict)


def prepare(name: str, data: Path, out: Path, tuning: bool = False) -> list[Path]:
    """Write the cohort, prepare its tables, import its bags: the stores' paths, tables first.

    With `tuning`, it is what methods and settings are chosen on: nobody whom the published splits in, out (hancock) or
    published (rosmap) test has a label, and the folds are others (seed 100, two repeats). hancock's oropharynx test
    patients keep their labels.
    """
    folder = out / (f"{name}-tuning" if tuning else name)
    folder.mkdir(parents=True, exist_ok=True)
    made = COHORTS[name](data)
    if tuning:
        for column in {"in", "out", "split"} & set(made.patients):
            made.patients.loc[made.patients[column] == "test", list(made.labels)] = ""
        shape = MUSK_FOLDS["cv"] if made.bags and not made.tables else {"n": 5, "validation": 0.2}
        made.folds = {f"cv_{t}": {**shape, "repeats": 2, "stratify": t, "seed": 100} for t in made.labels}
    made.patients.to_csv(folder / "patients.csv", index_label="patient_id")
    modalities: dict[str, dict[str, object]] = {}
    for table, frame in made.tables.items():
        frame.to_csv(folder / f"{table}.csv", index_label="patient_id")
        modalities[table] = {"kind": "table", "file": f"{table}.csv", "kinds": made.kinds.get(table, {})}
    about = {"patients": "patients.csv", "id": "patient_id", "labels": made.labels, "folds": made.folds,
             "modalities": modalities}  # fmt: skip
    cohort = folder / "cohort.yaml"
    cohort.write_text(yaml.safe_dump(about, sort_keys=False))
    stores = []
    if made.tables:
        stores.append(folder / "tables.h5")
        preprocess.run(PreprocessSettings(cohort=cohort, out=stores[0], quiet=True))
    for bag, instances in made.bags.items():
        file = folder / f"{bag}.npz"
        ids = np.repeat(np.array(list(instances)), [len(x) for x in instances.values()])
        np.savez(file, patient_id=ids, x=np.concatenate(list(instances.values())))
        # The store of a bag repeats no table: the stores are read together.
        bare = folder / f"{bag}.yaml"
        bare.write_text(yaml.safe_dump({**about, "modalities": {}}, sort_keys=False))
        stores.append(folder / f"{bag}.h5")
        imports.run(StoreImportSettings(folder=file, layout="npz", modality=bag, cohort=bare, out=stores[-1],
                                        quiet=True))  # fmt: skip
    return stores


def hancock(data: Path) -> Written:
    """Head and neck cancer: five tables, tissue bags, two labels by the authors' rules, three published splits.

    `clinical_less` is `clinical` without `primarily_metastasis`. Recurrence: within 1095 days, against none and seen
    for longer or living; survival: without those who died of something else.
    """
    root = data / "hancock"
    read = {n: pd.read_csv(root / f"{f}.csv", dtype={"patient_id": str}).set_index("patient_id")
            for n, f in zip((*TABLES, "targets"), ("clinical", "pathological", "blood", "icd_codes",
                                                  "tma_cell_density", "targets"), strict=True)}  # fmt: skip
    targets = read.pop("targets")
    early = (targets.recurrence == "yes") & (targets.days_to_recurrence <= 1095)
    free = (targets.recurrence == "no") & (
        (targets.days_to_last_information > 1095) | (targets.survival_status == "living")
    )
    patients = pd.DataFrame(index=targets.index)
    patients["recurrence"] = np.select([early, free], ["yes", "no"], "")
    other = targets.survival_status_with_cause == "deceased not tumor specific"
    patients["survival"] = targets.survival_status.where(~other, "")
    for name in ("in", "out"):
        split = pd.DataFrame(json.loads((root / f"dataset_split_{name}.json").read_text())).set_index("patient_id")
        patients[name] = split.dataset.replace({"training": "train"}).reindex(patients.index)
    site = read["pathological"].primary_tumor_site.reindex(patients.index)
    patients["oropharynx"] = np.where(site == 4, "test", "train")
    codes = {"clinical": ["sex", "smoking_status"], "pathological": ["primary_tumor_site", "histologic_type"]}
    kinds = {table: dict.fromkeys(columns, "categorical") for table, columns in codes.items()}
    read["clinical_less"] = read["clinical"].drop(columns="primarily_metastasis")
    kinds["clinical_less"] = kinds["clinical"]
    tissue: dict[str, list[NDArray[np.float32]]] = {}
    for stain in STAINS:
        with np.load(root / f"tma_tile_dtr_256_{stain}.npz") as file:
            for patient, x in zip(file["patient_id"].astype(str), file["x"].astype(np.float32), strict=True):
                tissue.setdefault(patient, []).append(x.reshape(2, 256))
    bags = {patient: np.concatenate(tissue[patient]) for patient in patients.index if patient in tissue}
    folds: dict[str, dict[str, object]] = {}
    for task in ("recurrence", "survival"):
        folds[f"cv_{task}"] = {"n": 5, "repeats": 5, "stratify": task, "validation": 0.2}
    folds |= {name: {"column": name, "repeats": 5} for name in PUBLISHED}
    labels = {"recurrence": ["no", "yes"], "survival": ["living", "deceased"]}
    return Written(patients, labels, folds, read, kinds, {"tissue": bags})


def rosmap(data: Path) -> Written:
    """Alzheimer's disease, three omics, one published split."""
    root, parts = data / "rosmap", ("tr", "te")
    labels = [pd.read_csv(root / f"labels_{p}.csv", header=None)[0].astype(int) for p in parts]
    ids = [f"{p}{i:03}" for p, y in zip(parts, labels, strict=True) for i in range(len(y))]
    patients = pd.DataFrame(index=ids)
    patients["ad"] = np.where(np.concatenate(labels) == 1, "yes", "no")
    patients["split"] = ["train" if i.startswith("tr") else "test" for i in ids]
    tables = {}
    for view, name in enumerate(OMICS, 1):
        x = pd.concat([pd.read_csv(root / f"{view}_{p}.csv.gz", header=None) for p in parts])
        x.columns, x.index = [f"{name}{j}" for j in range(x.shape[1])], ids
        tables[name] = x
    folds: dict[str, dict[str, object]] = {"published": {"column": "split", "repeats": 5}}
    return Written(patients, {"ad": ["no", "yes"]}, folds, tables)


def miniacc(data: Path) -> Written:
    """Adrenocortical carcinoma: five assays, each on its own patients, and age, sex and stage; vital status."""
    root = data / "miniacc"
    clinical = pd.read_csv(root / "colData.csv", index_col=0)
    patients = pd.DataFrame({"died": np.where(clinical.vital_status == 1, "yes", "no")}, index=clinical.index)
    stage = clinical.pathologic_stage.map({"stage i": 1, "stage ii": 2, "stage iii": 3, "stage iv": 4})
    own = pd.DataFrame({"age": clinical.years_to_birth, "male": (clinical.gender == "male").astype(int),
                        "stage": stage})  # fmt: skip
    tables = {"clinical": own}
    for assay in ("RNASeq2GeneNorm", "gistict", "RPPAArray", "Mutations", "miRNASeqGene"):
        x = pd.read_csv(root / f"{assay}.csv.gz", index_col=0)
        tables[assay] = np.log2(x + 1) if assay in LOGGED else x
    folds: dict[str, dict[str, object]] = {"cv": {"n": 5, "repeats": 5, "stratify": "died", "validation": 0.1}}
    return Written(patients, {"died": ["no", "yes"]}, folds, tables)


def musk1(data: Path) -> Written:
    """Molecules as bags of 2 to 40 conformations."""
    rows = pd.read_csv(data / "musk1/musk1.data", header=None)
    return _musk(rows[0], rows[168].astype(float), rows.iloc[:, 2:168])


def musk2(data: Path) -> Written:
    """Molecules as bags of 1 to 1044 conformations."""
    rows = pd.read_csv(data / "musk2/musk2.csv.gz")
    return _musk("M" + rows.bag.astype(str).str.zfill(3), rows.label, rows.iloc[:, 2:])


def _musk(bag: pd.Series, label: pd.Series, x: pd.DataFrame) -> Written:
    y = label.groupby(bag).first()
    patients = pd.DataFrame({"musk": np.where(y == 1, "yes", "no")}, index=y.index)
    instances = {str(name): x[bag == name].to_numpy(np.float32) for name in y.index}
    folds: dict[str, dict[str, object]] = dict(MUSK_FOLDS)
    return Written(patients, {"musk": ["no", "yes"]}, folds, bags={"conformations": instances})


COHORTS: dict[str, Callable[[Path], Written]] = {
    "hancock": hancock, "rosmap": rosmap, "miniacc": miniacc, "musk1": musk1, "musk2": musk2,
}  # fmt: skip
