"""A table modality as numbers, from made and real cohorts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmcli.cohort import TableSpec, read_cohort
from mmcli.errors import RequestError
from mmcli.readers.table import EXTENSIONS, read_table


def spec_of(frame: pd.DataFrame, **more) -> TableSpec:
    rows = np.arange(2, len(frame) + 2)
    return TableSpec("t", [str(c) for c in frame.columns], frame, rows, Path("t.csv"), **more)


def test_table_by_hand() -> None:
    frame = pd.DataFrame({"afp": ["1.5", "", ""], "sex": ["m", "f", ""], "grade": ["G2", "G1", "NA"]}, dtype=str)
    table = read_table(spec_of(frame, ordinal={"grade": ["G1", "G2"]}, units={"afp": "ng/ml"}))
    assert table.columns == ["afp", "sex", "grade"]
    assert table.kinds == ["numeric", "categorical", "ordinal"]
    assert table.categories == {"sex": ["f", "m"], "grade": ["G1", "G2"]}
    assert table.units == {"afp": "ng/ml"}
    assert table.present.tolist() == [True, True, False]
    np.testing.assert_array_equal(table.values, [[1.5, 1, 1], [np.nan, 0, 0], [np.nan] * 3])
    np.testing.assert_array_equal(table.observed, ~np.isnan(table.values))
    assert ".parquet" in EXTENSIONS


def test_a_problem_is_a_request_error() -> None:
    frame = pd.DataFrame({"afp": ["1", "2", "high"]}, dtype=str)
    with pytest.raises(RequestError, match=r"t\.csv, row 4, column afp: text in a column of numbers: 'high'"):
        read_table(spec_of(frame))


def test_real_holes_are_counted_as_pandas_does(data: Path, tmp_path: Path) -> None:
    source = pd.read_csv(data / "tables/cervical/risk_factors_cervical_cancer.csv", dtype=str)
    source.insert(0, "id", [f"{i:04d}" for i in range(len(source))])
    source.to_csv(tmp_path / "p.csv", index=False)
    features = [c for c in source.columns[1:] if c not in ("Hinselmann", "Schiller", "Citology", "Biopsy")]
    lines = "\n".join(f"      - {c!r}" for c in features)
    (tmp_path / "cohort.yaml").write_text(
        "patients: p.csv\nid: id\nlabels: {Biopsy: ['0', '1']}\n"
        f"modalities:\n  risk:\n    kind: table\n    columns:\n{lines}\n"
    )
    cohort = read_cohort(tmp_path / "cohort.yaml")
    table = read_table(cohort.modalities["risk"])
    expected = source[features].replace("?", np.nan).astype(float)
    np.testing.assert_array_equal(table.values, expected.to_numpy())
    assert set(table.kinds) == {"numeric"}
    assert np.bincount(cohort.patients.labels["Biopsy"].values).tolist() == [803, 55]


def test_hancock_blood_is_present_for_692(data: Path, tmp_path: Path) -> None:
    folder = data / "tables/hancock"
    (tmp_path / "cohort.yaml").write_text(
        f"patients: {folder}/targets.csv\nid: patient_id\nlabels: {{recurrence: [no, yes]}}\nmodalities:\n"
        f"  blood: {{kind: table, file: {folder}/blood.csv}}\n"
        f"  path: {{kind: table, file: {folder}/pathological.csv}}\n"
    )
    cohort = read_cohort(tmp_path / "cohort.yaml")
    blood = read_table(cohort.modalities["blood"])
    assert blood.values.shape == (763, 16) and blood.present.sum() == 692 and blood.observed[blood.present].all()
    path = read_table(cohort.modalities["path"])
    hole = 1 - path.observed[:, path.columns.index("perinodal_invasion")].mean()
    assert round(hole, 3) == 0.478
    raw = pd.read_csv(folder / "blood.csv", dtype={"patient_id": str}).set_index("patient_id")
    np.testing.assert_array_equal(blood.values, raw.reindex(cohort.patients.ids).to_numpy())
