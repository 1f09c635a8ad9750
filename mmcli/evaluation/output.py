"""The files of a report's directory."""

from __future__ import annotations

import csv
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmcli import __version__
from mmcli.evaluation.compare import Bootstrap, Difference, Figure
from mmcli.evaluation.figures import as_svg, draw_confusion, draw_roc, file_names, save
from mmcli.evaluation.predictions import Predictions
from mmcli.evaluation.report import Picture, TaskSection, limits, number, percent, render
from mmcli.evaluation.sources import Inputs

LIBRARIES = ("numpy", "pandas", "matplotlib")


@dataclass(frozen=True)
class Evaluated:
    """All that one evaluation asked, read and found."""

    request: dict[str, Any]
    inputs: Inputs
    predictions: Sequence[Predictions]
    figures: Sequence[Figure]
    differences: Sequence[Difference]
    bootstrap: Bootstrap | None
    split: str


def write_all(folder: Path, found: Evaluated) -> None:
    """Write metrics.json, metrics.csv, the pictures and report.html into an existing folder."""
    content, inputs, bootstrap = as_json(found), found.inputs, found.bootstrap
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    _write_csv(folder / "metrics.csv", content)
    sections = []
    for task in inputs.tasks:
        own = [p for p in found.predictions if p.task == task]
        sections.append(
            TaskSection(
                task,
                own[0].classes,
                _task_text(own, bootstrap, [f for f in found.figures if f.task == task]),
                [f for f in found.figures if f.task == task],
                [d for d in found.differences if d.task == task],
                _draw(folder, task, own, found.figures),
            )
        )
    names = inputs.names
    title = f"Evaluation of {names[0]}" if len(names) == 1 else f"Comparison of {len(names)} runs"
    (folder / "report.html").write_text(
        render(
            title,
            _summary(inputs, found.predictions, bootstrap, found.split),
            sections,
            bootstrap,
            _facts(inputs, bootstrap),
        ),
        encoding="utf-8",
    )


def as_json(found: Evaluated) -> dict[str, Any]:
    """Everything that was found, as JSON values; what is undefined is null."""
    bootstrap = found.bootstrap
    return {
        "mmcli_version": __version__,
        "request": found.request,
        "split": found.split,
        "runs": [
            {
                "run": p.run, "variant": p.variant, "task": p.task, "classes": list(p.classes), "n": len(p.ids),
                "per_class": {c: int((p.y == k).sum()) for k, c in enumerate(p.classes)},
                "unlabelled": p.unlabelled, "parts": [part.name for part in p.parts],
                "missing_parts": list(p.missing_parts),
            }
            for p in found.predictions
        ],
        "bootstrap": None if bootstrap is None else {
            "unit": "patient", "interval": "percentile", "resamples": bootstrap.resamples,
            "confidence": bootstrap.confidence, "seed": bootstrap.seed,
        },
        "metrics": [
            {
                "run": f.run, "variant": f.variant, "task": f.task, "metric": f.metric, "n": f.n,
                "value": _finite(f.value), **_limits(f),
                "mean": _finite(f.mean), "sd": _finite(f.sd), "parts": f.parts,
            }
            for f in found.figures
        ],
        "differences": [
            {
                "run": d.run, "variant": d.variant, "reference": d.reference, "task": d.task, "metric": d.metric,
                "n": d.n, "value": _finite(d.value), **_limits(d),
            }
            for d in found.differences
        ],
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _limits(figure: Figure | Difference) -> dict[str, Any]:
    if figure.interval is None:
        return {"low": None, "high": None, "undefined": None}
    interval = figure.interval
    return {"low": _finite(interval.low), "high": _finite(interval.high), "undefined": interval.undefined}


def _write_csv(path: Path, content: dict[str, Any]) -> None:
    columns = ["run", "variant", "task", "metric", "reference", "n", "value", "low", "high", "undefined", "mean", "sd",
               "parts"]  # fmt: skip
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*content["metrics"], *content["differences"]])


