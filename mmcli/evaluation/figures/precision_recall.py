"""Precision-recall curves of runs."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np

from mmcli.evaluation.curves import Band, macro_precision_recall
from mmcli.evaluation.figures.layout import chance, labels, legend, line, panel, say_bands, shade, unit
from mmcli.evaluation.figures.style import LOOK, MOST_BANDS, Canvas, clean
from mmcli.evaluation.predictions import Predictions


def draw_precision_recall(runs: Sequence[tuple[Predictions, str]], bands: Sequence[Band | None] = ()) -> Canvas:
    """One step curve a run, given with the text of its average precision; none where a class has no patients.

    The grey line is the precision of treating everybody: the prevalence. `bands`, one a run or none at all, are those
    of `curves.precision_recall_band`, drawn for up to three runs.
    """
    with matplotlib.rc_context(LOOK):
        figure, axes = panel(len(runs) + 1)
        classes = runs[0][0].classes
        handles = []
        for i, (predictions, _) in enumerate(runs):
            curve = macro_precision_recall(predictions.y, predictions.p)
            recall, precision = curve if curve is not None else (np.empty(0), np.empty(0))
            # The steps' corners are written out, so that the curve can be thinned.
            steps = np.repeat(recall, 2)[:-1], np.repeat(precision, 2)[1:]
            handles.append(line(axes, i, len(runs), *steps))
            if bands and len(runs) <= MOST_BANDS:
                shade(axes, i, bands[i], step="pre")
        shares = sorted({round(_prevalence(p), 3) for p, _ in runs if len(p.y)})
        for share in shares:
            chance(axes, [0, 1], [share, share])
        unit(axes)
        texts, said = labels([p.title for p, _ in runs], [text for _, text in runs])
        legend(figure, handles, texts, "Average precision")
        if len(classes) == 2:
            axes.set(xlabel="Recall (sensitivity)", ylabel="Precision")
            of_what, grey = f"of {clean(classes[1])}", "the prevalence"
        else:
            axes.set(xlabel="Recall", ylabel="Precision, mean of classes")
            of_what, grey = "mean of each class against the rest", "the mean prevalence"
        each = ", ".join(f"{s:.3g}" for s in shares)
        figure.caption = (
            f"Precision-recall curves ({of_what}), with the average precision, the area under the steps. Grey: {grey}, "
            f"{each}.{say_bands(bands, len(runs))}{said}"
        )
        return figure


def _prevalence(predictions: Predictions) -> float:
    return float((predictions.y == 1).mean()) if len(predictions.classes) == 2 else 1 / len(predictions.classes)
