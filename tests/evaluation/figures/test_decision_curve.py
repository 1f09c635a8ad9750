"""Decision curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mmcli.evaluation.curves import net_benefit
from mmcli.evaluation.figures import draw_decision_curve


def test_decision_curve(predicted: Callable, check_picture: Callable) -> None:
    runs = [predicted(title="a"), predicted(title="b", seed=1)]
    figure = draw_decision_curve(runs, most=0.6)
    axes = figure.axes[0]
    assert axes.get_xlim() == (0, 0.6)
    for line, p in zip(axes.lines[:2], runs, strict=True):
        x, y = line.get_data()
        assert (x[0], x[-1]) == (0.005, 0.6)
        np.testing.assert_array_equal(y, net_benefit(p.y == 1, p.p[:, 1], x))
    everybody, nobody = axes.lines[2:]
    x, y = everybody.get_data()
    np.testing.assert_allclose(y, 0.5 - 0.5 * x / (1 - x))
    assert list(nobody.get_ydata()) == [0, 0]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["a", "b", "treat all", "treat none"]
    check_picture(lambda: draw_decision_curve(runs))


def test_decision_curve_ends_where_no_run_is_of_use(predicted: Callable, check_picture: Callable) -> None:
    generator = np.random.default_rng(0)
    y = (np.arange(1000) < 30).astype(np.int64)
    score = generator.uniform(0.0, 0.1, 1000)
    rare = replace(predicted(n=1000), y=y, p=np.stack([1 - score, score], axis=1))
    assert draw_decision_curve([rare]).axes[0].get_xlim() == (0, 0.1)
    perfect = replace(rare, p=np.stack([1.0 - y, y], axis=1))
    assert draw_decision_curve([rare, perfect]).axes[0].get_xlim() == (0, 0.95)
    check_picture(lambda: draw_decision_curve([rare]))
    for label in (0, 1):
        only = replace(predicted(n=5), y=np.full(5, label))
        check_picture(lambda only=only: draw_decision_curve([only]))


def test_decision_curves_of_hostile_runs(
    predicted: Callable, hostile_titles: list[str], check_picture: Callable
) -> None:
    check_picture(lambda: draw_decision_curve([predicted(title=t, seed=i) for i, t in enumerate(hostile_titles)]))
