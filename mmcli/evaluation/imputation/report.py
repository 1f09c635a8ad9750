"""The benchmark's files: benchmark.csv, benchmark.json, the figures, and report.html, which needs no network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mmcli.evaluation.figures import Canvas, as_svg, draw_forest, save
from mmcli.evaluation.imputation.benchmark import BASELINE, COLUMNS, RAW, Benchmark
from mmcli.evaluation.imputation.density import Panel, draw_densities
from mmcli.evaluation.imputation.hiding import WAYS
from mmcli.evaluation.imputation.missingness import draw_missingness
from mmcli.evaluation.imputation.text import (
    EXPLAINED,
    NO_RANKING,
    SHOWN,
    figure,
    of_task,
    overall,
    what_was_hidden,
)  # fmt: skip
from mmcli.evaluation.reporting.elements import (
    Html,
    Rows,
    details,
    element,
    figures,
    heading,
    image,
    join,
    paragraph,
    paragraphs,
    table,
    text,
)  # fmt: skip
from mmcli.evaluation.reporting.methods import versions
from mmcli.evaluation.reporting.shown import percent
from mmcli.evaluation.reporting.style import CSS

CONTENT, CSV, REPORT, SECONDS = "benchmark.json", "benchmark.csv", "report.html", "seconds.csv"
MORE = {
    "RMSE, sd": ("rmse", "mean", False), "MAE of means": ("mae", "mean", True), "W1 of means": ("w1", "mean", True),
    "KS of draws": ("ks", "draw", False), "KS of means": ("ks", "mean", False),
    "correlations, draws": ("correlation", "draw", False), "correlations, means": ("correlation", "mean", False),
    "accuracy": ("accuracy", "mean", False),
}  # fmt: skip
OFF_SCALE = 1.5  # an RMSE ratio above which a method would squeeze the others' rows of the forest plot together
READ = (
    "Of each fold, a fifth of the observed cells of training and test patients were hidden; each method was fitted on "
    "what the training patients still show, and filled the test patients' cells. No label is an input.",
    "One answer cannot win all measures: squared error wants means, absolute error medians, and a distance of "
    "distributions wants draws. Each measure is of the answer that it wants; the others are in benchmark.csv.",
    "Hidden by the cell's own value, high cells are missing more often than low ones and nothing in the table tells "
    "so: expect every method to be worse there.",
)


def write_report(folder: Path, result: Benchmark, request: Mapping[str, Any], confidence: float) -> None:
    """Write everything into an existing folder. All files but seconds.csv are the same for the same request."""
    result.table.to_csv(folder / CSV, index=False, lineterminator="\n")
    content = {
        "versions": versions(),
        "request": dict(request),
        "methods": result.methods,
        "hidden": what_was_hidden(result),
        "notes": result.notes,
        "rows": [_plain(r) for r in result.table.to_dict("records")],
    }
    (folder / CONTENT).write_text(
        json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    seconds = pd.DataFrame(
        {"method": list(result.seconds), "cpu_seconds": [round(s, 2) for s in result.seconds.values()]}
    )
    seconds.to_csv(folder / SECONDS, index=False, lineterminator="\n")
    pictures = []
    for name, canvas, alt in _draw(result, confidence):
        save(canvas, folder / name)
        pictures.append(image(as_svg(canvas), f"{canvas.caption} {name}.png, .pdf", alt))
    (folder / REPORT).write_text(_page(result, request, confidence, pictures), encoding="utf-8")


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    return {str(k): None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def from_content(content: Mapping[str, Any]) -> pd.DataFrame:
    """The table of a benchmark.json."""
    found: pd.DataFrame = pd.DataFrame(content["rows"], columns=COLUMNS)
    return found


def _draw(result: Benchmark, confidence: float) -> list[tuple[str, Canvas, str]]:
    """Every figure with its name and its text for those who cannot see it."""
    drawn = []
    forest = _forest(result)
    errors = forest[forest["metric"] == "rmse"].groupby("name")["value"].min()
    far = [str(m) for m in errors[errors > OFF_SCALE].index]
    forest = forest[~forest["name"].isin(far)]
    if len(forest):
        titles = {"rmse": "RMSE / mean's", "mae": "MAE / mean's", "w1": "W1 / mean's"}
        titles = {m: t for m, t in titles.items() if m in set(forest["metric"])}
        canvas = draw_forest(forest, titles, "", confidence)
        canvas.caption += f" Off the scale: {', '.join(far)}." if far else ""
        drawn.append(("forest", canvas, "Ratios to mean/mode, as in the tables"))
    plan = result.plan
    drawn.append(("missingness", draw_missingness(plan.table.observed, plan.columns.names),
                  "Which cells are missing, and which columns lack patients together"))  # fmt: skip
    for way, hidden in result.hidden.items():
        panels = []
        for j, (column, kind) in enumerate(zip(plan.columns.names, plan.columns.kinds, strict=True)):
            cells = hidden.column == j
            if cells.sum() > 1:
                made = {m: values[cells] for m, values in result.drawn[way].items()}
                categories = plan.columns.categories.get(column, [])
                observed = plan.table.values[plan.table.observed[:, j], j]
                panels.append(Panel(column, kind, categories, observed, hidden.truth[cells], made))
        for page, canvas in enumerate(draw_densities(panels, "a single draw each"), 1):
            canvas.caption = f"Hidden {WAYS[way]}. {canvas.caption}"
            drawn.append((f"densities-{way}-{page}", canvas, f"Densities of the cells hidden {WAYS[way]}, page {page}"))
    return drawn


def _forest(result: Benchmark) -> pd.DataFrame:
    rows = []
    for way in result.hidden:
        for method in [m for m in result.methods if m != BASELINE]:
            for measure, answer, _ in (SHOWN[h] for h in ("RMSE", "MAE", "W1")):
                row = overall(result.table, way, method, measure, answer)
                if row is not None:
                    rows.append((method, f"hidden {WAYS[way]}", measure, *(row[c] for c in COLUMNS[-3:])))
    found: pd.DataFrame = pd.DataFrame(rows, columns=["name", "heading", "metric", "value", "low", "high"])
    return found


def _page(result: Benchmark, request: Mapping[str, Any], confidence: float, pictures: list[Html]) -> str:
    title = f"Imputers on the table {request['table']}"
    level = f"{percent(confidence)} intervals over {request['resamples']} resamples of the patients"
    body = [
        heading(1, title),
        paragraph(f"{len(result.plan.ids):,} patients, {len(result.plan.columns.names)} columns, "
                  f"{(~result.plan.table.observed).mean():.1%} of the cells missing; fold set {request['folds']}."),
        paragraphs([*READ, *what_was_hidden(result), f"All figures with {level}, paired over methods."]),
    ]  # fmt: skip
    for way in result.hidden:
        body.append(
            element(
                "section",
                join(
                    [
                        heading(2, f"Hidden {WAYS[way]}"),
                        _table(result, way, SHOWN, EXPLAINED),
                        details("More measures", _table(result, way, MORE, MORE_EXPLAINED)),
                        details("Every column", join(_columns(result, way))),
                    ]
                ),
            )
        )
    if result.plan.labels:
        body.append(heading(2, "A classifier after it"))
        body.append(paragraph(NO_RANKING))
        body += [_auc(result, task) for task in result.plan.labels]
    body += [heading(2, "Figures"), element("div", join(pictures), _class="figures"), heading(2, "Notes"),
             paragraphs(result.notes or ["None."]), _files(result)]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{CSS}</style></head>\n<body>\n<main>\n{join(body)}\n</main>\n</body></html>\n"
    )


BY_COLUMN = (
    ("rmse", "mean", True, "RMSE of numeric columns, ratio to mean"),
    ("mae", "median", True, "MAE of medians of numeric columns, ratio to mean"),
    ("w1", "draw", True, "W1 of draws of numeric columns, ratio to mean"),
    ("coverage", "draw", False, "Coverage of draws' 90 % intervals"),
    ("balanced_accuracy", "mean", False, "Balanced accuracy of coded columns"),
)
MORE_EXPLAINED = (
    "RMSE in units of the training sd; MAE and W1 of point answers as ratios to mean/mode; KS (Kolmogorov-Smirnov) "
    "distance between imputed and true cells; correlations: mean absolute change of the correlation matrix of numeric "
    "and ordinal columns; accuracy of categories."
)


def _cell(row: dict[str, Any] | None, relative: bool) -> Html:
    value, limits = figure(row, relative)
    return figures(value or "–", f"[{limits.replace('–', ', ')}]" if limits else "")


def _table(result: Benchmark, way: str, shown: Mapping[str, tuple[str, str, bool]], caption: str) -> Html:
    rows = Rows()
    for method in result.methods:
        cells = [_cell(overall(result.table, way, method, m, a), relative) for m, a, relative in shown.values()]
        rows.add(method, *cells)
    return table(caption, ["Method", *shown], rows)


def _columns(result: Benchmark, way: str) -> list[Html]:
    """The main measures of each column, all methods."""
    found = []
    for measure, answer, relative, caption in BY_COLUMN:
        own = result.table[(result.table["way"] == way) & (result.table["measure"] == measure)
                           & (result.table["answer"] == answer) & (result.table["column"] != "")]  # fmt: skip
        index = {(str(r["column"]), str(r["method"])): r for r in own.to_dict("records")}
        rows = Rows()
        for column in dict.fromkeys(c for c, _ in index):
            cells = [_cell(_text_keys(index.get((column, m))), relative) for m in result.methods]
            rows.add(column, *cells, below=f"{index[column, result.methods[0]]['cells']} cells")
        found.append(table(caption, ["Column", *result.methods], rows))
    return found


def _text_keys(row: Mapping[Any, Any] | None) -> dict[str, Any] | None:
    return None if row is None else {str(k): v for k, v in row.items()}


def _auc(result: Benchmark, task: str) -> Html:
    rows = Rows()
    for way in result.hidden:
        rows.group(f"hidden {WAYS[way]}")
        rows.add(RAW, _cell(of_task(result.table, way, RAW, task), False), figures(""), figures(""))
        for method in result.methods:
            against = [_cell(of_task(result.table, way, method, task, a), True) for a in (BASELINE, RAW)]
            if method == BASELINE:
                against[0] = figures("")
            rows.add(
                f"{method}, then logistic regression", _cell(of_task(result.table, way, method, task), False), *against
            )
    caption = (
        f"AUC of {task} on test patients (mean over folds), and its difference to that after mean/mode and to boosting."
    )
    return table(caption, ["", "AUC", "minus mean", "minus boosting"], rows)


def _files(result: Benchmark) -> Html:
    return join([
        heading(2, "Files"),
        paragraph("Beside this page: benchmark.csv (every figure of every column, long form), benchmark.json, the "
                  "figures as PNG and PDF, and seconds.csv (CPU time of fitting and filling).", "note"),
    ])  # fmt: skip
