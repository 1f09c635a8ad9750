"""Columns of dates turned to time: years (or days) until another column's date, or since it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from mmcli.cohort.columns import is_missing, rows_text, some

ISO = "Y-m-d"
FORMATS = (ISO, "Y/m/d", "Ymd", "d.m.Y", "d/m/Y", "d-m-Y", "m/d/Y", "m-d-Y")
DAYS_PER_YEAR = 365.25
UNITS = {"years": DAYS_PER_YEAR, "days": 1.0}
_PARTS = {"Y": r"(?P<Y>\d{4})", "m": r"(?P<m>\d{1,2})", "d": r"(?P<d>\d{1,2})"}
_WHOLE = {"m": r"(?P<m>\d{2})", "d": r"(?P<d>\d{2})", "Y": _PARTS["Y"]}
_TIME = r"([ T]\d.*)?"


@dataclass(frozen=True)
class Duration:
    """How a column of dates becomes a number: its time until `other` (`before`), or since it. `other` is a column, or
    a date as ISO text; `unit` years or days; `format` that of both columns."""

    column: str
    name: str
    other: str
    before: bool
    unit: str = "years"
    format: str = ISO

    @property
    def made(self) -> str:
        """For the data dictionary: how the column was made."""
        return f"{self.unit} from {self.column} to {self.other}" if self.before else (
            f"{self.unit} from {self.other} to {self.column}"
        )  # fmt: skip


def parse_date(text: str, form: str = ISO) -> date | None:
    """The date of a text in one of FORMATS, a time of day behind it is passed over; None where it is none."""
    parts = _WHOLE if form == "Ymd" else _PARTS
    pattern = "".join(parts.get(letter, re.escape(letter)) for letter in form)
    match = re.fullmatch(pattern + _TIME, text.strip())
    try:
        return date(int(match["Y"]), int(match["m"]), int(match["d"])) if match else None
    except ValueError:  # 30 February
        return None


def durations(
    duration: Duration,
    cells: NDArray[np.object_],
    others: NDArray[np.object_] | date,
    rows: NDArray[np.int64],
    file: str,
) -> tuple[list[str], list[str]]:
    """The column (n,) as text of numbers ("" where one of the two dates is not observed), and what is wrong.

    `rows` (n,) are the rows in `file`, for the messages. A column that runs *until* another one may not end before it
    begins.
    """
    problems: list[str] = []
    first = _dates(cells, duration.column, duration.format, rows, file, problems)
    if isinstance(others, date):
        second: list[date | None] = [others] * len(first)
    else:
        second = _dates(others, duration.other, duration.format, rows, file, problems)
    if problems:
        return [], problems
    sign = 1 if duration.before else -1
    days = [None if a is None or b is None else sign * (b - a).days for a, b in zip(first, second, strict=True)]
    backwards = np.array([d is not None and d < 0 for d in days], dtype=np.bool_)
    if duration.before and backwards.any():
        problems.append(
            f"{file}, {rows_text(rows[backwards])}, column {duration.column}: lies after {duration.other}; correct one "
            "of the two dates, or say since: if that can be"
        )
    return ["" if d is None else repr(round(d / UNITS[duration.unit], 4)) for d in days], problems


def _dates(
    cells: NDArray[np.object_], column: str, form: str, rows: NDArray[np.int64], file: str, problems: list[str]
) -> list[date | None]:
    known = {text: None if is_missing(text) else parse_date(text, form) for text in set(cells.tolist())}
    wrong = np.array([known[text] is None and not is_missing(text) for text in cells], dtype=np.bool_)
    if wrong.any():
        texts = list(dict.fromkeys(cells[wrong].tolist()))
        fits = [f for f in FORMATS if f != form and all(parse_date(t, f) or is_missing(t) for t in known)]
        remedy = f"or say format: {' or '.join(fits)}" if fits else "or leave it empty"
        line = f"{file}, {rows_text(rows[wrong])}, column {column}: no date of the form {form}: {some(texts)}; "
        if f"{line}correct the cell, {remedy}" not in problems:
            problems.append(f"{line}correct the cell, {remedy}")
    return [known[text] for text in cells]
