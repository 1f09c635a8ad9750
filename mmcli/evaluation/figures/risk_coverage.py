"""How often a run errs if it may leave its least certain patients to somebody else."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np

from mmcli.evaluation.figures.layout import labels, legend, line, panel
from mmcli.evaluation.figures.style import LOOK, Canvas
from mmcli.metrics.metric import Floats

HEIGHT_IN = 2.1


def draw_risk_coverage(runs: Sequence[tuple[str, Floats, Floats, str]]) -> Canvas:
    """One curve a run, given as (title, coverage (m,) ascending, risk (m,), text of the area under it)."""
    with matplotlib.rc_context(LOOK):
        figure, axes = panel(len(runs) + 1, HEIGHT_IN)
        risks = np.concatenate([np.asarray(risk, dtype=np.float64) for _, _, risk, _ in runs])
        top = min(1.0, 1.1 * float(np.max(risks, where=np.isfinite(risks), initial=0.0)) or 0.1)
        handles = [
            line(axes, i, len(runs), np.asarray(coverage), np.asarray(risk))
            for i, (_, coverage, risk, _) in enumerate(runs)
        ]
        axes.set(xlim=(0, 1), ylim=(0, top), xticks=np.linspace(0, 1, 6))
        axes.set(xlabel="Coverage: share of patients decided", ylabel="Share decided wrongly")
        texts, said = labels([title for title, *_ in runs], [text for *_, text in runs])
        legend(figure, handles, texts, "Area under the curve")
        figure.caption = (
            f"Risk-coverage curves: errors among the patients of whom a run is most certain, with the area.{said}"
        )
        return figure
