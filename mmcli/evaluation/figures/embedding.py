"""The latents of a run at each of its steps, laid out on the plane."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import davies_bouldin_score

from mmcli.evaluation.figures.style import (
    COLOURS,
    COLUMN_IN,
    LOOK,
    MARKERS,
    PAGE_IN,
    Canvas,
    clean,
    fit,
    names,
    width_in,
)  # fmt: skip
from mmcli.metrics.metric import Floats, Ints

How = Literal["t-SNE", "PCA"]
PERPLEXITY = 30.0
MOST = 1000  # points of a panel: more take minutes and hide each other
VECTOR = 3000  # points of a figure, above which they are drawn as pixels: an SVG point is 100 bytes


def project(latents: npt.NDArray[Any], how: How, seed: int) -> Floats:
    """Latents (n, d) -> places (n, 2): standardised columns, then PCA or t-SNE (started from the PCA).

    The perplexity is 30, of fewer than 91 patients a third of the others; with less than 4 patients t-SNE is the PCA.
    Of a PCA the sign of each axis is that of its largest loading's.
    """
    values = np.asarray(latents, dtype=np.float64)
    spread = values.std(axis=0)
    values = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    n = len(values)
    values = np.pad(values, ((0, 0), (0, max(0, 2 - values.shape[1]))))
    if how == "PCA" or n < 4:
        places = np.zeros((n, 2))
        if n > 1:
            fitted = PCA(2, svd_solver="full").fit(values)
            places = np.asarray(fitted.transform(values), dtype=np.float64)
            largest = np.abs(fitted.components_).argmax(axis=1)
            places *= np.where(fitted.components_[[0, 1], largest] < 0, -1.0, 1.0)
        return places
    perplexity = min(PERPLEXITY, (n - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    return np.asarray(tsne.fit_transform(values), dtype=np.float64)


def davies_bouldin(latents: npt.NDArray[Any], y: Ints) -> float:
    """Davies-Bouldin score of the classes in the latents (n, d) as they are; NaN unless 2 <= classes < patients.

    The lower, the closer and further apart the classes lie. MMFusion's figure 3 quotes it for each diffusion step.
    """
    if not 2 <= len(np.unique(y)) < len(y):
        return math.nan
    return float(davies_bouldin_score(np.asarray(latents, dtype=np.float64), y))


def draw_embedding(
    latents: Mapping[str, npt.NDArray[Any]], y: Ints, classes: Sequence[str], title: str, how: How = "t-SNE",
    seed: int = 0,
) -> Canvas:  # fmt: skip
    """A panel for each step (name: latents (n, d)), the classes `y` (n,) as colours and marks, titled with its score.

    Patients with a latent that is not finite are left out of every panel; of more than 1000, a seeded sample is drawn,
    and the scores are those of all.
    """
    with matplotlib.rc_context(LOOK):
        values = {step: np.asarray(v, dtype=np.float64) for step, v in latents.items()}
        whole = np.all([np.isfinite(v).all(axis=1) for v in values.values()], axis=0)
        kept = np.flatnonzero(whole)
        drawn = kept
        if len(kept) > MOST:
            drawn = np.sort(np.random.default_rng(seed).choice(kept, MOST, replace=False))
        steps = len(values)
        across = math.ceil(steps / math.ceil(steps / 4))
        wide = COLUMN_IN if steps <= 2 else PAGE_IN
        side = (wide - 0.1) / across - 0.1
        down = math.ceil(steps / across)
        short, said = names(classes, min(2.2, wide - 0.8), 7.0)
        per_row = max(1, int((wide - 0.2) / (max(width_in(s, 7.0) for s in short) + 0.35)))
        legend_rows = math.ceil(len(short) / per_row)
        below = 0.1 + 0.15 * legend_rows
        high = 0.2 + down * (side + 0.42) + below
        figure = Canvas(figsize=(wide, high))
        dots = len(drawn) * steps > VECTOR
        size = 14.0 if len(drawn) <= 150 else 9.0 if len(drawn) <= 400 else 5.0
        for i, (step, value) in enumerate(values.items()):
            x, top = 0.1 + (i % across) * (side + 0.1), 0.2 + (i // across) * (side + 0.42) + 0.38
            axes = figure.add_axes((x / wide, (high - top - side) / high, side / wide, side / high))
            score = davies_bouldin(value[kept], y[kept])
            name = fit(step, side, 7.0)
            axes.set_title(f"{name}\nDB {score:.2f}" if math.isfinite(score) else f"{name}\nDB –", fontsize=7.0, pad=3)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, color="0.6")
            places = project(value[drawn], how, seed)
            for k in range(len(classes)):
                x1, x2 = places[y[drawn] == k].T
                axes.scatter(x1, x2, s=size, linewidths=0.6, alpha=0.9, rasterized=dots, **_mark(k))
        handles = [
            Line2D([], [], linestyle="", markersize=4.2, markeredgewidth=0.6, marker=mark["marker"],
                   markerfacecolor=mark["facecolors"], markeredgecolor=mark["edgecolors"])
            for mark in map(_mark, range(len(classes)))
        ]  # fmt: skip
        figure.legend(
            handles, [f" {s}" if s.startswith("_") else s for s in short], loc="lower center", frameon=False,
            ncols=min(per_row, len(short)), bbox_to_anchor=(0.5, 0.0), handletextpad=0.2, columnspacing=1.0,
            borderaxespad=0.2, labelspacing=0.4,
        )  # fmt: skip
        figure.text(0.5, (high - 0.17) / high, fit(f"{title} · {how}", wide - 0.2, 8.0), ha="center")
        lost = f" Left out: {len(whole) - len(kept)} patients without finite latents." if not whole.all() else ""
        sample = f" A sample of {MOST} patients is drawn." if len(kept) > MOST else ""
        figure.caption = (
            f"{clean(title)}: {how} of the standardised latents of {len(kept)} patients at each step. DB: "
            "Davies-Bouldin score of the classes in all dimensions of the latents, not of their places here; lower is "
            f"better separated. Steps are laid out one by one: places of two panels cannot be compared.{lost}{sample}"
            f"{said}"
        )
        return figure


def _mark(k: int) -> dict[str, Any]:
    """Look of class k; every other class is hollow, as two of the colours may be the same grey in print."""
    colour = COLOURS[k % len(COLOURS)]
    return {"marker": MARKERS[k % len(MARKERS)], "facecolors": "none" if k % 2 else colour, "edgecolors": colour}
