"""Kinds of columns: by hand."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcli.cohort.columns import is_missing, rows_text, type_columns


def typed(cells: list[str], ordinal: list[str] | None = None, kind: str | None = None):
    frame = pd.DataFrame({"x": cells}, dtype=str)
    rows = np.arange(2, len(cells) + 2)
    return type_columns(frame, "t.csv", rows, {"x": ordinal} if ordinal else {}, {"x": kind} if kind else {})


def test_numbers_with_holes() -> None:
    found = typed(["1", " 2.5\t", "", "NA", "?", "-3e2", "nan", "NULL"])
    assert found.kinds == ["numeric"] and found.problems == [] and found.categories == {}
    np.testing.assert_array_equal(found.values[:, 0], [1, 2.5, np.nan, np.nan, np.nan, -300, np.nan, np.nan])
    np.testing.assert_array_equal(found.observed[:, 0], [1, 1, 0, 0, 0, 1, 0, 0])


def test_two_valued_numbers_stay_numeric_and_words_are_categories() -> None:
    assert typed(["0", "1", "0"]).kinds == ["numeric"]
    found = typed(["yes", "no", "", "yes"])
    assert found.kinds == ["categorical"] and found.categories == {"x": ["no", "yes"]}
    np.testing.assert_array_equal(found.values[:, 0], [1, 0, np.nan, 1])
    assert typed(["1", "2", "1"], kind="categorical").categories == {"x": ["1", "2"]}
    assert typed(["", ""]).kinds == ["numeric"] and not typed(["", ""]).observed.any()


def test_ordinal_in_its_order() -> None:
    found = typed(["G2", "G1", "", "G3"], ordinal=["G3", "G2", "G1"])
    assert found.kinds == ["ordinal"] and found.categories == {"x": ["G3", "G2", "G1"]}
    np.testing.assert_array_equal(found.values[:, 0], [1, 2, np.nan, 0])
    # A word of the order is a value even where it reads like a hole.
    none = typed(["none", "mild", ""], ordinal=["none", "mild"])
    np.testing.assert_array_equal(none.observed[:, 0], [True, True, False])
    np.testing.assert_array_equal(typed(["1", "10", "2"], ordinal=["1", "2", "10"]).values[:, 0], [0, 2, 1])
    (line,) = typed(["G1", "G4", "G4"], ordinal=["G1", "G2"]).problems
    assert line.startswith("t.csv, rows 3, 4, column x: 'G4'")


def test_none_as_a_word_is_warned_of() -> None:
    (line,) = typed(["none", "mild", "mild"]).warnings
    assert "1 cells with 'none'" in line and "column x" in line


@pytest.mark.parametrize(
    ("cells", "kind", "message"),
    [
        (["1", "2", "few pictures"], None, r"t.csv, row 4, column x: text in a column of numbers: 'few pictures'"),
        (["a", "b", "1"], "numeric", r"rows 2, 3, column x: text"),
        (["1", "inf", "2"], None, r"row 3, column x: an infinite number"),
        (["1", "1e999", "2"], None, r"row 3, column x: an infinite number"),
        (["1,5", "2,5", "3"], None, r"rows 2, 3, column x: decimal commas"),
        (["2020-01-02", "2020-01-03", "2020-01-02"], None, "dates"),
        (["3.4.2020", "31.12.19", ""], None, "dates"),
        (["1", "1_000", "2"], None, r"row 3, column x: text"),
        (["1", "0x1A", "2"], None, r"row 3, column x: text"),
        (["1", "TRUE", "2"], None, r"row 3, column x: text"),
        ([f"name {i}" for i in range(10)], None, "a different text for every patient"),
        ([f"c{i % 51}" for i in range(200)], None, "51 different texts"),
    ],
)
def test_problems_name_row_and_column(cells: list[str], kind: str | None, message: str) -> None:
    found = typed(cells, kind=kind)
    assert len(found.problems) == 1
    assert re.search(message, found.problems[0])


def test_what_is_not_a_problem() -> None:
    assert typed([f"c{i % 50}" for i in range(200)]).problems == []
    assert typed([f"name {i}" for i in range(9)]).problems == []
    assert typed([f"name {i}" for i in range(99)], kind="categorical").problems == []
    assert typed(["a", "b", "1"]).kinds == ["categorical"]


def test_rows_text() -> None:
    assert rows_text([5]) == "row 5"
    assert rows_text(list(range(1, 9))) == "rows 1, 2, 3, 4, 5 and 3 more"


@given(st.lists(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.none()), min_size=1))
def test_floats_come_back_exactly(numbers: list[float | None]) -> None:
    found = typed(["" if x is None else repr(x) for x in numbers])
    assert found.kinds == ["numeric"]
    expected = [np.nan if x is None else x for x in numbers]
    np.testing.assert_array_equal(found.values[:, 0], expected)


@given(st.lists(st.sampled_from(["a", "b", "c", "", "NA", "7"]), min_size=1, max_size=30))
def test_categories_against_a_slow_reading(cells: list[str]) -> None:
    found = typed(cells)
    if found.problems:  # half of the observed cells are numbers: that is asked about
        assert cells.count("7") >= len([c for c in cells if not is_missing(c)]) / 2
        return
    observed = [not is_missing(c) for c in cells]
    np.testing.assert_array_equal(found.observed[:, 0], observed)
    if found.kinds == ["categorical"]:
        names = found.categories["x"]
        assert names == sorted({c for c in cells if not is_missing(c)})
        assert [names[int(v)] for v in found.values[found.observed[:, 0], 0]] == [c for c in cells if not is_missing(c)]
