"""The page's tables of one task by groups of patients: subgroups, availability, withholding, conformal sets."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mmcli.evaluation.reporting.elements import Html, Rows, figures, heading, join, paragraph, paragraphs, table
from mmcli.evaluation.reporting.says import CONFORMAL, SUBGROUPS, pattern, worst
from mmcli.evaluation.reporting.sections import cell, heads, intervals
from mmcli.evaluation.reporting.shown import Row, grouped, limits, number, records, values, who
from mmcli.evaluation.reporting.summary import Asked, Task
from mmcli.evaluation.result import Result

PATTERNS = (
    "What each prediction rests on: the modalities that the run uses and the patient has. The patterns differ in their "
    "patients too, not only in what is there."
)


def subgroups(result: Result, task: Task, asked: Asked, shown: Sequence[str]) -> Html:
    """A table a column, the worst named; availability patterns last, under a heading of their own."""
    columns = values(result.subgroups[result.subgroups["task"] == task.name], "by")
    pieces = []
    if own := [c for c in columns if c != "modalities"]:
        pieces += [heading(3, "Subgroups"), paragraph(SUBGROUPS, "note")]
        pieces += [_subgroup(result, task, asked, shown, by) for by in own]
    if "modalities" in columns:
        pieces += [heading(3, "Availability patterns"), paragraph(f"{PATTERNS} {SUBGROUPS}", "note")]
        pieces.append(_subgroup(result, task, asked, shown, "modalities"))
    return join(pieces)


def _subgroup(result: Result, task: Task, asked: Asked, shown: Sequence[str], by: str) -> Html:
    found = records(result.subgroups, task=task.name, by=by)
    names = [m for m in shown if any(r["metric"] == m for r in found)]
    rows = Rows()
    runs = list(dict.fromkeys((r["run"], r["variant"]) for r in found))
    for run, variant in runs:
        rows.group(who(run, variant))
        own = [r for r in found if (r["run"], r["variant"]) == (run, variant)]
        for (value, n), row in grouped(own, "subgroup", "n").items():
            cells = [_marked(row.get(m)) for m in names]
            rows.add(pattern(by, value), figures(str(n)), *cells)
    what = "Figures by the modalities that a prediction rests on." if by == "modalities" else f"Figures by {by}."
    caption = f"{what} Bold: the run's worst.{intervals(asked, found)} All metrics are in subgroups.csv."
    head = "Modalities" if by == "modalities" else by
    return join([paragraphs(worst(result, task.name, by)), table(caption, [head, "n", *heads(names)], rows)])


def _marked(row: Row | None) -> Html:
    return cell(row, kind="worst", more="worst") if row is not None and row["worst"] else cell(row)


def conformal(result: Result, task: Task, asked: Asked) -> Html:
    """Coverage and size of the prediction sets, over all patients and by subgroup."""
    found = records(result.conformal, task=task.name)
    if not found:
        return Html("")
    rows = Rows()
    for run, variant in dict.fromkeys((r["run"], r["variant"]) for r in found):
        rows.group(who(run, variant))
        for r in found:
            if (r["run"], r["variant"]) == (run, variant):
                rows.add(
                    "All patients" if not r["by"] else pattern(r["by"], r["subgroup"]),
                    figures(str(r["n"])),
                    figures(number(r["level"])),
                    figures(number(r["coverage"]), limits(r)),
                    *[figures(number(r[c])) for c in ("size", "single", "empty")],
                    below="" if not r["by"] else r["by"],
                )
    interval = f" In brackets {asked.level} intervals." if any(not math.isnan(r["low"]) for r in found) else ""
    caption = f"Prediction sets: share of patients whose set holds their class, and how large sets are.{interval}"
    names = ["Patients", "n", "Made for", "Coverage", "Classes a set", "Sets of one class", "Empty sets"]
    return join([heading(3, "Conformal prediction sets"), paragraph(CONFORMAL, "note"), table(caption, names, rows)])


def withheld(result: Result, task: Task, asked: Asked, shown: Sequence[str]) -> Html:
    """Figures after a share of the patients lost a modality."""
    found = records(result.withheld, task=task.name)
    if not found:
        return Html("")
    names = [m for m in shown if any(r["metric"] == m for r in found)]
    rows = Rows()
    for run, modality in dict.fromkeys((r["run"], r["modality"]) for r in found):
        rows.group(f"{run} without {modality}")
        own = [r for r in found if (r["run"], r["modality"]) == (run, modality)]
        for (share, n, seeds), row in grouped(own, "share", "n", "seeds").items():
            cells = []
            for m in names:
                r = row.get(m)
                spread = "" if r is None or math.isnan(r["sd_seeds"]) else f"± {number(r['sd_seeds'])}"
                cells.append(cell(r, more=spread))
            rows.add(f"{100 * share:.4g} %", figures(str(n)), figures(str(seeds)), *cells)
    whom = "completely at random"
    if asked.withhold_by:
        whom = (
            "whole groups at a time"
            if asked.withhold_by == "group"
            else f"likelier at high values of {asked.withhold_by}"
        )
    caption = (
        f"Predicted again from each run's weights, the modality hidden from a share of the patients ({whom}; the same "
        f"patients for every run). Mean over the seeds of who is hidden, ± their standard deviation."
        f"{intervals(asked, found)} All metrics are in withheld.csv."
    )
    return join([heading(3, "Missing modalities"), table(caption, ["Hidden from", "n", "Seeds", *heads(names)], rows)])
