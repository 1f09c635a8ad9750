"""The pictures of a comparison: a journal column wide, told apart by people who do not see all colours."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas

from mmcli.evaluation.predictions import Predictions
from mmcli.evaluation.roc import macro_roc
from mmcli.metrics.metric import confusion

COLUMN_IN = 3.5
# Okabe and Ito, Color Universal Design (2008), without the yellow that white paper swallows; then again, dashed.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")
LOOK = {
    "font.size": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "mmcli",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}
NO_DATES: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}


def draw_roc(runs: Sequence[tuple[Predictions, str]]) -> Canvas:
    """One curve a run, given with the text of its AUC; a run in which a class has no patients has none."""
    with matplotlib.rc_context(LOOK):
        # The axes stay square under a legend as long as there are runs.
        side = COLUMN_IN - 0.75
        height = 0.15 + side + 0.45 + 0.152 * (len(runs) + 1)
        figure = Canvas(figsize=(COLUMN_IN, height))
        axes = figure.add_axes((0.55 / COLUMN_IN, (height - side - 0.15) / height, side / COLUMN_IN, side / height))
        axes.plot([0, 1], [0, 1], color="0.75", linewidth=0.6, zorder=0)
        for i, (predictions, text) in enumerate(runs):
            curve = macro_roc(predictions.y, predictions.p)
            label = f"{plain(predictions.title, 34)}  {text}"
            false, true = curve if curve is not None else (np.empty(0), np.empty(0))
            axes.plot(
                false,
                true,
                color=COLOURS[i % len(COLOURS)],
                linestyle=STYLES[i // len(COLOURS) % len(STYLES)],
                linewidth=1.2,
                label=label,
                clip_on=False,
            )
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))
        classes = runs[0][0].classes
        if len(classes) == 2:
            axes.set(xlabel="1 − specificity", ylabel="Sensitivity")
        else:
            axes.set(xlabel="False positive rate", ylabel="True positive rate, mean of classes")
        figure.legend(
            title="AUC",
            title_fontsize=7.0,
            alignment="left",
            loc="lower left",
            bbox_to_anchor=(0.45 / COLUMN_IN, 0.0),
            frameon=False,
            handlelength=2.2,
            borderaxespad=0.2,
        )
        return figure


def draw_confusion(predictions: Predictions) -> Canvas:
    """Patients by class (rows) and decision (columns): numbers, and their share of the row as a shade."""
    with matplotlib.rc_context(LOOK):
        matrix = confusion(predictions.y, predictions.p, np.ones((1, len(predictions.y))))[0]
        totals = matrix.sum(axis=1, keepdims=True)
        share = np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
        classes = [plain(c, 18) for c in predictions.classes]
        k = len(classes)
        figure = Canvas(figsize=(COLUMN_IN, COLUMN_IN * 0.9), layout="constrained")
        axes = figure.add_subplot()
        shades = LinearSegmentedColormap.from_list("mmcli", ["#FFFFFF", COLOURS[0]])
        axes.imshow(share, cmap=shades, vmin=0, vmax=1)
        size = 8.0 if k <= 4 else max(3.5, 32.0 / k)
        for i, j in np.ndindex(k, k):
            text = f"{matrix[i, j]:.0f}\n{share[i, j]:.0%}" if k <= 6 else f"{matrix[i, j]:.0f}"
            axes.text(j, i, text, ha="center", va="center", fontsize=size, color="w" if share[i, j] > 0.6 else "k")
        names = [f"{c}\n(n = {t:.0f})" if k <= 6 else c for c, t in zip(classes, totals[:, 0], strict=True)]
        long = max(map(len, classes)) * k > 40
        axes.set_xticks(range(k), classes, rotation=35 if long else 0, ha="right" if long else "center")
        axes.set_yticks(range(k), names)
        axes.set(xlabel="Predicted", ylabel="Label")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.suptitle(plain(predictions.title, 60), fontsize=8)
        return figure


def save(figure: Canvas, stem: Path) -> list[Path]:
    """Write <stem>.png (300 dpi) and <stem>.pdf."""
    paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".pdf")]
    with matplotlib.rc_context(LOOK):
        for path in paths:
            FigureCanvasAgg(figure)
            figure.savefig(path, dpi=300, metadata=NO_DATES[path.suffix[1:]])
    return paths


def as_svg(figure: Canvas) -> bytes:
    """The figure as an SVG file's bytes."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(LOOK):
        figure.savefig(buffer, format="svg", metadata=NO_DATES["svg"])
    return buffer.getvalue()


def plain(text: str, longest: int) -> str:
    """A name for a figure: never read as mathematics ($), cut in the middle where it is too long."""
    if len(text) > longest:
        half = (longest - 1) // 2
        text = f"{text[:half]}…{text[-half:]}"
    return text.replace("$", r"\$")


def file_names(stems: Sequence[str]) -> list[str]:
    """Names that any file system takes, one for each stem and all different."""
    names: list[str] = []
    for stem in stems:
        clean = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:100] or "run"
        name, count = clean, 2
        while name.lower() in (n.lower() for n in names):
            name, count = f"{clean}-{count}", count + 1
        names.append(name)
    return names
