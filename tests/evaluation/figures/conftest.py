"""Predictions to draw, and what every picture has to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmcli.evaluation.figures import Canvas, as_svg, save
from mmcli.evaluation.predictions import Predictions


@pytest.fixture(scope="session")
def predicted() -> Callable[..., Predictions]:
    """`predicted(classes=2, title="run", n=60, seed=0)`: every class has a patient; names try to be mathematics."""

    def make(classes: int = 2, title: str = "run", n: int = 60, seed: int = 0) -> Predictions:
        generator = np.random.default_rng(seed)
        y = np.arange(n) % classes
        logits = generator.normal(size=(n, classes)) + 1.5 * np.eye(classes)[y]
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        ids = np.array([str(i) for i in range(n)], dtype=object)
        return Predictions(title, "", "t", tuple(f"class ${k}" for k in range(classes)), ids, y, p, ids)

    return make


def undrawn(figure: Canvas) -> set[int]:
    """The labels of ticks outside the axes' limits: they exist and are never drawn."""
    found = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-6 * (high - low)
            for tick in axis.get_major_ticks():
                if not low - slack <= tick.get_loc() <= high + slack:
                    found |= {id(tick.label1), id(tick.label2)}
    return found


@pytest.fixture
def check_picture(tmp_path: Path) -> Callable[..., None]:
    """`check_picture(draw, width_px)`: a PNG so wide, PDF and SVG below 1 MB and the same each time, all text inside
    the picture and none of it small."""

    def check(draw: Callable[[], Canvas], width_px: int = 1050) -> None:
        figure = draw()
        png, pdf = save(figure, tmp_path / "picture.v1")
        assert (png.name, pdf.name) == ("picture.v1.png", "picture.v1.pdf")
        with Image.open(png) as image:
            assert image.width == width_px
        assert figure.caption.endswith(".")
        svg = as_svg(figure)
        assert max(len(svg), pdf.stat().st_size) < 1_000_000
        assert as_svg(draw()) == svg
        figure.set_dpi(300)
        figure.draw_without_rendering()
        renderer = figure.canvas.get_renderer()
        size = figure.bbox
        skip = undrawn(figure)
        for text in figure.findobj(lambda artist: hasattr(artist, "get_fontsize") and artist.get_text()):
            if text.get_visible() and id(text) not in skip:
                assert text.get_fontsize() >= 6.5, text
                box = text.get_window_extent(renderer)
                inside = box.x0 >= -2 and box.x1 <= size.x1 + 2 and box.y0 >= -2 and box.y1 <= size.y1 + 2
                assert inside, (text.get_text(), box, size.x1, size.y1)

    return check


@pytest.fixture(scope="session")
def hostile_titles() -> list[str]:
    """Twelve names of runs that something could trip over."""
    same = ["runs/" + "x" * 40 + f"{i}" + "y" * 40 for i in range(7)]
    return ["$x_1^2$ & <b>", "_hidden", "W" * 200, "a\nb\x00c", "\ud800", "", *same][:12]
