"""What treating by a run's probabilities is worth, against treating all or none."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np

from mmcli.evaluation.curves import net_benefit
from mmcli.evaluation.figures.layout import labels, legend, line, panel
from mmcli.evaluation.figures.style import GREY, LOOK, Canvas, clean, fit
from mmcli.evaluation.predictions import Predictions

HEIGHT_IN = 2.1
MOST = 0.95  # at a threshold of 1 one false positive costs without end
THRESHOLDS = np.arange(1, 191) / 200


def draw_decision_curve(runs: Sequence[Predictions], most: float | None = None) -> Canvas:
    """Net benefit of each run against the threshold probability (Vickers and Elkin 2006); of two classes only.

    Thresholds go to `most`; else to the first at which no run is of benefit, but at least to twice the prevalence
    and at most to 0.95. Treating all is that of the first run's patients.
    """
    with matplotlib.rc_context(LOOK):
        benefits = [net_benefit(p.y == 1, p.p[:, 1], THRESHOLDS) for p in runs]
        prevalence = float((runs[0].y == 1).mean())
        if most is None:
            useless = np.flatnonzero(np.max(benefits, axis=0) <= 0)
            last = THRESHOLDS[useless[0]] if len(useless) else MOST
            most = float(np.clip(np.ceil(20 * max(last, 2 * prevalence, 0.1)) / 20, 0.1, MOST))
        shown = most + 1e-9 >= THRESHOLDS
        x = THRESHOLDS[shown]
        top = max(float(np.max(benefits)), prevalence, 0.01)
        floor = -0.25 * top
        figure, axes = panel(len(runs) + 2, HEIGHT_IN)
        handles = []
        for i, benefit in enumerate(benefits):
            handles.append(line(axes, i, len(runs), x, benefit[shown], clip=True))
        everybody = prevalence - (1 - prevalence) * x / (1 - x)
        (all_,) = axes.plot(x, everybody, color=GREY, linewidth=1.0, zorder=1)
        (none,) = axes.plot([0, most], [0, 0], color=GREY, linewidth=1.0, linestyle=":", zorder=1)
        axes.set(xlim=(0, most), ylim=(floor, 1.08 * top), ylabel="Net benefit")
        axes.locator_params(axis="y", nbins=5)
        positive = runs[0].classes[1]
        axes.set_xlabel(fit(f"Threshold probability of {positive}", 2.9, 8.0))
        texts, said = labels([p.title for p in runs], [""] * len(runs))
        legend(figure, [*handles, all_, none], [*texts, "treat all", "treat none"])
        figure.caption = (
            f"Decision curves for {clean(positive)}: net benefit TP/n − FP/n · t/(1 − t) of treating at a probability "
            f"of t or more.{said}"
        )
        return figure
