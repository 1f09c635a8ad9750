"""The form that the pictures of several runs share: one panel with a line a run, and their names beneath it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmcli.evaluation.curves import Band
from mmcli.evaluation.figures.style import COLUMN_IN, GREY, MOST_BANDS, Canvas, look, names, thin, width_in
from mmcli.metrics.metric import Floats

LEFT, RIGHT, TOP, BOTTOM = 0.6, 0.15, 0.15, 0.45  # inches around the panel
ROW = 0.1425  # inches a legend's row


def panel(rows: int, height: float = COLUMN_IN - LEFT - RIGHT) -> tuple[Canvas, Any]:
    """A column-wide figure and its axes: 2.75 inches wide, `height` high, whatever the `rows` of the legend below."""
    wide = COLUMN_IN - LEFT - RIGHT
    high = TOP + height + BOTTOM + ROW * rows + 0.05
    figure = Canvas(figsize=(COLUMN_IN, high))
    box = (LEFT / COLUMN_IN, (high - height - TOP) / high, wide / COLUMN_IN, height / high)
    return figure, figure.add_axes(box)


def unit(axes: Any) -> None:
    """Both axes from 0 to 1."""
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))


def labels(titles: Sequence[str], texts: Sequence[str]) -> tuple[list[str], str]:
    """Each run's title, cut so that its text fits behind it in the legend, and what the caption has to add."""
    room = COLUMN_IN - LEFT - 0.32 - max((width_in(f"  {t}", 7.0) for t in texts if t), default=0.0)
    short, said = names(titles, room, 7.0)
    return [f"{s}  {t}".rstrip() for s, t in zip(short, texts, strict=True)], said


def legend(figure: Canvas, handles: Sequence[Any], texts: Sequence[str], title: str | None = None) -> None:
    """The names under the panel; one that begins with an underscore is one too."""
    figure.legend(
        handles,
        [f" {t}" if t.startswith("_") else t for t in texts],
        title=title,
        title_fontsize=7.0,
        alignment="left",
        loc="lower left",
        bbox_to_anchor=((LEFT - 0.1) / COLUMN_IN, 0.0),
        frameon=False,
        handlelength=2.6,
        borderaxespad=0.2,
        labelspacing=0.45,
    )


def line(axes: Any, i: int, of: int, x: Floats, y: Floats, clip: bool = False) -> Any:
    """The i-th of several curves; the handle that the legend shows. `clip`: it may leave the panel."""
    (handle,) = axes.plot(*thin(x, y), clip_on=clip, zorder=3, **look(i, of))
    return handle


def shade(axes: Any, i: int, band: Band | None, step: str | None = None) -> None:
    """The band of the i-th curve, where there is one."""
    if band is not None:
        colour = look(i, 1)["color"]
        axes.fill_between(band.x, band.low, band.high, step=step, color=colour, alpha=0.18, linewidth=0, zorder=1)
        for edge in (band.low, band.high):
            axes.plot(band.x, edge, color=colour, linewidth=0.4, alpha=0.6, zorder=2,
                      drawstyle="default" if step is None else f"steps-{step}")  # fmt: skip


def say_bands(bands: Sequence[Band | None], runs: int) -> str:
    """The caption's sentence on the bands that were drawn, or why none were."""
    drawn = [b for b in bands if b is not None]
    if runs > MOST_BANDS:
        return f" Without bands, which would hide each other: there are more than {MOST_BANDS} curves." if drawn else ""
    if not drawn:
        return ""
    level = f"{100 * drawn[0].confidence:.4g} %"
    said = f" Bands: pointwise central {level} of the curves of {drawn[0].resamples} resamples of patients"
    lost = max(b.undefined for b in drawn)
    return said + (f" (up to {lost} of them lacked a class and are left out)." if lost else ".")


def chance(axes: Any, x: Sequence[float], y: Sequence[float]) -> None:
    """A thin grey line of what is known without a model."""
    axes.plot(x, y, color=GREY, linewidth=0.7, zorder=0)
