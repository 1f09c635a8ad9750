"""What a run loses as patients lose a modality."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd

from mmcli.evaluation.curves import Band
from mmcli.evaluation.figures.layout import labels, legend, panel, shade
from mmcli.evaluation.figures.style import LOOK, MARKERS, MOST_BANDS, Canvas, clean, fit, look

HEIGHT_IN = 2.1


def draw_withheld(table: pd.DataFrame, modality: str, metric: str, confidence: float = 0.95) -> Canvas:
    """One line a run: the metric against the share of patients from whom the modality is withheld.

    `table` has the columns run, share, value, low, high (NaN where undefined), as the rows of Result.withheld of one
    task, modality and metric; `metric` is its title. Intervals are bands, for up to three runs.
    """
    with matplotlib.rc_context(LOOK):
        owner = np.array([str(r) for r in table["run"]], dtype=object)
        runs = list(dict.fromkeys(owner))
        figure, axes = panel(len(runs), HEIGHT_IN)
        handles = []
        for i, run in enumerate(runs):
            own = table[owner == run].sort_values("share", kind="stable")
            share, value, low, high = (own[c].to_numpy(dtype=np.float64) for c in ("share", "value", "low", "high"))
            style = look(i, len(runs)) | {"marker": MARKERS[i % len(MARKERS)], "markersize": 4.0, "markevery": 1}
            (handle,) = axes.plot(share, value, clip_on=False, zorder=3, **style)
            handles.append(handle)
            if len(runs) <= MOST_BANDS and np.isfinite(low + high).any():
                shade(axes, i, Band(share, low, high, confidence, 0, 0))
        shares = np.unique(table["share"].to_numpy(dtype=np.float64))
        axes.set_xlim(*((shares[0], shares[-1]) if len(shares) > 1 else (-0.05, 1.05)))
        axes.margins(y=0.08)
        few = shares if len(shares) <= 6 else np.linspace(0, 1, 6)
        axes.set_xticks(few, [f"{100 * s:.3g}" for s in few])
        axes.set(xlabel=fit(f"Patients without {modality}", 2.6, 8.0) + ", %", ylabel=fit(metric, HEIGHT_IN, 8.0))
        texts, said = labels(runs, [""] * len(runs))
        legend(figure, handles, texts)
        bands = f" Bands: {100 * confidence:.4g} % intervals." if table[["low", "high"]].notna().any(axis=None) else ""
        if len(runs) > MOST_BANDS:
            bands = f" Without bands, which would hide each other: there are more than {MOST_BANDS} curves."
        figure.caption = (
            f"{clean(metric)} against the share of patients from whom {clean(modality)} is withheld.{bands}{said}"
        )
        return figure
