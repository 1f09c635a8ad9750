"""What is shown, and how numbers are written: shared by the page, LaTeX and the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from mmcli.metrics import METRICS, Metric

Row = dict[str, Any]

TEXT = {"run", "variant", "task", "metric", "class", "other", "test", "by", "subgroup", "interval", "analytic",
        "modality"}  # fmt: skip
COUNTS = {"n", "parts", "undefined", "seeds"}
# A figure of the ranking, of the decisions and of the calibration: an AUC of .99 is possible with all decisions wrong.
BINARY = ("auc", "balanced_accuracy", "sensitivity", "specificity", "brier", "calibration_slope")
SEVERAL = ("auc", "balanced_accuracy", "accuracy", "f1_macro", "brier", "ece")
ORDINAL = ("auc", "balanced_accuracy", "kappa_quadratic", "ordinal_mae", "brier", "ece")
THREE = ("auc", "balanced_accuracy", "brier")
TESTS = {
    "bootstrap": "Bootstrap",
    "delong": "DeLong",
    "mcnemar_exact": "McNemar, exact",
    "mcnemar": "McNemar, corrected",
    "corrected_t": "Corrected t",
    "wilcoxon": "Wilcoxon",
}
FORMULAS = {"delong": "DeLong", "wilson": "Wilson", "mover": "Wilson, MOVER"}


def records(frame: pd.DataFrame, **where: str) -> list[Row]:
    """The rows of a result's table whose columns are as in `where`; text that is none is empty, counts are ints."""
    for column, value in where.items():
        own = frame[column]
        frame = frame[own.isna() | (own == "") if value == "" else own == value]
    return [{str(k): _clean(str(k), v) for k, v in row.items()} for row in frame.to_dict("records")]


def values(frame: pd.DataFrame, column: str) -> list[str]:
    """The different values of a text column, in their order; none is left out."""
    return [str(v) for v in frame[column].dropna().unique() if v != ""]


def _clean(column: str, value: Any) -> Any:
    none = value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA
    if column in TEXT:
        return "" if none else str(value)
    if column in COUNTS:
        return 0 if none else int(value)
    if column == "worst":
        return False if none else bool(value)
    return math.nan if none else float(value)


def grouped(rows: Iterable[Row], *by: str) -> dict[tuple[Any, ...], dict[str, Row]]:
    """The rows as one row a figure becomes one row a value of the columns `by`, each with its metrics by name."""
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[c] for c in by), {})[row["metric"]] = row
    return found


def main_metrics(classes: Sequence[str], ordinal: bool, known: Iterable[str]) -> list[str]:
    """The metrics of the first table, of those that are known."""
    chosen = BINARY if len(classes) == 2 else ORDINAL if ordinal else SEVERAL
    there = set(known)
    return [m for m in chosen if m in there]


def _metric(name: str) -> Metric | None:
    """The registered metric, if it is one."""
    found: Metric | None = METRICS.get(name) if name in METRICS.names() else None
    return found


def title(metric: str) -> str:
    """A metric's name for people."""
    known = _metric(metric)
    return known.title if known else metric.replace("_", " ")


def about(metric: str) -> str:
    """What a metric tells: ranking, decisions or calibration."""
    known = _metric(metric)
    return known.about if known else "decisions"


def best(metric: str) -> str:
    """Which way a metric is better."""
    known = _metric(metric)
    if known is not None and known.ideal is not None:
        return f"{known.ideal:g} is best"
    return "higher is better" if known is None or known.higher_is_better else "lower is better"


def who(run: str, variant: str) -> str:
    """The run's name, with its variant where it has one."""
    return f"{run} · {variant}" if variant else run


def number(value: float, signed: bool = False) -> str:
    """Three decimals (one from 100 on) with a true minus sign; a dash where undefined."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    digits = 3 if abs(value) < 99.95 else 1
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    return (text if float(text) else f"{0:.{digits}f}").replace("-", "−")


def limits(row: Row, signed: bool = False) -> str:
    """A row's interval in brackets: the bootstrap's, else the formula's, else nothing."""
    for low, high in (("low", "high"), ("analytic_low", "analytic_high")):
        if low in row and not (math.isnan(row[low]) and math.isnan(row[high])):
            return f"[{number(row[low], signed)}, {number(row[high], signed)}]"
    return ""


def cell(row: Row | None, signed: bool = False) -> str:
    """A figure and its interval, in one line."""
    return "–" if row is None else f"{number(row['value'], signed)} {limits(row, signed)}".strip()


def p_text(p: float) -> str:
    """Three decimals, as journals want them."""
    if math.isnan(p):
        return "–"
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def share(part: float, whole: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def percent(value: float) -> str:
    """0.95 as 95 %."""
    return f"{100 * value:.4g} %"


def counted(n: int, thing: str) -> str:
    """1 patient, 2 patients; thousands set off by a thin space that no line breaks at."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}".replace(",", "\u202f")


def chunks(names: Sequence[str], most: int) -> list[list[str]]:
    """As few lists as have at most `most` names, of about the same length."""
    count = -(-len(names) // most)
    size = -(-len(names) // max(count, 1))
    return [list(names[at : at + size]) for at in range(0, len(names), max(size, 1))]


def joined(words: Sequence[str]) -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
