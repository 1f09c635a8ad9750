"""Where on a slide a run looked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from mmcli.evaluation.figures.style import COLUMN_IN, LOOK, SMALL, Canvas, clean, fit
from mmcli.metrics.metric import Floats, divide

MOST_PX = 1050  # a column at 300 dpi shows no more of a thumbnail
HIGHEST = 99.0  # percentile of the tiles at which the colours end: one tile may hold most of the attention


def attention_map(
    shape: tuple[int, int], coords: npt.NDArray[Any], dimensions: tuple[int, int], values: Floats
) -> Floats:
    """Values (N,) of the tiles at `coords` (N, 4), level-0 x, y, width, height, on a grid of shape (h, w).

    `dimensions` (width, height) are the slide's at level 0. A pixel has the mean of the tiles over it, NaN without one;
    each tile has at least one pixel.
    """
    high, wide = shape
    scale = np.array([wide / dimensions[0], high / dimensions[1]])
    start = np.rint(coords[:, :2] * scale).astype(np.int64)
    start = np.clip(start, 0, [wide - 1, high - 1])
    end = np.rint((coords[:, :2] + coords[:, 2:]) * scale).astype(np.int64)
    end = np.clip(end, start + 1, [wide, high])
    # Corners of the boxes, whose running sum over both axes fills them.
    sums = np.zeros((2, high + 1, wide + 1))
    for x, y, sign in ((start, start, 1), (end, start, -1), (start, end, -1), (end, end, 1)):
        np.add.at(sums[0], (y[:, 1], x[:, 0]), sign * values)
        np.add.at(sums[1], (y[:, 1], x[:, 0]), sign)
    total, count = sums.cumsum(axis=1).cumsum(axis=2)[:, :high, :wide]
    count = np.rint(count)
    return divide(total, count)


def _colours() -> ListedColormap:
    """Viridis from yellow, nearly clear, to dark blue: darker is more, in grey print too, and tissue shows below."""
    colours = matplotlib.colormaps["viridis_r"](np.linspace(0, 1, 256))
    colours[:, 3] = np.linspace(0.35, 0.95, 256)
    return ListedColormap(colours)


def draw_attention(
    thumbnail: npt.NDArray[np.uint8], coords: npt.NDArray[Any], dimensions: tuple[int, int], weights: Floats,
    title: str, top: Sequence[tuple[int, npt.NDArray[np.uint8]]] = (),
) -> Canvas:  # fmt: skip
    """A thumbnail (h, w, 3) and, on its grey copy, the attention of each tile as a multiple of the tiles' mean.

    `coords` (N, 4) and `dimensions` as in `attention_map`; `weights` (N,) are finite and not negative. `top` are tiles
    to show beneath, (index, pixels (h, w, 3)): numbered, and outlined on the map.
    """
    with matplotlib.rc_context(LOOK):
        every = max(1, -(-max(thumbnail.shape[:2]) // MOST_PX))
        picture = thumbnail[::every, ::every]
        high_px, wide_px = picture.shape[:2]
        weights = np.asarray(weights, dtype=np.float64)
        mean = float(weights.mean()) if len(weights) else 0.0
        values = weights / mean if mean > 0 else np.zeros_like(weights)
        most = float(np.percentile(values, HIGHEST)) if len(values) else 1.0
        most = most if most > 0 else 1.0
        shown = attention_map((high_px, wide_px), coords, dimensions, values)
        aspect = high_px / wide_px
        stacked = aspect < 0.75
        side = COLUMN_IN - 0.1 if stacked else (COLUMN_IN - 0.15) / 2
        tall = min(side * aspect, 4.0)
        side = tall / aspect
        tiles = 0.72 if len(top) else 0.0
        above, below = 0.3, 0.5 + tiles
        high = above + tall * (2 if stacked else 1) + (0.05 if stacked else 0.0) + below
        figure = Canvas(figsize=(COLUMN_IN, high))
        first = (COLUMN_IN - side) / 2 if stacked else COLUMN_IN / 2 - 0.025 - side
        places = [(first, below + (tall + 0.05 if stacked else 0)), (first + (0 if stacked else side + 0.05), below)]
        slide, axes = (figure.add_axes((x / COLUMN_IN, y / high, side / COLUMN_IN, tall / high)) for x, y in places)
        extent = (0, dimensions[0], dimensions[1], 0)
        slide.imshow(picture, extent=extent, aspect="auto")
        grey = picture.mean(axis=2) * 0.6 + 255 * 0.4
        axes.imshow(grey, extent=extent, aspect="auto", cmap="gray", vmin=0, vmax=255)
        image = axes.imshow(np.ma.masked_invalid(shown), extent=extent, aspect="auto", cmap=_colours(), vmin=0,
                            vmax=most, interpolation="nearest")  # fmt: skip
        for a in (slide, axes):
            a.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:])
            a.spines[:].set(visible=True, color="0.6")
        wide_bar = min(2.4, COLUMN_IN - 0.6)
        bar_axes = figure.add_axes(((COLUMN_IN - wide_bar) / 2 / COLUMN_IN, (tiles + 0.38) / high,
                                    wide_bar / COLUMN_IN, 0.07 / high))  # fmt: skip
        bar = figure.colorbar(image, cax=bar_axes, orientation="horizontal",
                              extend="max" if len(values) and values.max() > most else "neither")  # fmt: skip
        bar.set_label("Attention, times the mean of the slide's tiles", fontsize=7.0, labelpad=1)
        bar.ax.tick_params(labelsize=SMALL, pad=1.5, length=2)
        bar.locator = MaxNLocator(5)
        bar.update_ticks()
        for i, (index, pixels) in enumerate(top):
            x, y, w, h = (float(v) for v in coords[index])
            axes.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor="k", linewidth=0.7))
            # Each number in another direction: the highest tiles are often neighbours.
            angle = np.pi / 2 - 2 * np.pi * i / len(top)
            axes.annotate(str(i + 1), (x + w / 2, y + h / 2), (14 * np.cos(angle), 14 * np.sin(angle)),
                          textcoords="offset points", ha="center", va="center", fontsize=SMALL,
                          bbox={"facecolor": "w", "alpha": 0.8, "linewidth": 0, "pad": 0.5},
                          arrowprops={"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 1},
                          annotation_clip=False)  # fmt: skip
            step = min((COLUMN_IN - 0.1) / len(top), 0.6)
            left = (COLUMN_IN - step * len(top)) / 2 + i * step
            inset = figure.add_axes(((left + 0.02) / COLUMN_IN, 0.03 / high, (step - 0.04) / COLUMN_IN,
                                     (step - 0.04) / high))  # fmt: skip
            inset.imshow(pixels)
            inset.set(xticks=[], yticks=[])
            inset.spines[:].set(visible=True, color="0.6")
            inset.set_title(str(i + 1), fontsize=SMALL, pad=1.5)
        figure.text(0.5, (high - 0.2) / high, fit(title, COLUMN_IN - 0.2, 8.0), ha="center")
        figure.caption = (
            f"{clean(title)}: attention over {len(weights)} tiles, 1 = each tile the same; colours end at the "
            f"{HIGHEST:g}th percentile. Attention says what the model weighed, not why."
        )
        return figure
