"""The files of a report: report.html, metrics.json, a CSV file a table, tables.tex."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmcli.evaluation.reporting import latex
from mmcli.evaluation.reporting.html import Picture, render
from mmcli.evaluation.reporting.methods import versions
from mmcli.evaluation.reporting.summary import asked, summarise
from mmcli.evaluation.result import CLASSES, COMPARISONS, CONFORMAL, METRICS, SUBGROUPS, WITHHELD, Result

TABLES = {
    "metrics": METRICS, "classes": CLASSES, "comparisons": COMPARISONS, "subgroups": SUBGROUPS, "conformal": CONFORMAL,
    "withheld": WITHHELD,
}  # fmt: skip
REPORT, METRICS_FILE, LATEX = "report.html", "metrics.json", "tables.tex"
# run.json of every run has who is in which fold; with many patients that is most of it.
LEFT_OUT = ("fold_assignment",)


def write_report(folder: Path, result: Result, pictures: Sequence[Picture] = ()) -> None:
    """Write everything into an existing folder; a table without rows has no file, but metrics.csv is always there.

    The same result gives the same bytes.
    """
    content = json.dumps(as_json(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / METRICS_FILE).write_text(content, encoding="utf-8")
    for name, columns in TABLES.items():
        frame: pd.DataFrame = getattr(result, name)
        if len(frame) or name == "metrics":
            # repr of a float is the shortest text that reads back as the same number
            frame.reindex(columns=columns).to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    (folder / LATEX).write_text(latex.tables(result), encoding="utf-8")
    (folder / REPORT).write_text(render(result, pictures), encoding="utf-8")


def as_json(result: Result) -> dict[str, Any]:
    """Everything that was found, as JSON values; what is undefined is null. Keys and rows keep their order."""
    how = asked(result)
    about = {k: v for k, v in result.about.items() if k not in ("request", "inputs", "summary")}
    content = {
        "versions": versions(),
        "request": result.about.get("request", {}),
        "split": how.split,
        "bootstrap": None if not how.bootstrap else {
            "unit": how.cluster or "patient", "interval": how.kind, "resamples": how.resamples,
            "confidence": how.confidence, "seed": how.seed, "stratified": how.stratify,
        },
        "summary": summarise(result).as_json(),
        **{name: _rows(getattr(result, name), columns) for name, columns in TABLES.items()},
        "notes": list(result.notes),
        "inputs": _small(result.about.get("inputs", {})),
        "about": about,
    }  # fmt: skip
    plain = _plain(content)
    assert isinstance(plain, dict)
    return plain


def from_json(content: dict[str, Any]) -> Result:
    """The result that `as_json` wrote, without the predictions."""
    frames = {name: pd.DataFrame(content.get(name) or [], columns=columns) for name, columns in TABLES.items()}
    about = {**content.get("about", {}), **{k: content[k] for k in ("request", "inputs", "summary") if k in content}}
    return Result(**frames, notes=list(content.get("notes", [])), about=about)


def _rows(frame: pd.DataFrame, columns: list[str]) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in frame.reindex(columns=columns).to_dict("records")]


def _small(inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {
            key: {k: v for k, v in value.items() if k not in LEFT_OUT} if isinstance(value, dict) else value
            for key, value in given.items()
        }
        for name, given in inputs.items()
    }


def _plain(value: Any) -> Any:
    """As JSON knows it: numbers of numpy's become Python's, what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return [_plain(v) for v in value.tolist()]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
