"""ROC curves of runs."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np

from mmcli.evaluation.curves import Band, macro_roc
from mmcli.evaluation.figures.layout import chance, labels, legend, line, panel, say_bands, shade, unit
from mmcli.evaluation.figures.style import LOOK, MOST_BANDS, Canvas, clean
from mmcli.evaluation.predictions import Predictions


def draw_roc(runs: Sequence[tuple[Predictions, str]], bands: Sequence[Band | None] = ()) -> Canvas:
    """One curve a run, given with the text of its AUC; a run in which a class has no patients has none.

    `bands`, one a run or none at all, are those of `curves.roc_band`, drawn for up to three runs.
    """
    with matplotlib.rc_context(LOOK):
        figure, axes = panel(len(runs) + 1)
        chance(axes, [0, 1], [0, 1])
        handles = []
        for i, (predictions, _) in enumerate(runs):
            curve = macro_roc(predictions.y, predictions.p)
            handles.append(line(axes, i, len(runs), *(curve if curve is not None else (np.empty(0), np.empty(0)))))
            if bands and len(runs) <= MOST_BANDS:
                shade(axes, i, bands[i])
        unit(axes)
        texts, said = labels([p.title for p, _ in runs], [text for _, text in runs])
        legend(figure, handles, texts, "AUC")
        classes = runs[0][0].classes
        if len(classes) == 2:
            axes.set(xlabel="1 − specificity", ylabel="Sensitivity")
            of_what = f"of {clean(classes[1])}"
        else:
            axes.set(xlabel="False positive rate", ylabel="True positive rate, mean of classes")
            of_what = "mean of each class against the rest"
        figure.caption = f"ROC curves ({of_what}), with the AUC.{say_bands(bands, len(runs))}{said}"
        return figure
