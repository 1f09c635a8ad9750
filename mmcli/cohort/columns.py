"""What the text of a table's columns means: numeric, ordinal or categorical, and which cells are observed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmcli.store.parts import ColumnKind

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
MAX_CATEGORIES = 50
FEW = 10
SHOWN = 5
Limits = tuple[float | None, float | None]
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_COMMA = re.compile(r"[+-]?\d*,\d+")
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([ T].*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})([ T].*)?")


@dataclass(frozen=True)
class TypedColumns:
    """`values` (n, f) float64, NaN exactly where `observed` (n, f) is False; text columns hold codes into
    `categories[column]`. `outside` counts, by column, the cells that `limits` made not observed. `problems` are lines
    for the user; where there are any, the values are not to be used."""

    kinds: list[ColumnKind]
    categories: dict[str, list[str]]
    values: NDArray[np.float64]
    observed: NDArray[np.bool_]
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    outside: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Column:
    """One column: `texts` are its distinct stripped texts, `codes` (n,) which of them a cell holds."""

    texts: list[str]
    codes: NDArray[np.int64]
    number: NDArray[np.float64]
    missing: NDArray[np.bool_]
    rows: NDArray[np.int64]

    def where(self, wanted: NDArray[np.bool_]) -> str:
        """The first rows whose text is among the wanted ones, for a message."""
        return rows_text(self.rows[wanted[self.codes]])

    def counts(self) -> NDArray[np.int64]:
        return np.bincount(self.codes, minlength=len(self.texts)).astype(np.int64)


def is_missing(text: str) -> bool:
    """Whether a cell says that nothing was observed: "", NA, N/A, nan, null, none, ? in any case."""
    return text.strip().casefold() in MISSING


def rows_text(rows: Sequence[int] | NDArray[np.int64]) -> str:
    """ "row 5" or "rows 5, 7, 9, 12, 13 and 31 more"."""
    shown = ", ".join(str(int(row)) for row in rows[:SHOWN])
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"


def some(texts: Sequence[str], quote: bool = True) -> str:
    """The first few of a list, and how many more there are."""
    shown = ", ".join(repr(text) if quote else text for text in texts[:SHOWN])
    return shown + (f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else "")


def type_columns(
    frame: pd.DataFrame,
    file: str,
    rows: NDArray[np.int64],
    ordinal: dict[str, list[str]],
    kinds: dict[str, ColumnKind],
    limits: Mapping[str, Limits] | None = None,
    drop_outside: bool = False,
) -> TypedColumns:
    """Find the kind of every column of a frame of text (n, f); `rows` (n,) are the rows in `file`, for messages.

    A column is numeric when every observed cell is a finite number, ordinal when `ordinal` gives its order, else
    categorical with sorted categories; `kinds` overrides. A cell is not observed when `is_missing`, except where
    the order in `ordinal` names its text. Problems: infinite numbers; text in a column where at least half of the
    observed cells are numbers; decimal commas; dates; more than 50 categories, or a different text in each of 10
    or more cells (free text, ids); ordinal values outside the order; numbers outside of their (low, high) in `limits`,
    which with `drop_outside` are not observed instead, and counted.
    """
    n, f = frame.shape
    values = np.full((n, f), np.nan)
    found: list[ColumnKind] = []
    categories: dict[str, list[str]] = {}
    problems: list[str] = []
    warnings: list[str] = []
    for j, (label, texts) in enumerate(frame.items()):
        name = str(label)
        cells = texts.to_numpy(dtype=object)
        declared = kinds.get(name)
        if name not in ordinal and declared != "categorical":
            numbers = _all_numbers(cells)
            if numbers is not None:
                values[:, j] = numbers
                found.append("numeric")
                continue
        column = _column(cells, rows, keep=ordinal.get(name, []))
        if name in ordinal:
            order = ordinal[name]
            kind: ColumnKind = "ordinal"
            complaint = _outside(column, order)
        else:
            kind, complaint = _kind(column, declared)
            order = sorted({text for text, gone in zip(column.texts, column.missing, strict=True) if not gone})
        if complaint:
            problems.append(f"{file}, {complaint[0]}column {name}: {complaint[1]}")
        elif kind == "numeric":
            values[:, j] = column.number[column.codes]
        else:
            place = {text: float(code) for code, text in enumerate(order)}
            codes = [np.nan if gone else place[text] for text, gone in zip(column.texts, column.missing, strict=True)]
            values[:, j] = np.array(codes, dtype=np.float64)[column.codes]
            warnings += _none_is_text(column, file, name)
        if kind != "numeric":
            categories[name] = order
        found.append(kind)
    outside = _limit(frame, file, rows, values, found, limits or {}, drop_outside, problems, warnings)
    return TypedColumns(found, categories, values, ~np.isnan(values), problems, warnings, outside)


def _limit(
    frame: pd.DataFrame,
    file: str,
    rows: NDArray[np.int64],
    values: NDArray[np.float64],
    found: list[ColumnKind],
    limits: Mapping[str, Limits],
    drop: bool,
    problems: list[str],
    warnings: list[str],
) -> dict[str, int]:
    """Numbers that no patient can have: a problem each column, or NaN in `values` and a warning with their count."""
    dropped: dict[str, int] = {}
    for name, (low, high) in limits.items():
        j = frame.columns.get_loc(name)
        if found[j] != "numeric":
            problems.append(f"{file}, column {name}: limits: are for numbers, and it is {found[j]}; leave them out")
            continue
        least, most = -np.inf if low is None else low, np.inf if high is None else high
        beyond = (values[:, j] < least) | (values[:, j] > most)
        if not beyond.any():
            continue
        shown = some(list(dict.fromkeys(str(t).strip() for t in frame[name].to_numpy(dtype=object)[beyond])))
        said = f"{file}, {rows_text(rows[beyond])}, column {name}: {shown} outside of {limits_text((low, high))}"
        if drop:
            values[beyond, j] = np.nan
            dropped[name] = int(beyond.sum())
            warnings.append(f"{said}: taken as not observed ({dropped[name]} cells)")
        else:
            problems.append(f"{said}; correct the cell or the limits, or say outside: missing")
    return dropped


def limits_text(limits: Limits) -> str:
    """ "0 to 120", "at least 0", "at most 120"."""
    low, high = limits
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return f"at least {low:g}" if low is not None else f"at most {high:g}"


def _all_numbers(cells: NDArray[np.object_]) -> NDArray[np.float64] | None:
    """(n,) float64 of a column without holes or text, else None. Only for speed: wide tables are mostly such."""
    try:
        numbers = cells.astype(np.float64)
    except (ValueError, TypeError):
        return None
    # Python's float() reads 1_000, which no table means as a number.
    return numbers if np.isfinite(numbers).all() and not any("_" in cell for cell in cells) else None


def _column(cells: NDArray[np.object_], rows: NDArray[np.int64], keep: list[str]) -> _Column:
    codes, texts = pd.factorize(np.array([cell.strip() for cell in cells], dtype=object))
    missing = [text.casefold() in MISSING and text not in keep for text in texts]
    number = [float(text) if _NUMBER.fullmatch(text) else np.nan for text in texts]
    return _Column(
        [str(text) for text in texts],
        codes.astype(np.int64),
        np.array(number, dtype=np.float64),
        np.array(missing, dtype=np.bool_),
        rows,
    )


def _outside(column: _Column, order: list[str]) -> tuple[str, str] | None:
    wrong = ~column.missing & np.array([text not in order for text in column.texts], dtype=np.bool_)
    if not wrong.any():
        return None
    texts = [text for text, bad in zip(column.texts, wrong, strict=True) if bad]
    return (
        f"{column.where(wrong)}, ",
        f"{some(texts)} not in the order {', '.join(order)}; correct the cell or add it under ordinal:",
    )


def _kind(column: _Column, declared: ColumnKind | None) -> tuple[ColumnKind, tuple[str, str] | None]:
    """The kind of a column without an order, and (rows, what is wrong) or None."""
    observed = ~column.missing
    texts = column.texts
    infinite = observed & np.array([bool(_INFINITE.fullmatch(text)) for text in texts], dtype=np.bool_)
    infinite |= np.isinf(column.number)
    finite = np.isfinite(column.number)
    text = observed & ~finite & ~infinite
    counts = column.counts()
    if declared == "categorical":
        return "categorical", None
    if not text.any() and not infinite.any():
        return "numeric", None
    comma = text & np.array([bool(_COMMA.fullmatch(t)) for t in texts], dtype=np.bool_)
    if comma.any() and (comma | finite | ~observed).all():
        return "numeric", (f"{column.where(comma)}, ", "decimal commas; write numbers with a point (12.5)")
    mostly = counts[finite | infinite].sum() >= counts[text].sum()
    if declared == "numeric" or mostly:
        if text.any():
            wrong = [t for t, bad in zip(texts, text, strict=True) if bad]
            remedy = "correct the cell, leave it empty if nothing was observed"
            remedy += "" if declared else ", or say kinds: {<column>: categorical} for codes"
            return "numeric", (f"{column.where(text)}, ", f"text in a column of numbers: {some(wrong)}; {remedy}")
        return "numeric", (f"{column.where(infinite)}, ", "an infinite number; leave the cell empty or give a number")
    distinct = int(observed.sum())
    if all(_DATE.fullmatch(t) for t, seen in zip(texts, observed, strict=True) if seen):
        return "categorical", (
            "",
            "holds dates; make years of them (dates: {<column>: {until: <column>}}), or leave it out with columns:",
        )
    if distinct > MAX_CATEGORIES:
        return "categorical", (
            "",
            f"{distinct} different texts (at most {MAX_CATEGORIES} are categories); free text or an id: leave it out"
            " with columns:, or say kinds: {<column>: categorical}",
        )
    if distinct >= FEW and distinct == counts[observed].sum():
        return "categorical", ("", "a different text for every patient; free text or an id: leave it out with columns:")
    return "categorical", None


def _none_is_text(column: _Column, file: str, name: str) -> list[str]:
    gone = column.missing & np.array([text.casefold() == "none" for text in column.texts], dtype=np.bool_)
    if not gone.any():
        return []
    cells = int(column.counts()[gone].sum())
    return [
        f"{file}, column {name}: {cells} cells with 'none' are taken as not observed; if it is a finding, "
        "name it in an order under ordinal: or write another word"
    ]
