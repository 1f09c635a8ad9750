"""Risk-coverage curves."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mmcli.evaluation.figures import draw_risk_coverage


def test_risk_coverage(hostile_titles: list[str], check_picture: Callable) -> None:
    coverage = np.array([0.25, 0.5, 1.0])
    figure = draw_risk_coverage([("a", coverage, np.array([0.0, 0.1, 0.4]), "0.15")])
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_data(), [[0.25, 0.5, 1.0], [0.0, 0.1, 0.4]])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["a  0.15"]
    long = np.arange(1, 100_001) / 100_000
    errors = (np.random.default_rng(i).random(100_000) < 0.3 * long for i in range(12))
    risks = [np.cumsum(e) / np.arange(1, 100_001) for e in errors]
    check_picture(lambda: draw_risk_coverage([(t, long, r, "0.1") for t, r in zip(hostile_titles, risks, strict=True)]))
    check_picture(lambda: draw_risk_coverage([("a", np.ones(1), np.array([math.nan]), "–")]))
