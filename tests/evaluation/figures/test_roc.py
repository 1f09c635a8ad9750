"""ROC and precision-recall pictures: the curves in them, their bands, and their names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from mmcli.evaluation.curves import macro_precision_recall, macro_roc, precision_recall_band, roc_band
from mmcli.evaluation.figures import draw_precision_recall, draw_roc

PAIRS = [(draw_roc, roc_band), (draw_precision_recall, precision_recall_band)]


def curves_of(figure: Any) -> list[Any]:
    """The runs' lines: they are drawn over the rest."""
    return [line for line in figure.axes[0].lines if line.get_zorder() == 3]


def legend_texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("classes", [2, 5])
def test_lines_are_the_curves(classes: int, predicted: Callable) -> None:
    runs = [predicted(classes, "a"), predicted(classes, "b", seed=1)]
    figure = draw_roc([(p, "0.9") for p in runs])
    for line, p in zip(curves_of(figure), runs, strict=True):
        curve = macro_roc(p.y, p.p)
        assert curve is not None
        np.testing.assert_array_equal(line.get_data(), curve)
    assert legend_texts(figure) == ["a  0.9", "b  0.9"]
    figure = draw_precision_recall([(p, "0.9") for p in runs])
    for line, p in zip(curves_of(figure), runs, strict=True):
        x, y = line.get_data()
        which = [1] if classes == 2 else range(classes)
        expected = np.mean([sk.average_precision_score(p.y == k, p.p[:, k]) for k in which])
        assert sk.auc(x, y) == pytest.approx(expected, abs=1e-12)
        curve = macro_precision_recall(p.y, p.p)
        assert curve is not None
        assert (x[0], x[-1], y[-1]) == (0.0, 1.0, curve[1][-1])
    (grey,) = [line for line in figure.axes[0].lines if line.get_zorder() == 0]
    assert list(grey.get_ydata()) == [1 / classes] * 2
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim() == (0.0, 1.0)


@pytest.mark.parametrize(("draw", "band_of"), PAIRS)
def test_bands_of_three_runs_and_none_of_four(draw: Callable, band_of: Callable, predicted: Callable) -> None:
    runs = [predicted(title=f"run {i}", seed=i) for i in range(4)]
    w = np.random.default_rng(0).multinomial(60, np.full(60, 1 / 60), size=50).astype(float)
    bands = [band_of(p.y, p.p, w, 0.9) for p in runs]
    three = draw([(p, "") for p in runs[:3]], bands[:3])
    assert len(three.axes[0].collections) == 3
    filled = three.axes[0].collections[0].get_paths()[0].vertices
    assert filled[:, 1].min() == pytest.approx(min(bands[0].low.min(), bands[0].high.min()))
    assert "central 90 % of the curves of 50 resamples" in three.caption
    four = draw([(p, "") for p in runs], bands)
    assert len(four.axes[0].collections) == 0
    assert "Without bands" in four.caption
    assert len({line.get_marker() for line in curves_of(four)}) == 4
    assert "ands" not in draw([(p, "") for p in runs]).caption
    assert len(draw([(runs[0], "")], [None]).axes[0].collections) == 0


@pytest.mark.parametrize(("draw", "band_of"), PAIRS)
def test_run_without_a_class_has_no_curve_and_is_in_the_legend(
    draw: Callable, band_of: Callable, predicted: Callable
) -> None:
    one = replace(predicted(title="one class"), y=np.zeros(60, dtype=np.int64))
    figure = draw([(one, "–"), (predicted(), "1")])
    assert legend_texts(figure) == ["one class  –", "run  1"]
    assert [len(line.get_xdata()) > 0 for line in curves_of(figure)] == [False, True]


@pytest.mark.parametrize(("draw", "band_of"), PAIRS)
def test_twelve_hostile_runs(
    draw: Callable, band_of: Callable, predicted: Callable, hostile_titles: list[str], check_picture: Callable
) -> None:
    runs = [(predicted(title=t, seed=i), "0.812 (0.761–0.861)") for i, t in enumerate(hostile_titles)]
    check_picture(lambda: draw(runs))
    figure = draw(runs)
    assert len(figure.legends[0].get_texts()) == 12
    assert "[12] " + hostile_titles[11] in figure.caption


@pytest.mark.parametrize(("draw", "band_of"), PAIRS)
def test_hundred_thousand_patients_stay_small(
    draw: Callable, band_of: Callable, predicted: Callable, check_picture: Callable
) -> None:
    runs = [(predicted(n=100_000, seed=i), "") for i in range(2)]
    check_picture(lambda: draw(runs))
    assert all(len(line.get_xdata()) <= 3200 for line in curves_of(draw(runs)))
