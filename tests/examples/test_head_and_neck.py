"""examples/head-and-neck on the real HANCOCK files: the cohort, the tables, the tissue tiles, and run.sh itself."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmcli.cohort import Cohort, TableSpec, read_cohort
from mmcli.readers.table import read_table
from mmcli.settings import EvaluateSettings, PreprocessSettings, StoreImportSettings, TeacherSettings
from mmcli.stages import evaluate, imports, preprocess, teacher
from mmcli.store import Store
from mmcli.store.parts import TEST, TRAIN, VALIDATION

FOLDER = Path(__file__).parents[2] / "examples" / "head-and-neck"
SCRIPT = FOLDER / "make_cohort.py"
# Training, test and positive test patients of each split, as the data's description gives them.
PUBLISHED = {
    ("published_in", "recurrence"): (533, 134, 33),
    ("published_in", "survival"): (537, 137, 25),
    ("published_out", "recurrence"): (534, 133, 31),
    ("published_out", "survival"): (535, 139, 27),
    ("oropharynx", "recurrence"): (380, 287, 60),
    ("oropharynx", "survival"): (376, 298, 53),
}


def run_script(data: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(data), "--out", str(out)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def hancock(data: Path) -> Path:
    return data / "tables" / "hancock"


@pytest.fixture(scope="module")
def made(hancock: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("head-and-neck") / "cohort"
    done = run_script(hancock, out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def cohort(made: Path) -> Cohort:
    return read_cohort(made / "cohort.yaml")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("head_and_neck_make_cohort", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("fold_set", "task"), list(PUBLISHED))
def test_the_splits_have_the_published_patients(cohort: Cohort, fold_set: str, task: str) -> None:
    label, roles = cohort.patients.labels[task], cohort.patients.folds[fold_set][:, 0]
    known = label.values >= 0
    test = known & (roles == TEST)
    counts = (int((known & np.isin(roles, [TRAIN, VALIDATION])).sum()), int(test.sum()), int(label.values[test].sum()))
    assert counts == PUBLISHED[fold_set, task]
    assert (roles == VALIDATION).sum() > 0


def test_the_rules_worked_by_hand(script: ModuleType) -> None:
    columns = ["recurrence", "days_to_recurrence", "survival_status", "survival_status_with_cause",
               "days_to_last_information"]  # fmt: skip
    rows = [
        ["yes", "1095", "living", "living", "1200", "yes", "living"],
        ["yes", "1096", "living", "living", "1200", "", "living"],
        ["no", "", "living", "living", "30", "no", "living"],
        ["no", "", "deceased", "deceased tumor specific", "1095", "", "deceased"],
        ["no", "", "deceased", "deceased not tumor specific", "1096", "no", ""],
        ["yes", "10.0", "deceased", "deceased", "400", "yes", "deceased"],
    ]
    targets = pd.DataFrame([row[:5] for row in rows], columns=columns)
    assert list(script.recurrence(targets)) == [row[5] for row in rows]
    assert list(script.survival(targets)) == [row[6] for row in rows]


def test_the_tables_have_the_patients_and_holes_of_the_data(cohort: Cohort, hancock: Path) -> None:
    assert len(cohort.patients.ids) == 763 and cohort.patients.ids[0] == "001"
    tables = {n: read_table(m) for n, m in cohort.modalities.items() if isinstance(m, TableSpec)}
    present = {name: int(table.present.sum()) for name, table in tables.items()}
    assert present == {"metastasis": 739, "clinical": 763, "pathological": 763, "blood": 692, "icd": 712,
                       "cell_density": 736}  # fmt: skip
    assert {n: len(t.columns) for n, t in tables.items()} == {
        "metastasis": 1, "clinical": 3, "pathological": 15, "blood": 16, "icd": 40, "cell_density": 4
    }  # fmt: skip
    ids = {patient: row for row, patient in enumerate(cohort.patients.ids)}
    files = {"clinical": "clinical", "pathological": "pathological", "blood": "blood", "icd": "icd_codes",
             "cell_density": "tma_cell_density", "metastasis": "clinical"}  # fmt: skip
    for name, table in tables.items():
        frame = pd.read_csv(hancock / f"{files[name]}.csv", dtype={"patient_id": str}).set_index("patient_id")
        expected = frame.reindex(list(ids))[table.columns].to_numpy(float)
        values = table.values.copy()
        for j, column in enumerate(table.columns):
            if table.kinds[j] == "categorical":
                codes, seen = np.array(table.categories[column], dtype=float), table.observed[:, j]
                values[seen, j] = codes[table.values[seen, j].astype(int)]
        np.testing.assert_array_equal(values, expected, err_msg=name)


def test_the_suspected_column_is_a_modality_of_its_own(cohort: Cohort) -> None:
    holders = [n for n, m in cohort.modalities.items()
               if isinstance(m, TableSpec) and "primarily_metastasis" in m.columns]  # fmt: skip
    assert holders == ["metastasis"]


@pytest.mark.parametrize(("stain", "patients", "single"), [("he", 760, 0), ("cd3", 746, 1)])
def test_tiles_of_a_stain(made: Path, hancock: Path, tmp_path: Path, stain: str, patients: int, single: int) -> None:
    out = tmp_path / f"{stain}.h5"
    outcome = imports.run(importing(made / "tiles" / f"{stain}.npz", stain, made, out))
    assert outcome.exit_code == 0
    with Store(out) as store:
        bag = store.bags[stain]
        counts = np.diff(bag.offsets)
        assert int(bag.present.sum()) == patients
        assert int((counts == 1).sum()) == single and int((counts == 2).sum()) == patients - single
        with np.load(hancock / f"tma_tile_dtr_256_{stain.upper()}.npz") as packed:
            theirs = dict(zip(packed["patient_id"].tolist(), packed["x"], strict=True))
        for i, patient in enumerate(store.patients.ids):
            if counts[i]:
                own = np.asarray(bag.rows("features", i))
                both = theirs[patient]
                expected = both[None, 128:384] if counts[i] == 1 else both.reshape(2, 256)
                np.testing.assert_array_equal(own, expected)


def test_a_folder_of_stains_is_one_bag(made: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "tiles", tmp_path / "tissue.h5"
    folder.mkdir()
    for stain in ("cd3", "he"):
        (folder / f"{stain}.npz").symlink_to(made / "tiles" / f"{stain}.npz")
    imports.run(importing(folder, "tissue", made, out))
    with Store(out) as store:
        counts = np.bincount(np.diff(store.bags["tissue"].offsets))
    assert counts @ np.arange(len(counts)) == 2 * 760 + 2 * 746 - 1
    assert counts[3] + counts[1] == 1 and counts[4] + counts[2] + counts[0] == 762


def importing(folder: Path, modality: str, made: Path, out: Path) -> StoreImportSettings:
    return StoreImportSettings(
        folder=folder, layout="npz", modality=modality, cohort=made / "cohort.yaml", out=out, quiet=True
    )


def test_the_layout_of_the_download_gives_the_same_folder(made: Path, hancock: Path, tmp_path: Path) -> None:
    """The two downloads as they are: features/ with one array a patient, and the splits' folder."""
    features, splits = tmp_path / "features", tmp_path / "DataSplits_DataDictionaries"
    features.mkdir()
    splits.mkdir()
    for file in hancock.iterdir():
        if file.suffix == ".csv":
            (features / file.name).symlink_to(file)
        elif file.suffix == ".json":
            (splits / file.name).symlink_to(file)
    with np.load(hancock / "tma_tile_dtr_256_CD3.npz") as packed:
        arrays: dict[str, Any] = dict(zip(packed["patient_id"].tolist(), packed["x"].astype(np.float32), strict=True))
    np.savez_compressed(features / "tma_tile_dtr_256_CD3.npz", **arrays)
    out = tmp_path / "cohort"
    done = run_script(tmp_path, out)
    assert done.returncode == 0, done.stderr
    for file in made.glob("*.*"):
        assert (out / file.name).read_bytes() == file.read_bytes(), file.name
    with np.load(out / "tiles" / "cd3.npz") as ours, np.load(made / "tiles" / "cd3.npz") as theirs:
        assert ours["patient_id"].tolist() == theirs["patient_id"].tolist()
        np.testing.assert_array_equal(ours["x"].astype(np.float16), theirs["x"])


