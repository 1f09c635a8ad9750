"""Attention over a slide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mmcli.evaluation.figures import draw_attention
from mmcli.evaluation.figures.attention import attention_map


def test_map_is_the_mean_of_the_tiles_over_each_pixel() -> None:
    generator = np.random.default_rng(0)
    coords = np.concatenate([generator.integers(0, 900, (200, 2)), generator.integers(10, 120, (200, 2))], axis=1)
    values = generator.random(200)
    shape, dimensions = (60, 50), (1000, 1200)
    slow_sum, slow_count = np.zeros(shape), np.zeros(shape)
    for (x, y, w, h), value in zip(coords, values, strict=True):
        x0, x1, y0, y1 = round(x / 20), round((x + w) / 20), round(y / 20), round((y + h) / 20)
        box = slice(y0, max(y1, y0 + 1)), slice(x0, max(x1, x0 + 1))
        slow_sum[box] += value
        slow_count[box] += 1
    expected = np.where(slow_count > 0, slow_sum / np.maximum(slow_count, 1), np.nan)
    np.testing.assert_allclose(attention_map(shape, coords, dimensions, values), expected, atol=1e-12)


def test_tile_smaller_than_a_pixel_and_at_the_edge() -> None:
    coords = np.array([[0, 0, 1, 1], [999, 999, 1, 1]])
    found = attention_map((10, 10), coords, (1000, 1000), np.array([1.0, 2.0]))
    assert (found[0, 0], found[9, 9], np.isfinite(found).sum()) == (1.0, 2.0, 2)


@pytest.mark.parametrize("shape", [(100, 110), (60, 200), (300, 60), (1500, 1200)])
def test_picture(shape: tuple[int, int], check_picture: Callable) -> None:
    h, w = shape
    thumbnail = np.full((h, w, 3), 230, dtype=np.uint8)
    dimensions = (w * 32, h * 32)
    x, y = np.meshgrid(np.arange(0, w * 32 - 512, 512), np.arange(0, h * 32 - 512, 512))
    coords = np.stack([x.ravel(), y.ravel(), np.full(x.size, 512), np.full(x.size, 512)], axis=1)
    weights = np.random.default_rng(0).random(x.size) / x.size
    top = [(int(i), np.zeros((32, 32, 3), dtype=np.uint8)) for i in np.argsort(-weights)[:3]]
    check_picture(lambda: draw_attention(thumbnail, coords, dimensions, weights, "P-1 $x" * 30, top))
    figure = draw_attention(thumbnail, coords, dimensions, weights, "P-1", top)
    every = max(1, -(-max(shape) // 1050))
    relative = weights / weights.mean()
    shown = figure.axes[1].images[1]
    expected = attention_map(thumbnail[::every, ::every].shape[:2], coords, dimensions, relative)
    np.testing.assert_allclose(shown.get_array().filled(np.nan), expected)
    assert shown.get_clim() == (0, pytest.approx(np.percentile(relative, 99)))
    assert len(figure.axes[1].patches) == 3
    assert figure.axes[1].patches[0].get_xy() == tuple(coords[top[0][0], :2])
    assert len(figure.axes) == 2 + 1 + 3
    assert figure.axes[2].get_xlabel() == "Attention, times the mean of the slide's tiles"


@pytest.mark.parametrize("n", [0, 1])
def test_no_tiles_and_no_attention(n: int, check_picture: Callable) -> None:
    thumbnail = np.full((50, 50, 3), 230, dtype=np.uint8)
    coords = np.array([[0, 0, 100, 100]])[:n]
    check_picture(lambda: draw_attention(thumbnail, coords, (1000, 1000), np.zeros(n), "P-1"))


def test_darker_is_more_in_grey_print_too() -> None:
    from mmcli.evaluation.figures.attention import _colours

    rgba = _colours()(np.linspace(0, 1, 50))
    on_white = rgba[:, :3] * rgba[:, 3:] + 1 - rgba[:, 3:]
    assert (np.diff(on_white @ [0.2126, 0.7152, 0.0722]) < 0).all()
