"""Which cells of a table are observed, and which columns lack patients together."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap
from numpy.typing import NDArray

from mmcli.evaluation.figures.style import COLOURS, LOOK, PAGE_IN, SMALL, Canvas, names

MOST_NAMED = 60


def sort_patterns(observed: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Order of rows (n,) and columns (f,): columns from the most to the least observed, rows with the fewest holes
    first, and those with the same pattern of holes together."""
    columns = np.argsort(-observed.sum(0), kind="stable")
    holes = ~observed[:, columns]
    # The last key counts most: number of holes, then the pattern from its first column on.
    rows = np.lexsort((*holes.T[::-1], holes.sum(1)))
    return rows.astype(np.int64), columns.astype(np.int64)


def together(observed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(f, f): of the patients who lack the row's column, the share who lack the column's too; NaN where nobody does."""
    holes = (~observed).astype(np.float64)
    both, own = holes.T @ holes, holes.sum(0)
    share: NDArray[np.float64] = both / np.where(own == 0, np.nan, own)[:, None]
    return share


def draw_missingness(observed: NDArray[np.bool_], columns: list[str]) -> Canvas:
    """Left the table's cells, patients sorted by pattern; right the columns that lack patients together."""
    rows, order = sort_patterns(observed)
    share = together(observed)[np.ix_(order, order)]
    short, said = names([columns[j] for j in order], 1.2, SMALL)
    many = len(columns) > MOST_NAMED
    high = float(np.clip(1.6 + 0.13 * len(columns), 3.0, 7.5))
    with matplotlib.rc_context(LOOK):
        figure = Canvas(figsize=(PAGE_IN, high))
        left, right = (
            figure.add_axes((x, 1.35 / high, w, (high - 1.7) / high)) for x, w in ((0.05, 0.36), (0.6, 0.36))
        )
        left.imshow(observed[np.ix_(rows, order)], aspect="auto", interpolation="nearest", vmin=0, vmax=1,
                    cmap=ListedColormap([COLOURS[1], "0.88"]))  # fmt: skip
        left.set_ylabel(f"{len(observed)} patients", fontsize=7.0)
        left.set_yticks([])
        left.set_title("Observed (grey) and missing cells", loc="left", pad=5)
        cells = right.imshow(share, aspect="auto", interpolation="nearest", vmin=0, vmax=1, cmap="Blues")
        right.set_title("Missing together", loc="left", pad=5)
        bar = figure.colorbar(cells, ax=right, fraction=0.05, pad=0.03)
        bar.ax.tick_params(labelsize=SMALL)
        for axes in (left, right):
            axes.set_xticks([] if many else range(len(columns)), [] if many else short, rotation=90, fontsize=SMALL)
        right.set_yticks([] if many else range(len(columns)), [] if many else short, fontsize=SMALL)
    empty = int((~observed.any(1)).sum())
    figure.caption = (
        f"Left: {(~observed).mean():.1%} of the cells are missing; columns from the most to the least observed, "
        f"patients by their pattern of holes{f' ({empty} lack the whole table)' if empty else ''}. Right: of the "
        f"patients who lack the row's column, the share who also lack the other (white: none, or nobody lacks it)."
        f"{said}"
    )
    return figure
