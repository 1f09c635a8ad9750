"""All pictures of an evaluation: drawn, saved as PNG and PDF, and handed to the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mmcli.evaluation.analysis import Question
from mmcli.evaluation.curves import Band, precision_recall_band, roc_band
from mmcli.evaluation.estimates import Resampler
from mmcli.evaluation.figures import (
    Canvas,
    as_svg,
    draw_confusion,
    draw_decision_curve,
    draw_forest,
    draw_precision_recall,
    draw_reliability,
    draw_risk_coverage,
    draw_roc,
    draw_withheld,
    file_names,
    save,
)
from mmcli.evaluation.predictions import Predictions
from mmcli.evaluation.reporting import Picture
from mmcli.evaluation.reporting.shown import cell, grouped, main_metrics, records, title
from mmcli.evaluation.result import Result
from mmcli.evaluation.selective import risk_coverage

FOREST = 3  # metrics in the forest plot
MOST_BANDS = 3


@dataclass
class Album:
    """A report's folder and the pictures that were saved into it; names are made different from one another."""

    folder: Path
    pictures: list[Picture] = field(default_factory=list)
    _stems: list[str] = field(default_factory=list)

    def add(self, stem: str, canvas: Canvas, alt: str, task: str = "") -> None:
        """Save a picture as `stem`.png and .pdf and keep it for the report."""
        self._stems.append(stem)
        name = file_names(self._stems)[-1]
        save(canvas, self.folder / name)
        caption = f"{canvas.caption} {name}.png, .pdf".strip()
        self.pictures.append(Picture(as_svg(canvas), caption, alt, task))


def draw_all(album: Album, result: Result, question: Question) -> None:
    """Every picture that predictions and the result's tables make."""
    for task in dict.fromkeys(p.task for p in result.predictions):
        group = [p for p in result.predictions if p.task == task]
        _draw_task(album, result, question, task, [p for p in group if p.main], group)


def _draw_task(
    album: Album, result: Result, question: Question, task: str, main: Sequence[Predictions],
    group: Sequence[Predictions],
) -> None:  # fmt: skip
    rows = grouped(records(result.metrics, task=task), "run", "variant")
    figures = [rows[p.run, p.variant] for p in main]
    texts = {m: [cell(f[m]) if m in f else "" for f in figures] for m in ("auc", "average_precision", "aurc")}
    said = "; ".join(f"{p.title}: AUC {text}" for p, text in zip(main, texts["auc"], strict=True))
    roc_bands, recall_bands = _bands(main, group, question)
    album.add(f"roc-{task}", draw_roc(list(zip(main, texts["auc"], strict=True)), roc_bands), said, task)
    album.add(
        f"precision-recall-{task}",
        draw_precision_recall(list(zip(main, texts["average_precision"], strict=True)), recall_bands),
        "; ".join(f"{p.title}: average precision {t}" for p, t in zip(main, texts["average_precision"], strict=True)),
        task,
    )
    table, titles = _forest(result, task, main[0])
    if len(table):
        forest = draw_forest(table, titles, question.reference or "", question.level)
        forest.caption = f"{', '.join(titles.values())} of all runs. {forest.caption}"
        album.add(
            f"forest-{task}",
            forest,
            f"{', '.join(titles.values())} of each run with intervals, as in the table",
            task,
        )
    for p, own in zip(main, figures, strict=True):
        slope = f"{title('calibration_slope')} {cell(own.get('calibration_slope'))}"
        album.add(f"confusion-{task}-{p.run}", draw_confusion(p), f"Confusion matrix of {p.title}", task)
        album.add(
            f"reliability-{task}-{p.run}",
            draw_reliability(p, slope, question.level),
            f"Reliability diagram of {p.title}",
            task,
        )
    if len(main[0].classes) == 2:
        album.add(f"decision-curve-{task}", draw_decision_curve(main), "Decision curves of all runs", task)
    curves = [(p.title, *risk_coverage(p.y, p.p), text) for p, text in zip(main, texts["aurc"], strict=True)]
    album.add(f"risk-coverage-{task}", draw_risk_coverage(curves), "Risk-coverage curves of all runs", task)
    _draw_withheld(album, result, task, main[0], question.level)


def _bands(
    main: Sequence[Predictions], group: Sequence[Predictions], question: Question
) -> tuple[list[Band | None], list[Band | None]]:
    """Of up to three runs, on the resamples that the figures have."""
    if question.bootstrap is None or len(main) > MOST_BANDS:
        return [], []
    resampler = Resampler.over(group, question.bootstrap, question.clusters)
    return (
        [roc_band(p.y, p.p, resampler.weights(p), question.level) for p in main],
        [precision_recall_band(p.y, p.p, resampler.weights(p), question.level) for p in main],
    )


def _forest(result: Result, task: str, first: Predictions) -> tuple[pd.DataFrame, dict[str, str]]:
    """The rows of the forest plot, limits by formula where there is no bootstrap; and its metrics with their titles."""
    rows = records(result.metrics, task=task)
    names = main_metrics(first.classes, first.ordinal, [r["metric"] for r in rows])
    chosen = [m for m in ("auc", "balanced_accuracy", "brier") if m in names][:FOREST]
    titles = {p.run: p.title for p in result.predictions if p.task == task}
    several = {(p.run, p.variant): p.title for p in result.predictions if p.task == task}
    frame = pd.DataFrame(
        [
            {"name": several.get((r["run"], r["variant"]), titles[r["run"]]), "metric": r["metric"],
             "value": r["value"],
             "low": r["low"] if r["interval"] else r["analytic_low"],
             "high": r["high"] if r["interval"] else r["analytic_high"]}
            for r in rows
            if r["metric"] in chosen
        ]
    )  # fmt: skip
    return frame, {m: title(m) for m in chosen}


def _draw_withheld(album: Album, result: Result, task: str, first: Predictions, level: float) -> None:
    rows = result.withheld[result.withheld["task"] == task]
    names: Mapping[str, None] = dict.fromkeys(rows["modality"])
    for modality in names:
        for metric in ("auc", "balanced_accuracy"):
            own = rows[(rows["modality"] == modality) & (rows["metric"] == metric)]
            if len(own):
                album.add(
                    f"withheld-{task}-{modality}-{metric}",
                    draw_withheld(own, modality, title(metric), level),
                    f"{title(metric)} while {modality} is withheld from more patients, as in the table",
                    task,
                )
