"""Reliability diagrams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from statsmodels.stats.proportion import proportion_confint

from mmcli.evaluation.figures import draw_reliability


@pytest.mark.parametrize("classes", [2, 5])
def test_points_limits_and_bars(classes: int, predicted: Callable, check_picture: Callable) -> None:
    p = predicted(classes, "x" * 90, n=300)
    figure = draw_reliability(p, "Brier 0.1 $ (0.1–0.2)", 0.9)
    sure, true = (p.p[:, 1], p.y == 1) if classes == 2 else (p.p.max(axis=1), p.y == p.p.argmax(axis=1))
    share, mean = calibration_curve(true, sure, n_bins=10)
    above, below = figure.axes
    points = above.containers[0].lines[0]
    np.testing.assert_allclose(points.get_data(), [mean, share])
    bars = np.array([b.get_height() for b in below.patches], dtype=int)
    assert bars.sum() == 300
    hits = np.rint(share * bars[bars > 0]).astype(int)
    expected = np.array([proportion_confint(h, n, 0.1, "wilson") for h, n in zip(hits, bars[bars > 0], strict=True)])
    segments = np.array(above.containers[0].lines[2][0].get_segments())
    np.testing.assert_allclose(segments[:, :, 1], expected, atol=1e-9)
    what = "class $1" if classes == 2 else "the likeliest class"
    assert what in figure.caption
    assert below.get_xlabel().replace("\\", "") == f"Probability of {what}"
    check_picture(lambda: draw_reliability(p, "Brier 0.1 $ (0.1–0.2)", 0.9))


def test_five_patients_of_one_class(predicted: Callable, check_picture: Callable) -> None:
    p = replace(predicted(n=5), y=np.ones(5, dtype=np.int64))
    check_picture(lambda: draw_reliability(p))


def test_hundred_thousand_patients(predicted: Callable, check_picture: Callable) -> None:
    p = predicted(n=100_000)
    check_picture(lambda: draw_reliability(p))
