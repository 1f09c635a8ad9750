"""Values and intervals of all runs, or of all subgroups, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import pandas as pd

from mmcli.evaluation.figures.style import (
    COLOURS,
    COLUMN_IN,
    GREY,
    LOOK,
    MARKERS,
    PAGE_IN,
    SMALL,
    Canvas,
    clean,
    fit,
    names,
    width_in,
)  # fmt: skip

ROW_IN = 0.17
BESIDE = 3  # panels in a page's width


def draw_forest(
    table: pd.DataFrame, metrics: Mapping[str, str], reference: str = "", confidence: float = 0.95
) -> Canvas:
    """A panel for each of `metrics` (name: title), in it a row for each name with its value and interval.

    `table` has the columns name, metric, value, low, high (NaN where undefined) and may have heading: rows under one
    heading stand together. Rows stand in the order of their first appearance. `reference` names the row whose value a
    dashed line marks. One metric fits a column, more a page, three beside each other.
    """
    with matplotlib.rc_context(LOOK):
        heading = [str(h) for h in table["heading"]] if "heading" in table else [""] * len(table)
        keys = list(dict.fromkeys((h, str(n)) for h, n in zip(heading, table["name"], strict=True)))
        order = list(dict.fromkeys(heading))
        keys.sort(key=lambda key: order.index(key[0]))
        figures = {
            (h, str(n), m): (float(v), float(low), float(high))
            for h, n, m, v, low, high in zip(
                heading, table["name"], table["metric"], table["value"], table["low"], table["high"], strict=True
            )
        }
        lines: list[tuple[str, str] | str] = []
        for key in keys:
            if key[0] and (not lines or lines[-1][0] != key[0]):
                lines.append(key[0])
            lines.append(key)
        beside = min(len(metrics), BESIDE)
        wide = COLUMN_IN if len(metrics) == 1 else PAGE_IN
        room = 1.15 if len(metrics) == 1 else 1.55
        distinct = list(dict.fromkeys(n for _, n in keys))
        short, said = names(distinct, room, 7.0)
        left = max([width_in(s, 7.0) for s in short] + [min(width_in(clean(h), 7.0), room) for h, _ in keys]) + 0.22
        label = dict(zip(distinct, short, strict=True))
        blocks = math.ceil(len(metrics) / BESIDE)
        body = ROW_IN * len(lines)
        block = 0.28 + body + 0.28
        figure = Canvas(figsize=(wide, block * blocks + 0.05))
        numbers = max(width_in(_text(*f), SMALL) for f in figures.values()) + 0.1
        step = (wide - left) / beside
        for i, (metric, title) in enumerate(metrics.items()):
            bottom = block * (blocks - 1 - i // BESIDE) + 0.28
            x = left + step * (i % BESIDE)
            size = figure.get_size_inches()
            axes = figure.add_axes((x / wide, bottom / size[1], (step - numbers - 0.1) / wide, body / size[1]))
            rows = {key: figures.get((*key, metric), (math.nan,) * 3) for key in keys}
            marked = next((v for (_, n), (v, _, _) in rows.items() if n == reference), math.nan)
            _panel(axes, lines, rows, marked, reference)
            axes.set_title(fit(title, step - 0.1, 8.0), pad=5, loc="left")
            if i % BESIDE == 0:
                for y, entry in enumerate(lines):
                    text = label[entry[1]] if isinstance(entry, tuple) else fit(entry, left - 0.15, 7.0)
                    axes.annotate(text, (0, y), (-(left - 0.08) * 72, 0), xycoords=("axes fraction", "data"),
                                  textcoords="offset points", va="center", fontsize=7.0,
                                  weight="normal" if isinstance(entry, tuple) else "bold")  # fmt: skip
        dashed = f" Dashed: the value of {clean(reference)}." if reference else ""
        figure.caption = f"Values with {100 * confidence:.4g} % intervals.{dashed}{said}"
        return figure


def _text(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if not math.isfinite(low + high) else f"{value:.3f} ({low:.3f}–{high:.3f})"


def _panel(
    axes: Any, lines: Sequence[tuple[str, str] | str], rows: Mapping[tuple[str, str], tuple[float, float, float]],
    marked: float, reference: str,
) -> None:  # fmt: skip
    for y, entry in enumerate(lines):
        if not isinstance(entry, tuple):
            continue
        value, low, high = rows[entry]
        own = entry[1] == reference
        if math.isfinite(low + high):
            axes.plot([low, high], [y, y], color=COLOURS[1 if own else 0], linewidth=1.2, solid_capstyle="butt",
                      marker="|", markersize=4)  # fmt: skip
        if math.isfinite(value):
            axes.plot([value], [y], MARKERS[3 if own else 1], color=COLOURS[1 if own else 0], markersize=3.6)
        axes.annotate(_text(value, low, high), (1, y), (5, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", va="center", fontsize=SMALL)  # fmt: skip
    if math.isfinite(marked):
        axes.axvline(marked, color=GREY, linewidth=0.7, linestyle="--", zorder=0)
    known = [v for row in rows.values() for v in row if math.isfinite(v)] or [0.0, 1.0]
    edge = 0.06 * (max(known) - min(known)) or 0.05
    axes.set(xlim=(min(known) - edge, max(known) + edge), ylim=(len(lines) - 0.5, -0.5), yticks=[])
    axes.locator_params(axis="x", nbins=4, min_n_ticks=2)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.spines["left"].set_visible(False)
    for y in [y for y, entry in enumerate(lines) if isinstance(entry, tuple)][1::2]:
        axes.axhspan(y - 0.5, y + 0.5, color="0.96", zorder=-1, linewidth=0)
