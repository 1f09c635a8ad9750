"""Dates turned to years and days: the calendar of the standard library, forms, and what is no date."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcli.cohort.dates import FORMATS, Duration, durations, parse_date

ROWS = np.array([2, 3, 4, 5])


def cells(*texts: str) -> np.ndarray:
    return np.array(texts, dtype=object)


@given(day=st.dates(date(1000, 1, 1), date(9999, 12, 31)), form=st.sampled_from(FORMATS))
def test_what_is_written_is_read(day: date, form: str) -> None:
    written = form.replace("Y", f"{day.year:04}").replace("m", f"{day.month:02}").replace("d", f"{day.day:02}")
    assert parse_date(written, form) == day
    assert parse_date(written + " 12:30:00", form) == parse_date(f" {written} ", form) == day


@pytest.mark.parametrize(
    "text", ["2020-02-30", "2020-13-01", "31.12.2020", "2020", "20-01-02", "2020-1", "", "2020-01-01x", "2020_01_01"]
)
def test_no_iso_date(text: str) -> None:
    assert parse_date(text) is None


def test_a_single_digit_is_a_date_and_days_first_is_never_guessed() -> None:
    assert parse_date("2020-3-4") == date(2020, 3, 4)
    assert parse_date("3.4.2020", "d.m.Y") == date(2020, 4, 3)
    assert parse_date("3/4/2020", "m/d/Y") == date(2020, 3, 4)
    assert parse_date("2020110", "Ymd") is None


@given(st.dates(date(1900, 1, 1), date(2000, 1, 1)), st.integers(0, 40_000))
def test_days_are_the_calendars(born: date, days: int) -> None:
    visit = born + timedelta(days)
    made, problems = durations(
        Duration("b", "b", "v", True, "days"), cells(str(born)), cells(str(visit)), ROWS[:1], "t.csv"
    )
    assert problems == [] and float(made[0]) == days


def test_years_by_hand() -> None:
    age = Duration("birth", "age", "visit", True, format="d.m.Y")
    made, problems = durations(
        age, cells("01.01.1960", "", "1.7.1990", "NA"), cells("01.01.2020", "1.1.2020", "1.1.2020", "?"), ROWS, "t.csv"
    )
    assert problems == [] and made == ["60.0", "", "29.5031", ""]  # 21 915 / 365.25; 10 776 days / 365.25
    since = Duration("op", "op", "2020-01-01", False, "days")
    made, problems = durations(since, cells("2020-03-01", "2019-12-31", "", ""), date(2020, 1, 1), ROWS, "t.csv")
    assert problems == [] and made[:2] == ["60.0", "-1.0"]
    assert (age.made, since.made) == ("years from birth to visit", "days from 2020-01-01 to op")


def test_problems_name_file_row_and_column() -> None:
    age = Duration("birth", "age", "visit", True)
    _, problems = durations(
        age, cells("1960-01-01", "31.12.1960", "1.2.1961", "x"), cells(*["2020-01-01"] * 4), ROWS, "t.csv"
    )
    assert problems == [
        "t.csv, rows 3, 4, 5, column birth: no date of the form Y-m-d: '31.12.1960', '1.2.1961', 'x'; correct the "
        "cell, or leave it empty"
    ]
    _, problems = durations(age, cells("31.12.1960", "1.2.1961"), cells("1.1.2020", "1.1.2020"), ROWS[:2], "t.csv")
    assert problems[0].endswith("or say format: d.m.Y") and "column visit" in problems[1]
    _, problems = durations(age, cells("2020-01-02"), cells("2020-01-01"), ROWS[:1], "t.csv")
    assert problems == [
        "t.csv, row 2, column birth: lies after visit; correct one of the two dates, or say since: if that can be"
    ]
