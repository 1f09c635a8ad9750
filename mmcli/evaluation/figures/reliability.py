"""Whether what a run says with a probability is true that often."""

from __future__ import annotations

import matplotlib
import numpy as np

from mmcli.evaluation.curves import reliability
from mmcli.evaluation.figures.layout import chance, panel, unit
from mmcli.evaluation.figures.style import COLOURS, LOOK, SMALL, Canvas, clean, fit
from mmcli.evaluation.predictions import Predictions
from mmcli.evaluation.proportions import wilson
from mmcli.metrics.ece import BINS
from mmcli.metrics.metric import decide

BARS_IN = 0.55


def draw_reliability(predictions: Predictions, text: str = "", confidence: float = 0.95) -> Canvas:
    """How often it was true (with Wilson limits) against the mean probability, in the calibration error's ten bins.

    Of two classes, the positive one's probability; of more, the likeliest class's. Beneath, how many patients a bin
    has. `text` stands under the title: the calibration figures.
    """
    with matplotlib.rc_context(LOOK):
        two = len(predictions.classes) == 2
        probability = predictions.p[:, 1] if two else predictions.p.max(axis=1)
        true = predictions.y == (1 if two else decide(predictions.p))
        bins = reliability(true, probability)
        figure, axes = panel(0)
        wide, high = figure.get_size_inches()
        # A panel of the same width under the first, which is lifted by as much.
        above = 0.34 if text else 0.2
        taller = high + BARS_IN + 0.1 + above
        figure.set_size_inches(wide, taller)
        box = axes.get_position()
        axes.set_position((box.x0, 1 - ((1 - box.y0) * high + above) / taller, box.width,
                           box.height * high / taller))  # fmt: skip
        bars = figure.add_axes((box.x0, 0.45 / taller, box.width, BARS_IN / taller), sharex=axes)
        chance(axes, [0, 1], [0, 1])
        filled = np.flatnonzero(bins.n)
        share = bins.share[filled]
        limits = np.array([wilson(int(bins.hits[b]), int(bins.n[b]), confidence) for b in filled]).reshape(-1, 2)
        reach = np.maximum([share - limits[:, 0], limits[:, 1] - share], 0.0)
        axes.errorbar(bins.mean[filled], share, yerr=reach, fmt="-o", color=COLOURS[0], markersize=3.6, linewidth=1.0,
                      elinewidth=0.8, capsize=2.0, clip_on=False, zorder=3)  # fmt: skip
        unit(axes)
        axes.tick_params(labelbottom=False)
        figure.text(0.5, 1 - 0.2 / taller, fit(predictions.title, wide - 0.3, 8.0), ha="center")
        if text:
            figure.text(0.5, 1 - 0.36 / taller, fit(text, wide - 0.2, 7.0), ha="center", fontsize=7.0)
        bars.bar((np.arange(BINS) + 0.5) / BINS, bins.n, width=0.92 / BINS, color="0.75", linewidth=0)
        most = max(int(bins.n.max()), 1)
        if most < 10_000:
            for b in filled:
                bars.text((b + 0.5) / BINS, bins.n[b] + 0.03 * most, f"{bins.n[b]}", ha="center", va="bottom",
                          fontsize=SMALL)  # fmt: skip
        bars.set(ylim=(0, 1.3 * most), ylabel="Patients")
        bars.set_yticks([0, most], ["0", f"{most}" if most < 10_000 else f"{most / 1000:.0f}k"])
        if two:
            name = fit(predictions.classes[1], 1.5, 8.0)
            axes.set_ylabel(f"Share that was {name}")
            bars.set_xlabel(f"Probability of {name}")
            what = f"the probability of {clean(predictions.classes[1])}"
        else:
            axes.set_ylabel("Share that was right")
            bars.set_xlabel("Probability of the likeliest class")
            what = "the probability of the likeliest class"
        figure.caption = (
            f"{clean(predictions.title)}: reliability of {what} in ten bins of equal width; bars: Wilson "
            f"{100 * confidence:.4g} % limits of each bin; beneath, how many patients a bin has."
        )
        return figure