def _draw(folder: Path, task: str, own: Sequence[Predictions], figures: Sequence[Figure]) -> list[Picture]:
    """The ROC curves of all runs' main variants, and a confusion matrix of each."""
    main = [p for p in own if p.main]
    auc = {(f.run, f.variant): f for f in figures if f.task == task and f.metric == "auc"}
    texts = [f"{number(a.value)} {limits(a)}".strip() for p in main for a in [auc[p.run, p.variant]]]
    names = file_names([f"roc-{task}", *[f"confusion-{task}-{p.run}" for p in main]])
    roc = draw_roc(list(zip(main, texts, strict=True)))
    save(roc, folder / names[0])
    of_what = f"of {main[0].classes[1]}" if len(main[0].classes) == 2 else "mean of each class against the rest"
    said = "; ".join(f"{p.title}: AUC {text}" for p, text in zip(main, texts, strict=True))
    pictures = [Picture(as_svg(roc), f"ROC curves ({of_what}), with the AUC. {names[0]}.png, .pdf", said)]
    for p, name in zip(main, names[1:], strict=True):
        figure = draw_confusion(p)
        save(figure, folder / name)
        caption = f"{p.title}: patients by label and decision, and their share of the row. {name}.png, .pdf"
        pictures.append(Picture(as_svg(figure), caption, f"Confusion matrix of {p.title}"))
    return pictures


def _summary(inputs: Inputs, predictions: Sequence[Predictions], bootstrap: Bootstrap | None, split: str) -> list[str]:
    patients = len({i for p in predictions for i in p.ids})
    said = [f"{', '.join(inputs.names)}: compared on {patients} patients of the {split} split."]
    if bootstrap:
        said.append(
            f"Intervals are the central {percent(bootstrap)} of {bootstrap.resamples} bootstrap resamples of "
            f"whole patients (percentile method, seed {bootstrap.seed}). All runs and metrics share the resamples, so "
            "that a difference of two runs is a paired one. They say how the figures vary with the patients, not with "
            "the training."
        )
    said.append(
        "A pooled figure takes each patient once, with the average of the probabilities of all parts that have the "
        "patient in this split. The decision is the likeliest class; no threshold was tuned."
    )
    return said


def _task_text(own: Sequence[Predictions], bootstrap: Bootstrap | None, figures: Sequence[Figure]) -> list[str]:
    classes = own[0].classes
    said = [f"Classes: {', '.join(classes)}."]
    if len(classes) == 2:
        said[0] += f" AUC, sensitivity, specificity and Brier score are those of {classes[1]}."
    labels = {i: k for p in own for i, k in zip(p.ids, p.y, strict=True)}
    numbers = [sum(v == k for v in labels.values()) for k in range(len(classes))]
    said[0] += " Patients: " + ", ".join(f"{c} {m}" for c, m in zip(classes, numbers, strict=True)) + "."
    if len({tuple(p.ids) for p in own}) > 1:
        said.append("The runs have different patients. Their figures are on their own, differences on common ones.")
    main = [p for p in own if p.main]
    if any(p.unlabelled for p in main):
        each = {p.unlabelled for p in main}
        many = str(each.pop()) if len(each) == 1 else ", ".join(f"{p.unlabelled} in {p.run}" for p in main)
        said.append(f"Patients without a label, left out: {many}.")
    said += [f"{p.run}: not finished, {len(p.missing_parts)} parts are missing." for p in main if p.missing_parts]
    if len(classes) == 2:
        said.append(
            "Of two classes, macro sensitivity and macro specificity both equal balanced accuracy; they are in "
            "metrics.csv. The Brier score of always saying one half is 0.25."
        )
    if bootstrap:
        odd = [f for f in figures if f.interval and f.interval.undefined]
        if odd:
            worst = max(odd, key=lambda f: f.interval.undefined if f.interval else 0)
            count = worst.interval.undefined if worst.interval else 0
            said.append(
                f"In up to {count} of {bootstrap.resamples} resamples a metric was undefined ({worst.title}: a class "
                "was not drawn); its interval is over the others. metrics.json counts them for each."
            )
    return said


def _facts(inputs: Inputs, bootstrap: Bootstrap | None) -> dict[str, str]:
    facts = {"mmcli": __version__, "Python": platform.python_version()}
    facts |= {name: version(name) for name in LIBRARIES}
    if bootstrap:
        facts["Resampling"] = (
            f"{bootstrap.resamples} resamples of patients, seed {bootstrap.seed}, level {percent(bootstrap)}"
        )
    for name in inputs.names:
        about = inputs.about[name]
        if "table" in about:
            facts[name] = f"table of predictions {about['table']}"
        else:
            facts[name] = "; ".join(
                f"{key} {', '.join(map(str, value)) if isinstance(value, list) else value}"
                for key in ("stage", "method", "modalities", "fold_set", "folds", "seeds", "mmcli_version")
                if (value := about.get(key)) is not None
            )
    return facts
