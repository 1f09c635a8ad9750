"""Curves of withheld modalities."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from mmcli.evaluation.figures import draw_withheld


def withheld_table(runs: list[str], shares: list[float]) -> pd.DataFrame:
    value = np.random.default_rng(0).uniform(0.5, 0.9, len(runs) * len(shares))
    rows = [(r, s) for r in runs for s in shares]
    run = pd.Series([r for r, _ in rows], dtype=object)
    share = [s for _, s in rows]
    return pd.DataFrame({"run": run, "share": share, "value": value, "low": value - 0.1, "high": value + 0.05})


def test_withheld(hostile_titles: list[str], check_picture: Callable) -> None:
    table = withheld_table(["a", "b"], [0.8, 0.0, 1.0])
    figure = draw_withheld(table, "markers", "AUC")
    axes = figure.axes[0]
    (first,) = [line for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_array_equal(first.get_data(), [[0.0, 0.8, 1.0], table.value[[1, 0, 2]]])
    assert len(axes.collections) == 2
    filled = axes.collections[0].get_paths()[0].vertices
    assert filled[:, 1].max() == table.high[:3].max()
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "80", "100"]
    assert axes.get_xlabel() == "Patients without markers, %"
    check_picture(lambda: draw_withheld(table, "markers", "AUC"))
    many = withheld_table(hostile_titles, [i / 10 for i in range(11)])
    many.loc[7, ["value", "low", "high"]] = math.nan
    assert len(draw_withheld(many, "m", "AUC").axes[0].collections) == 0
    check_picture(lambda: draw_withheld(many, "markers $ of a very long name " * 4, "A metric $ of long name" * 4))
    check_picture(lambda: draw_withheld(withheld_table(["a"], [0.5]).assign(low=math.nan), "m", "AUC"))
