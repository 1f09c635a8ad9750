"""Observed and imputed distributions of every marker, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np

from mmcli.evaluation.figures.style import GREY, LOOK, PAGE_IN, SMALL, Canvas, fit, look, names
from mmcli.metrics.metric import Floats

ACROSS, DOWN = 4, 5  # panels of a page
POINTS = 160
HIGH = 1.25  # inches of a panel's row


@dataclass(frozen=True)
class Panel:
    """One column: its observed cells (o,), the hidden ones among them as they are (c,), and as each method fills them
    {method: (c,)}."""

    column: str
    kind: str
    categories: Sequence[str]
    observed: Floats
    truth: Floats
    answers: Mapping[str, Floats]


def draw_densities(panels: Sequence[Panel], shown: str) -> list[Canvas]:
    """Pages of 20 panels.

    Numeric columns: kernel densities, all with the bandwidth of the truth (Silverman's rule), over the truth's central
    99 % and a tenth more on each side, logarithmic where the truth is positive and its middle half spans a factor of
    five or more. Coded columns: the share of each category. `shown` says what the methods' cells are, for the caption.
    """
    size = ACROSS * DOWN
    return [_page(panels[i : i + size], shown) for i in range(0, len(panels), size)]


def _page(panels: Sequence[Panel], shown: str) -> Canvas:
    methods = list(dict.fromkeys(m for panel in panels for m in panel.answers))
    rows, legend_rows = math.ceil(len(panels) / ACROSS), math.ceil((len(methods) + 2) / 5)
    with matplotlib.rc_context(LOOK):
        high = HIGH * rows + 0.3 + 0.16 * legend_rows
        figure = Canvas(figsize=(PAGE_IN, high))
        step, handles = PAGE_IN / ACROSS, []
        for i, panel in enumerate(panels):
            left, bottom = step * (i % ACROSS) + 0.12, high - HIGH * (i // ACROSS + 1) + 0.27
            axes = figure.add_axes((left / PAGE_IN, bottom / high, (step - 0.24) / PAGE_IN, (HIGH - 0.5) / high))
            lines = [panel.observed, panel.truth, *(panel.answers.get(m) for m in methods)]
            handles = (_numeric if panel.kind == "numeric" else _coded)(axes, panel, lines)
            title = fit(f"{panel.column} ({len(panel.truth)})", step - 0.2, 7.0)
            axes.set_title(title, fontsize=7.0, pad=3, loc="left")
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.tick_params(labelsize=SMALL, pad=1.5, length=2)
        short, said = names(methods, 1.1, 7.0)
        texts = ["all observed", "hidden truth", *short]
        figure.legend(handles, texts, loc="lower left", ncols=5, frameon=False, fontsize=7.0,
                      handlelength=2.2, columnspacing=1.2)  # fmt: skip
    figure.caption = (
        "Cells that were hidden from test patients (black; their number in brackets), what each method put there, "
        f"{shown}, and all observed cells of the column (grey). Numeric columns as kernel densities, all with the "
        f"truth's bandwidth; coded ones as shares of the categories.{said}"
    )
    return figure


def _numeric(axes: Any, panel: Panel, lines: Sequence[Floats | None]) -> list[Any]:
    truth = panel.truth
    low, quarter, half, high = np.quantile(truth, [0.005, 0.25, 0.75, 0.995])
    logarithmic = truth.min() > 0 and half >= 5 * quarter
    move = np.log10 if logarithmic else np.asarray
    known = move(truth)
    edge = 0.1 * (move(high) - move(low)) or 0.5
    grid = np.linspace(move(low) - edge, move(high) + edge, POINTS)
    spread = min(known.std(), (np.subtract(*np.quantile(known, [0.75, 0.25])) / 1.349) or np.inf)
    width = 0.9 * spread * len(known) ** -0.2 or edge / 5
    places = 10**grid if logarithmic else grid
    handles = []
    for i, cells in enumerate(lines):
        density = np.zeros(POINTS)
        if cells is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                z = (grid[:, None] - move(cells)[None]) / width
            density = np.exp(-0.5 * z**2).sum(1) / (width * math.sqrt(2 * math.pi) * len(cells))
        handles += axes.plot(places, density, **_line(i))
    top = max(handles[1].get_ydata()) * 2.2
    axes.set(xlim=(places[0], places[-1]), ylim=(0, top))
    if logarithmic:
        axes.set_xscale("log")
    else:
        axes.locator_params(axis="x", nbins=3)
    return handles


def _coded(axes: Any, panel: Panel, lines: Sequence[Floats | None]) -> list[Any]:
    handles, categories = [], panel.categories
    places = np.arange(len(categories))
    for i, cells in enumerate(lines):
        shares = np.zeros(len(categories))
        if cells is not None:
            shares = np.bincount(np.rint(cells).astype(np.int64), minlength=len(categories)) / max(len(cells), 1)
        line = {**_line(i), "marker": "o", "markersize": 2.4}
        handles += axes.plot(places, shares, **line)
    few = len(categories) <= 4
    axes.set(xlim=(-0.4, len(categories) - 0.6), ylim=(0, 1.05))
    axes.set_xticks(places if few else [0, len(categories) - 1])
    shown = categories if few else [categories[0], categories[-1]]
    axes.set_xticklabels([fit(c, 1.4 / max(len(shown), 1), SMALL) for c in shown])
    return handles


def _line(i: int) -> dict[str, Any]:
    if i < 2:
        return {"color": "black" if i else "0.75", "linewidth": 1.6 if i else 2.4, "zorder": 3 if i else 1}
    style = look(i - 2, 1)
    return {**style, "linewidth": 0.9, "zorder": 2} if style["color"] != "#000000" else {**style, "color": GREY}
