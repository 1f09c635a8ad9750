"""The pictures of a comparison: each a function of numbers that gives a figure with its caption.

`embedding` is imported by itself, as scikit-learn takes a second that other pictures need not wait.
"""

from __future__ import annotations

from mmcli.evaluation.figures.attention import draw_attention
from mmcli.evaluation.figures.confusion import draw_confusion
from mmcli.evaluation.figures.decision_curve import draw_decision_curve
from mmcli.evaluation.figures.forest import draw_forest
from mmcli.evaluation.figures.precision_recall import draw_precision_recall
from mmcli.evaluation.figures.reliability import draw_reliability
from mmcli.evaluation.figures.risk_coverage import draw_risk_coverage
from mmcli.evaluation.figures.roc import draw_roc
from mmcli.evaluation.figures.style import Canvas, as_svg, file_names, plain, save
from mmcli.evaluation.figures.withheld import draw_withheld

__all__ = [
    "Canvas",
    "as_svg",
    "draw_attention",
    "draw_confusion",
    "draw_decision_curve",
    "draw_forest",
    "draw_precision_recall",
    "draw_reliability",
    "draw_risk_coverage",
    "draw_roc",
    "draw_withheld",
    "file_names",
    "plain",
    "save",
]
