"""The confusion matrix of a run."""

from __future__ import annotations

import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from mmcli.evaluation.figures.style import COLOURS, COLUMN_IN, LOOK, PAGE_IN, SMALL, Canvas, clean, fit, names, width_in
from mmcli.evaluation.predictions import Predictions
from mmcli.metrics.metric import decide


def draw_confusion(predictions: Predictions) -> Canvas:
    """Patients by class (rows) and decision (columns): numbers, and their share of the row as a shade.

    A page wide where a column has no room for the numbers; of so many classes that a page has none, shades alone.
    """
    with matplotlib.rc_context(LOOK):
        k = len(predictions.classes)
        decided = decide(predictions.answers("decisions"))
        matrix = np.bincount(predictions.y * k + decided, minlength=k * k).reshape(k, k)
        totals = matrix.sum(axis=1, keepdims=True)
        share = np.divide(matrix, totals, out=np.zeros((k, k)), where=totals > 0)
        shares = k <= 5
        widest = f"{matrix.max():.0f}" if k > 5 else max(f"{matrix.max():.0f}", "100%", key=len)
        room = width_in(widest, SMALL) + 0.05
        for wide, for_names in ((COLUMN_IN, 0.95), (PAGE_IN, 1.6)):
            short, said = names(predictions.classes, for_names, 7.0)
            longest = max(width_in(c, 7.0) for c in short)
            margin = max(longest, 0.45) + 0.32
            cell = (wide - margin - 0.1) / k
            if cell >= room:
                break
        turned = longest > cell - 0.04
        below = 0.3 + (0.72 * longest if turned else 0.15)
        high = 0.3 + cell * k + below
        figure = Canvas(figsize=(wide, high))
        axes = figure.add_axes((margin / wide, below / high, cell * k / wide, cell * k / high))
        shades = LinearSegmentedColormap.from_list("mmcli", ["#FFFFFF", COLOURS[0]])
        axes.imshow(share, cmap=shades, vmin=0, vmax=1, aspect="auto")
        if cell >= room:
            size = 8.0 if cell > 0.55 else 7.0 if cell > 0.4 else SMALL
            for i, j in np.ndindex(k, k):
                text = f"{matrix[i, j]:.0f}\n{share[i, j]:.0%}" if shares else f"{matrix[i, j]:.0f}"
                axes.text(j, i, text, ha="center", va="center", fontsize=size, color="w" if share[i, j] > 0.6 else "k")
        beside = [f"{c}\n(n = {t:.0f})" if cell > 0.3 else c for c, t in zip(short, totals[:, 0], strict=True)]
        every = math.ceil(0.13 / cell)  # names where there is a line's room
        direction: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if turned else {}
        axes.set_xticks(range(0, k, every), short[::every], **direction)
        axes.set_yticks(range(0, k, every), beside[::every])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.text((margin + cell * k / 2) / wide, 0.06 / high, "Predicted", ha="center")
        figure.text(0.02 / wide, (below + cell * k / 2) / high, "Label", va="center", rotation=90)
        figure.text(0.5, (high - 0.2) / high, fit(predictions.title, wide - 0.2, 8.0), ha="center")
        figure.caption = (
            f"{clean(predictions.title)}: patients by label (rows) and decision (columns); the shade is the share of "
            f"the row{'' if cell >= room else ', white none and blue all'}.{said}"
        )
        return figure
