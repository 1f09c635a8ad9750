"""Percentile intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mmcli.evaluation.intervals import percentile


def test_central_share_by_hand() -> None:
    interval = percentile(np.arange(101, dtype=float), 0.9)
    assert (interval.low, interval.high, interval.undefined) == (pytest.approx(5.0), pytest.approx(95.0), 0)


def test_undefined_resamples_are_counted_and_left_out() -> None:
    values = np.append(np.arange(101, dtype=float), [math.nan] * 7)
    interval = percentile(values, 0.9)
    assert (interval.low, interval.undefined) == (pytest.approx(5.0), 7)
    nothing = percentile(np.full(4, math.nan), 0.9)
    assert math.isnan(nothing.low)
    assert math.isnan(nothing.high)
    assert nothing.undefined == 4
