"""`mmcli evaluate`: compare runs, with metrics, intervals, figures and a report."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from mmcli.errors import RequestError
from mmcli.evaluation.compare import Bootstrap, compare
from mmcli.evaluation.output import Evaluated, as_json, write_all
from mmcli.evaluation.predictions import check_same_patients_and_classes
from mmcli.evaluation.report import SHOWN_BY, number
from mmcli.evaluation.sources import Inputs, load, unique_names
from mmcli.files import partial_name, sync_directory
from mmcli.progress import note
from mmcli.settings import EvaluateSettings
from mmcli.stages.outcome import Outcome, is_done, refuse_input, remove

# The terminal's two tables, each less than 100 columns wide: these with their intervals, the rest without. The files
# have every metric with its interval.
FIRST = ("auc", "balanced_accuracy", "brier")
COLUMNS = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "sensitivity_macro",
           "specificity_macro", "f1_macro", "f1_micro", "brier")  # fmt: skip
REPORT, METRICS_FILE = "report.html", "metrics.json"
OURS = ("metrics.", "report.html", "roc-", "confusion-")


def run(settings: EvaluateSettings) -> Outcome:
    """Check the runs, compare them and write the report's directory as a whole.

    The outcome has a row a run, variant and task, and in its data the content of metrics.json and the report's path.
    """
    bootstrap = _bootstrap(settings)
    reference = _reference(settings)
    paths = [*settings.runs]
    if settings.reference is not None and reference is None:
        paths.append(settings.reference)
    predictions, inputs = load(paths, settings.label, settings.split, settings.partial)
    reference = reference or (inputs.names[-1] if settings.reference is not None else None)
    check_same_patients_and_classes(predictions)
    request = _request(settings, inputs, reference)
    out = settings.out
    refuse_input(out, paths)
    existing = _existing(out)
    report = out / REPORT
    if is_done(out, request, None if existing is None else existing.get("request"), settings.force):
        assert existing is not None
        message = f"{out} holds this evaluation already: nothing to do. Report: {report}"
        return Outcome(message, {**existing, "report": str(report)}, _rows(existing), tables=_tables(existing))
    if settings.dry_run:
        patients = len({i for p in predictions for i in p.ids})
        return Outcome(f"would compare {', '.join(inputs.names)} on {patients} patients and write {out}")
    for p in predictions:
        if p.main and p.missing_parts:
            note(f"{p.run}: {len(p.missing_parts)} parts are missing; evaluated on {len(p.parts)}", settings.quiet)
    figures, differences = compare(predictions, bootstrap, reference)
    found = Evaluated(request, inputs, predictions, figures, differences, bootstrap, settings.split)
    _publish(out, found)
    content = as_json(found)
    message = _said(content) + f"Report: {report}"
    return Outcome(message, {**content, "report": str(report)}, _rows(content), tables=_tables(content))


def _bootstrap(settings: EvaluateSettings) -> Bootstrap | None:
    if not 0 < settings.confidence < 1:
        raise RequestError(f"--confidence: lies between 0 and 1 (given: {settings.confidence}); 95 percent is 0.95")
    if settings.resamples < 1:
        raise RequestError(f"--resamples: at least 1 (given: {settings.resamples})")
    if not settings.runs:
        raise RequestError(f"RUN... is missing: give runs or tables. For example: {settings.example}")
    return Bootstrap(settings.resamples, settings.confidence, settings.seed) if settings.bootstrap_ci else None


def _reference(settings: EvaluateSettings) -> str | None:
    """The reference's name among the runs, None where there is none or it is not among them."""
    if settings.reference is None:
        return None
    wanted = settings.reference.resolve()
    for path, name in zip(settings.runs, unique_names(settings.runs), strict=True):
        if path.resolve() == wanted:
            return name
    return None


def _request(settings: EvaluateSettings, inputs: Inputs, reference: str | None) -> dict[str, Any]:
    return {**settings.request(), "label": list(inputs.tasks), "reference": reference, "runs": inputs.files}


