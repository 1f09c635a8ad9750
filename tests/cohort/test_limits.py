"""limits:, outside: and dates: of a table modality, from the YAML to the store's data dictionary."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from mmcli.cohort import CohortError, TableSpec, examine_cohort, read_cohort
from mmcli.settings import PreprocessSettings
from mmcli.stages import cohort as cohort_stage
from mmcli.stages import preprocess
from mmcli.stages import store as store_stage
from mmcli.store import Store, verify

CSV = """id,birth,visit,age,crp,grade,sex
a,01.01.1960,01.01.2020,60,1.5,G1,f
b,01.07.1990,01.01.2020,29,,G2,m
c,,01.01.2020,230,-4,,f
d,15.05.1950,,70,900,G1,
"""
TABLE = "columns: [birth, age, crp, grade, sex], dates: {birth: {until: visit, format: d.m.Y, name: years}}, "


def written(folder: Path, table: str) -> Path:
    (folder / "p.csv").write_text(CSV)
    (folder / "cohort.yaml").write_text(f"patients: p.csv\nid: id\nmodalities:\n  lab: {{kind: table, {table}}}\n")
    return folder / "cohort.yaml"


def problems(folder: Path, table: str) -> list[str]:
    with pytest.raises(CohortError) as caught:
        read_cohort(written(folder, table))
    return [line.replace(f"{folder}/", "") for line in caught.value.problems]


def test_outside_of_its_limits_is_a_problem_with_the_row(tmp_path: Path) -> None:
    assert problems(tmp_path, "columns: [age, crp], limits: {age: [0, 120], crp: [0, '']}") == [
        "p.csv, row 4, column age: '230' outside of 0 to 120; correct the cell or the limits, or say outside: missing",
        "p.csv, row 4, column crp: '-4' outside of at least 0; correct the cell or the limits, or say outside: missing",
    ]


def test_outside_missing_is_not_observed_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path, "columns: [age, crp], limits: {age: [0, 120], crp: ['', 800]}, outside: missing")
    cohort, findings = examine_cohort(path)
    assert cohort is not None
    spec = cohort.modalities["lab"]
    assert isinstance(spec, TableSpec)
    np.testing.assert_array_equal(spec.typed.values, [[60, 1.5], [29, np.nan], [np.nan, -4], [70, np.nan]])
    assert spec.typed.outside == {"age": 1, "crp": 1}
    assert [w.split("column ")[1] for w in findings.warnings] == [
        "age: '230' outside of 0 to 120: taken as not observed (1 cells)",
        "crp: '900' outside of at most 800: taken as not observed (1 cells)",
    ]


def test_dates_become_a_column_of_years(tmp_path: Path) -> None:
    cohort = read_cohort(written(tmp_path, TABLE + "limits: {years: [18, 110]}, units: {crp: mg/l}"))
    spec = cohort.modalities["lab"]
    assert isinstance(spec, TableSpec)
    assert spec.columns == ["years", "age", "crp", "grade", "sex"]
    np.testing.assert_allclose(spec.typed.values[:, 0], [60, 29.5031, np.nan, np.nan])
    assert spec.units == {"years": "years", "crp": "mg/l"} and spec.made == {"years": "years from birth to visit"}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("columns: [age], limits: {aeg: [0, 1]}", "key modalities.lab.limits: 'aeg' is not among its columns"),
        ("columns: [age], limits: {age: [9, 1]}", "limits: age: 9 is not below 1; write [low, high]"),
        ("columns: [age], limits: {age: ['', '']}", "limits: age: two numbers [low, high], one of them may be empty"),
        ("columns: [age], limits: {age: [0, inf]}", "limits: age: two numbers [low, high]"),
        ("columns: [age], limits: {age: [0, old]}", "key modalities.lab.limits.age.1"),
        ("columns: [age], limits: {age: [0]}", "key modalities.lab.limits.age"),
        ("columns: [sex], limits: {sex: [0, 1]}", "column sex: limits: are for numbers, and it is categorical"),
        ("columns: [age], outside: drop", "key modalities.lab.outside: input should be 'problem' or 'missing'"),
        ("columns: [age], dates: {birth: {until: visit}}", "lab.dates: 'birth' is not among its columns"),
        ("columns: [birth], dates: {birth: {until: visti}}", "p.csv has no column 'visti'; did you mean 'visit'"),
        ("columns: [birth], dates: {birth: {}}", "key modalities.lab.dates.birth: until: or since:, with a column"),
        ("columns: [birth], dates: {birth: {until: visit, since: visit}}", "lab.dates.birth: until: or since"),
        ("columns: [birth], dates: {birth: {till: visit}}", "lab.dates.birth.till: unknown key; did you mean 'until'"),
        ("columns: [birth], dates: {birth: {until: 1.1.2020}}", "'1.1.2020': a date is written like 2020-01-31"),
        ("columns: [birth], dates: {birth: {until: visit, format: dmy}}", "format: one of Y-m-d"),
        ("columns: [birth], dates: {birth: {until: visit}}", "row 2, 3, 5, column birth: no date of the form Y-m-d"),
        ("columns: [birth, age], dates: {birth: {until: visit, format: d.m.Y, name: age}}", "the name 'age' is"),
        ("columns: [birth]", "make years of them (dates: {<column>: {until: <column>}})"),
    ],
)  # fmt: skip
def test_bad_keys_in_one_line(tmp_path: Path, table: str, words: str) -> None:
    lines = problems(tmp_path, table)
    assert any(words.replace("row 2", "rows 2") in line for line in lines), lines
    assert all("\n" not in line for line in lines)


def test_the_data_dictionary_in_the_store(tmp_path: Path) -> None:
    keys = TABLE + "limits: {age: [0, 120]}, outside: missing, ordinal: {grade: [G1, G2]}, units: {crp: mg/l}"
    out = tmp_path / "s.h5"
    preprocess.run(PreprocessSettings(cohort=written(tmp_path, keys), out=out, quiet=True))
    with h5py.File(out) as file:
        lines = [json.loads(line) for line in file["tables/lab/dictionary"][:]]
    assert lines == [
        {"name": "years", "kind": "numeric", "unit": "years", "categories": [], "made": "years from birth to visit",
         "observed": 2, "missing": 2, "missing_share": 0.5},
        {"name": "age", "kind": "numeric", "unit": "", "categories": [], "limits": [0, 120], "outside": 1,
         "observed": 3, "missing": 1, "missing_share": 0.25},
        {"name": "crp", "kind": "numeric", "unit": "mg/l", "categories": [], "observed": 3, "missing": 1,
         "missing_share": 0.25},
        {"name": "grade", "kind": "ordinal", "unit": "", "categories": ["G1", "G2"], "observed": 3, "missing": 1,
         "missing_share": 0.25},
        {"name": "sex", "kind": "categorical", "unit": "", "categories": ["f", "m"], "observed": 3, "missing": 1,
         "missing_share": 0.25},
    ]  # fmt: skip
    assert verify(out) == []
    with Store(out) as store:
        assert store.tables["lab"].dictionary() == lines
    packed = tmp_path / "packed.h5"
    store_stage.pack([out], packed, force=False)
    shown = {row["holds"].strip(): row["what"] for row in store_stage.info([packed]).rows}
    assert shown["lab.age"] == "numeric, 0 to 120, 1 outside taken as missing, 25.0% missing"
    assert shown["lab.grade"] == "ordinal, G1 < G2, 25.0% missing"
    assert shown["lab.years"] == "numeric, years, years from birth to visit, 50.0% missing"


def test_init_guesses_the_limits_of_an_age_and_points_to_dates(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        "id,birth,age_at_visit,crp\na,1960-01-01,60,1\nb,1970-01-01,50,2\nc,1980-01-01,40,3\n"
    )
    cohort_stage.init(tmp_path / "p.csv")
    text = (tmp_path / "cohort.yaml").read_text()
    assert "    limits: {age_at_visit: [0, 120]}" in text and "birth: a date; for years" in text
    spec = read_cohort(tmp_path / "cohort.yaml").modalities["clinical"]
    assert isinstance(spec, TableSpec) and spec.limits == {"age_at_visit": (0, 120)}
