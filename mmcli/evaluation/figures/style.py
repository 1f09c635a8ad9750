"""How all pictures look: a journal column wide, told apart by people who do not see all colours, and in grey print."""

from __future__ import annotations

import bisect
import io
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.textpath import text_to_path

from mmcli.metrics.metric import Floats

COLUMN_IN = 3.5
PAGE_IN = 7.2
SMALL = 6.5  # points: the smallest text of any picture
# Okabe and Ito, Color Universal Design (2008), without the yellow that white paper swallows. Seven colours, five
# lines and eleven marks have no common factor: no two of the first 385 runs look the same, and each second differs
# from the one before in all three.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES: tuple[Any, ...] = ("-", (0, (4, 1.4)), (0, (6, 1.2, 1.2, 1.2)), (0, (1.2, 1.1)), (0, (9, 2)))
MARKERS = ("o", "s", "^", "D", "v", "X", "P", "*", "<", ">", "p")
GREY = "0.55"
MOST_BANDS = 3
# DejaVu has no Chinese, Japanese or Korean letters; the first of these that is installed has.
EAST_ASIAN = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
              "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "SimHei", "MS Gothic", "Malgun Gothic",
              "Arial Unicode MS")  # fmt: skip
LOOK: dict[str, Any] = {
    "font.family": ["DejaVu Sans", *[f for f in EAST_ASIAN if f in set(font_manager.get_font_names())][:1]],
    "font.size": 8.0,
    "axes.labelsize": 8.0,
    "axes.titlesize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "mmcli",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}
NO_DATES: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}


class Canvas(Figure):
    """A matplotlib figure with the sentences that belong under it."""

    caption: str = ""


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write <stem>.png (300 dpi) and <stem>.pdf."""
    paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".pdf")]
    with matplotlib.rc_context(LOOK), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter that no font has is drawn as a box
        for path in paths:
            FigureCanvasAgg(figure)
            figure.savefig(path, dpi=300, metadata=NO_DATES[path.suffix[1:]])
    return paths


def as_svg(figure: Figure) -> bytes:
    """The figure as an SVG file's bytes; photographs in it have 150 dpi."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(LOOK), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(buffer, format="svg", dpi=150, metadata=NO_DATES["svg"])
    return buffer.getvalue()


def look(i: int, of: int) -> dict[str, Any]:
    """Colour and line of the i-th of several curves, with marks along it where there are more than three."""
    style: dict[str, Any] = {
        "color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[i % len(STYLES)], "linewidth": 1.2,
    }  # fmt: skip
    if of > MOST_BANDS:
        style |= {"marker": MARKERS[i % len(MARKERS)], "markersize": 3.6, "markeredgewidth": 0.0,
                  "markevery": (0.04 + 0.24 * (i / of), 0.24)}  # fmt: skip
    return style


def thin(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The points of a curve over x in [0, 1], ascending, without those that a printed page cannot show.

    Of more than 2000 points, each of 800 columns of the picture (a column at 300 dpi) keeps the first, the last, the
    lowest and the highest: the line through them covers the same dots (Jugel et al., M4, VLDB 2014).
    """
    if len(x) <= 2000:
        return x, y
    column = np.floor(x * 800)
    ends = np.append(np.flatnonzero(np.diff(column)), len(x) - 1)
    starts = np.append(0, ends[:-1] + 1)
    by_height = np.lexsort((y, column))
    keep = np.unique(np.concatenate([starts, ends, by_height[starts], by_height[ends]]))
    return x[keep], y[keep]


def clean(text: str) -> str:
    """The text on one line, without what a font cannot draw."""
    drawable = "".join(c if c.isprintable() else " " for c in text.encode("utf-8", "replace").decode())
    return " ".join(drawable.split()) or "–"


def plain(text: str, longest: int) -> str:
    """A name for a figure: never read as mathematics ($), cut in the middle where it has too many letters."""
    return _no_mathematics(_cut(clean(text), longest))


def width_in(text: str, size: float) -> float:
    """Width in inches of a text set in `size` points."""
    font = font_manager.FontProperties(family=LOOK["font.family"], size=size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / 72


def fit(text: str, inches: float, size: float) -> str:
    """As `plain`, cut to what these inches hold in `size` points."""
    text = clean(text)
    longest = min(len(text), max(3, int(inches * 72 / size * 5)))  # no letter is narrower than a fifth of its size
    if width_in(_cut(text, longest), size) > inches:
        longest = bisect.bisect(range(4, longest), inches, key=lambda n: width_in(_cut(text, n), size)) + 3
    return _no_mathematics(_cut(text, longest))


def names(texts: Sequence[str], inches: float, size: float) -> tuple[list[str], str]:
    """Each text cut to fit, and a sentence for the caption.

    Names that are the same once they are cut are numbered, and the sentence says what the numbers stand for.
    """
    short = [fit(t, inches, size) for t in texts]
    count = Counter(short)
    twice = [i for i, s in enumerate(short) if count[s] > 1]
    for i in twice:
        short[i] = f"[{i + 1}] " + fit(texts[i], inches - width_in(f"[{i + 1}] ", size), size)
    said = "; ".join(f"[{i + 1}] {clean(texts[i])}" for i in twice)
    return short, f" {said}." if said else ""


def file_names(stems: Sequence[str]) -> list[str]:
    """Names that any file system takes, one for each stem and all different."""
    found: list[str] = []
    for stem in stems:
        safe = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:100] or "run"
        name, count = safe, 2
        while name.lower() in (n.lower() for n in found):
            name, count = f"{safe}-{count}", count + 1
        found.append(name)
    return found


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = max((longest - 1) // 2, 1)
    return f"{text[:half]}…{text[-half:]}"


def _no_mathematics(text: str) -> str:
    return text.replace("$", r"\$")