def _existing(out: Path) -> dict[str, Any] | None:
    """metrics.json of the report that is there, None where there is nothing; what is no report is never replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        content = json.loads((out / METRICS_FILE).read_text(encoding="utf-8"))
        ours = isinstance(content["request"], dict) and isinstance(content["metrics"], list)
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise RequestError(f"{out}: is there and holds no report of mmcli's; give another --out")
    if foreign := [f.name for f in sorted(out.iterdir()) if not f.name.startswith(OURS)]:
        raise RequestError(f"{out}: holds {foreign[0]!r} beside the report; move it away, or give another --out")
    return dict(content)


def _publish(out: Path, found: Evaluated) -> None:
    """Make the directory beside its place and rename it there; an older one goes only when the new one is whole."""
    final = Path(os.path.abspath(out))  # noqa: PTH100  (resolve() would follow a link that the user put there)
    new = partial_name(final)
    old = final.with_name(f".{final.name}.{os.getpid()}.old")
    try:
        remove(new)
        new.mkdir(parents=True)
        write_all(new, found)
        for file in new.iterdir():
            with file.open("rb") as content:
                os.fsync(content.fileno())
        if final.exists():
            final.rename(old)
        new.rename(final)
        sync_directory(final.parent)
    except OSError as error:
        problem = error.strerror or error
        raise RequestError(f"{out}: cannot be written ({problem}); give another --out or make room") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists() and not final.exists():
            old.rename(final)
        shutil.rmtree(old, ignore_errors=True)


def _rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The terminal's table: a row a run, variant and task; only those columns in which a row has something."""
    from mmcli.metrics import METRICS

    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    known = {(m["task"], m["metric"]) for m in content["metrics"]}
    for m in content["metrics"]:
        row = rows.setdefault((m["task"], m["run"], m["variant"]), _first_columns(content, m))
        if m["metric"] in COLUMNS and (m["task"], SHOWN_BY.get(m["metric"])) not in known:
            row[METRICS.get(m["metric"]).title] = _cell(m)
    for d in content["differences"]:
        if d["metric"] == "auc":
            rows[d["task"], d["run"], d["variant"]][f"AUC minus {d['reference']}"] = _cell(d, signed=True)
    return list(rows.values())


def _tables(content: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The rows as tables that fit a terminal: the main metrics, differences, the rest; three a table with intervals."""
    from mmcli.metrics import METRICS

    rows = _rows(content)
    first = [METRICS.get(name).title for name in FIRST]
    metrics = [METRICS.get(name).title for name in COLUMNS]
    names = dict.fromkeys(name for row in rows for name in row)
    who = [n for n in names if n not in metrics and " minus " not in n]
    differences = [n for n in names if " minus " in n]
    rest = [n for n in metrics if n in names and n not in first]
    width = 3 if content["bootstrap"] else max(len(rest), 1)
    others = [rest[at : at + width] for at in range(0, len(rest), width)]
    picks = [first, differences, *others]
    return [[{n: row[n] for n in (*who, *pick) if n in row} for row in rows] for pick in picks if pick]


def _said(content: dict[str, Any]) -> str:
    """What must be known to read the tables."""
    said = []
    if bootstrap := content["bootstrap"]:
        level, resamples = f"{100 * bootstrap['confidence']:g} %", bootstrap["resamples"]
        said.append(f"In brackets: {level} intervals of {resamples} bootstrap resamples of the patients.")
    if any(len({r["n"] for r in content["runs"] if r["task"] == task}) > 1 for task in content["request"]["label"]):
        said.append("Compare rows on the same number of patients only: a variant answers for those who have what it")
        said.append(
            "needs, a run's first row for everyone, by the training prior where a patient has nothing it needs."
        )
    return "".join(f"{line}\n" for line in said)


def _first_columns(content: dict[str, Any], m: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"Run": m["run"]}
    if any(r["variant"] for r in content["runs"]):
        row["Variant"] = m["variant"]
    if len({r["task"] for r in content["runs"]}) > 1:
        row["Task"] = m["task"]
    return {**row, "Patients": m["n"]}


def _cell(m: dict[str, Any], signed: bool = False) -> str:
    if m["value"] is None:
        return "–"
    text = number(m["value"], signed)
    return text if m["low"] is None else f"{text} [{number(m['low'], signed)}, {number(m['high'], signed)}]"
