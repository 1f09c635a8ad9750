"""Forest plots."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from mmcli.evaluation.figures import draw_forest


def table_of(names: list[str], metrics: list[str]) -> pd.DataFrame:
    value = np.random.default_rng(0).uniform(0.5, 0.9, len(names) * len(metrics))
    rows = [(n, m) for n in names for m in metrics]
    name = pd.Series([n for n, _ in rows], dtype=object)
    metric = [m for _, m in rows]
    return pd.DataFrame({"name": name, "metric": metric, "value": value, "low": value - 0.1, "high": value + 0.05})


def test_points_intervals_and_reference(check_picture: Callable) -> None:
    table = table_of(["teacher", "student", "guide"], ["auc", "brier"])
    table.loc[table["name"] == "guide", ["low", "high"]] = math.nan
    table.loc[5, "value"] = math.nan  # the guide's Brier score
    titles = {"auc": "AUC", "brier": "Brier score"}
    figure = draw_forest(table, titles, "teacher")
    assert [a.get_title(loc="left") for a in figure.axes] == ["AUC", "Brier score"]
    for axes, metric in zip(figure.axes, titles, strict=True):
        own = table[table["metric"] == metric].set_index("name")
        lines = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_marker() == "|"]
        drawn = [(list(line.get_xdata()), line.get_ydata()[0]) for line in lines]
        assert drawn == [([own.low[n], own.high[n]], y) for y, n in enumerate(["teacher", "student"])]
        points = {line.get_ydata()[0]: line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1}
        assert points == {y: v for y, v in enumerate(own["value"]) if math.isfinite(v)}
        (dashed,) = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert dashed.get_xdata()[0] == own.value["teacher"]
    assert "–" in [t.get_text() for t in figure.axes[1].texts]
    v = table.value[0]
    assert f"{v:.3f} ({v - 0.1:.3f}–{v + 0.05:.3f})" in [t.get_text() for t in figure.axes[0].texts]
    assert "Dashed: the value of teacher." in figure.caption
    check_picture(lambda: draw_forest(table, titles, "teacher"), 2160)


def test_headings_keep_their_rows_together() -> None:
    table = table_of(["female", "A", "male", "A"], ["auc"]).assign(heading=["sex", "site", "sex", "stage"])
    figure = draw_forest(table, {"auc": "AUC"})
    texts = figure.axes[0].texts
    left = sorted((t.xy[1], t.get_text(), t.get_weight()) for t in texts if t.xyann[0] < 0)
    assert [(t, w) for _, t, w in left] == [
        ("sex", "bold"), ("female", "normal"), ("male", "normal"), ("site", "bold"), ("A", "normal"),
        ("stage", "bold"), ("A", "normal"),
    ]  # fmt: skip


@pytest.mark.parametrize(("metrics", "width"), [(1, 1050), (5, 2160)])
def test_twelve_hostile_runs(metrics: int, width: int, hostile_titles: list[str], check_picture: Callable) -> None:
    titles = {f"m{i}": "A metric with $ in a very long title " * (i + 1) for i in range(metrics)}
    table = table_of(hostile_titles, list(titles))
    check_picture(lambda: draw_forest(table, titles, hostile_titles[8]), width)
    assert len(draw_forest(table, titles).axes) == metrics


def test_nothing_is_defined(check_picture: Callable) -> None:
    table = table_of(["one"], ["auc"]).assign(value=math.nan, low=math.nan, high=math.nan)
    check_picture(lambda: draw_forest(table, {"auc": "AUC"}, "one"))
