"""metrics.json and the CSV files: everything, at full precision, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmcli.evaluation.reporting import as_json, from_json, lines, rows, tables, write_report
from mmcli.evaluation.reporting.files import TABLES
from mmcli.evaluation.result import Result


def test_tables_with_rows_have_files_that_read_back_the_same(large: Result, small: Result, tmp_path: Path) -> None:
    write_report(tmp_path, large)
    names = {f.name for f in tmp_path.iterdir()}
    assert names == {"report.html", "metrics.json", "tables.tex", *(f"{n}.csv" for n in TABLES)}
    for name, columns in TABLES.items():
        frame = pd.read_csv(tmp_path / f"{name}.csv", dtype={"variant": str, "subgroup": str})
        assert list(frame.columns) == columns
        wanted = getattr(large, name)
        assert len(frame) == len(wanted)
        for column in frame.select_dtypes("number"):
            np.testing.assert_array_equal(frame[column], wanted[column].astype(float))
    (tmp_path / "small").mkdir()
    write_report(tmp_path / "small", small)
    names = {f.name for f in (tmp_path / "small").iterdir()}
    assert names == {"report.html", "metrics.json", "tables.tex", "metrics.csv", "comparisons.csv", "conformal.csv"}


def test_json_is_strict_and_what_is_undefined_is_null(small: Result, tmp_path: Path) -> None:
    metrics = small.metrics.assign(value=[math.nan, math.inf, *small.metrics["value"][2:]])
    write_report(tmp_path, replace(small, metrics=metrics, notes=["a note"]))

    def refuse(word: str) -> None:
        raise AssertionError(word)

    content = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert [m["value"] for m in content["metrics"][:2]] == [None, None]
    assert content["metrics"][2]["value"] == small.metrics["value"][2]
    assert content["bootstrap"] == {
        "unit": "patient", "interval": "percentile", "resamples": 2000, "confidence": 0.95, "seed": 3,
        "stratified": False,
    }  # fmt: skip
    assert content["summary"]["tasks"][0]["per_class"] == {"no": 52, "yes": 44}
    assert content["notes"] == ["a note"]
    assert list(content["inputs"]) == ["teacher", "student"]
    assert "fold_assignment" not in content["inputs"]["teacher"]["run"]
    assert "fold_assignment" in small.about["inputs"]["teacher"]["run"]
    assert isinstance(content["metrics"][0]["n"], int)


def test_the_terminal_says_the_same_from_an_earlier_report(large: Result) -> None:
    again = from_json(json.loads(json.dumps(as_json(large))))
    assert tables(again) == tables(large)
    assert lines(again) == lines(large)
    assert rows(again) == rows(large)
    assert as_json(again) == as_json(large)


def test_numpys_numbers_are_numbers(small: Result) -> None:
    small.about["extra"] = {"n": np.int64(3), "x": np.float64("nan"), "v": np.arange(2), "path": Path("a")}
    assert as_json(small)["about"] == {"extra": {"n": 3, "x": None, "v": [0, 1], "path": "a"}}


@pytest.mark.parametrize("bootstrap", [True, False])
def test_the_same_bytes(make: Callable[..., Result], tmp_path: Path, bootstrap: bool) -> None:
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, make(["x", "y"], {"t": ("no", "yes")}, bootstrap=bootstrap))
        written.append({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert (json.loads(written[0]["metrics.json"])["bootstrap"] is None) is not bootstrap