def test_single_tiles_are_told_from_pairs(script: ModuleType) -> None:
    tile = np.arange(1, 257)
    padded = np.pad(tile, (128, 128))
    assert [t.tolist() for t in script.split_tiles(padded)] == [tile.tolist()]
    assert [t.tolist() for t in script.split_tiles(np.concatenate([tile, -tile]))] == [tile.tolist(), (-tile).tolist()]


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    done = run_script(tmp_path, tmp_path / "cohort")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "lacks clinical.csv" in done.stderr


def test_from_tables_to_a_report(made: Path, tmp_path: Path) -> None:
    """A seed on the published split comes near the published .79: far above chance, not suspiciously good."""
    store, run, report = tmp_path / "tables.h5", tmp_path / "run", tmp_path / "report"
    assert preprocess.run(PreprocessSettings(cohort=made / "cohort.yaml", out=store, quiet=True)).exit_code == 0
    teacher.run(
        TeacherSettings(stores=[store], label=["recurrence"], folds="published_in", seeds=[0], out=run, quiet=True)
    )
    outcome = evaluate.run(EvaluateSettings(runs=[run], out=report, bootstrap_ci=True, resamples=200, quiet=True))
    assert (report / "report.html").is_file() and outcome.exit_code == 0
    parts = [pd.read_parquet(f) for f in sorted(run.glob("published_in-0-seed-*/predictions-recurrence.parquet"))]
    rows = pd.concat(parts).query("split == 'test'").dropna(subset=["label"])
    mean = rows.groupby("patient_id").agg({"label": "first", "p_yes": "mean"})
    assert len(parts) == 1 and len(mean) == 134
    from sklearn.metrics import roc_auc_score

    assert 0.72 < roc_auc_score(mean["label"] == "yes", mean["p_yes"]) < 0.88


def test_run_sh_parses() -> None:
    """bash accepts it, and mmcli's own parser every mmcli line in it."""
    subprocess.run(["bash", "-n", str(FOLDER / "run.sh")], check=True)
    assert os.access(FOLDER / "run.sh", os.X_OK)
    lines = re.findall(r"^\s*(mmcli .*)$", (FOLDER / "run.sh").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(lines) >= 9
    import typer.main

    from mmcli.cli import app

    root = typer.main.get_command(app)
    values = {"folds": "cv", "seeds": "0-4", "task": "recurrence", "table": "blood", "runs": "runs/cv/recurrence"}
    for line in (whole.split(" | ")[0] for whole in lines):
        words = shlex.split(re.sub(r"\$(\w+)", lambda m: values[m[1]], line))[1:]
        command: Any = root
        while hasattr(command, "commands"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        command.make_context("mmcli", words)
