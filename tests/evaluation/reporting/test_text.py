"""The terminal: narrow tables with every main figure, and the lines without which they mislead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mmcli.evaluation.reporting import lines, rows, tables
from mmcli.evaluation.reporting.shown import cell, records
from mmcli.evaluation.result import Result
from mmcli.printing import print_outcome


def printed(result: Result, capsys: pytest.CaptureFixture[str]) -> str:
    class Outcome:
        rows: Any = None
        message = ""

    Outcome.tables = tables(result)  # type: ignore[attr-defined]
    print_outcome(Outcome)
    return capsys.readouterr().out


def test_no_table_is_wider_than_100_columns(
    make: Callable[..., Result], large: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "a-very-long-name-of-a-run-that-nobody-would-type-twice-but-a-script-would"
    several = make([f"{long}-1", f"{long}-2", "c"], {"relapse-within-three-years": ("no", "yes"), "t": ("a", "b")},
                   variants=("G(I)+I", "S+I"), by={"a-rather-long-column-name": ["x" * 50, "y"]})  # fmt: skip
    for result in (large, several):
        out = printed(result, capsys)
        assert max(map(len, out.splitlines())) <= 100
        assert len(out.splitlines()) > 30


def test_long_names_stay_apart(make: Callable[..., Result]) -> None:
    names = ["x" * 60 + end + "z" * 30 for end in "ab"]
    shown = {row["Run"] for row in tables(make(names, {"t": ("a", "b")}))[0]}
    assert len(shown) == 2


def test_the_first_tables_have_the_main_figures(small: Result) -> None:
    first, second, differences = tables(small)[:3]
    assert list(first[0]) == ["Run", "Patients", "AUC", "Balanced accuracy", "Brier score"]
    row = records(small.metrics, run="student", metric="auc")[0]
    assert first[1]["AUC"] == cell(row)
    assert first[1]["AUC"].endswith("]")
    assert len(second[0]) == 5
    assert differences[0] == {
        "Run": "teacher", "minus": "student", "in": "AUC", "Difference": "−0.046 [−0.090, +0.010]", "p": "0.012",
        "Holm": "0.046",
    }  # fmt: skip
    assert [d["in"] for d in differences] == ["AUC", "bal. acc.", "Brier"]
    assert rows(small)[1]["AUC"] == cell(row)


def test_many_pairs_are_compared_by_auc_alone(large: Result) -> None:
    differences = [t for t in tables(large) if "Difference" in t[0]]
    assert [len(t) for t in differences] == [15, 15]
    assert {row["in"] for t in differences for row in t} == {"AUC"}


def test_without_bootstrap_the_formulas_intervals_and_delong(make: Callable[..., Result]) -> None:
    result = make(["a", "b"], {"t": ("no", "yes")}, bootstrap=False)
    first = tables(result)[0]
    assert "[" in first[0]["AUC"]
    assert "[" not in first[0]["Brier score"]
    assert any("by formula" in line for line in lines(result))
    assert [r["Difference"] for t in tables(result) for r in t if "Difference" in r] == ["+0.046"]


def test_worst_groups_and_sets(make: Callable[..., Result]) -> None:
    result = make(["a", "b"], {"t": ("no", "yes")}, by={"sex": ["f", "m"]})
    worst = next(t for t in tables(result) if "Worst" in t[0])
    row = next(r for r in records(result.subgroups, run="a", metric="auc") if r["worst"])
    assert {"Run": "a", "By": "sex", "Worst": row["subgroup"], "n": 48, "in": "AUC", "Value": cell(row)} in worst
    sets = next(t for t in tables(result) if "Coverage" in t[0])
    assert sets[0] == {"Run": "a", "Sets for": "90 %", "Coverage": "0.885 [0.810, 0.940]", "Classes a set": "1.234"}


def test_what_must_be_said(small: Result) -> None:
    assert lines(small)[0] == "In brackets: 95 % percentile intervals of 2000 bootstrap resamples of patients."
    metrics = small.metrics.copy()
    own = metrics["run"] == "student"
    metrics.loc[own & (metrics["metric"] == "sensitivity"), "value"] = 0.0
    metrics.loc[own & (metrics["metric"] == "specificity"), "value"] = 1.0
    metrics.loc[own, "n"] = 90
    said = lines(replace(small, metrics=metrics, notes=["noted"]))
    assert any(line.startswith("WARNING: student gives every patient the same decision, “no”") for line in said)
    assert said[-1] == "noted"
