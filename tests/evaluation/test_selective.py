"""The risk-coverage curve against hand-worked numbers, every threshold, and the AURC metric."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcli.evaluation.selective import risk_coverage
from mmcli.metrics.aurc import AURC


def test_by_hand() -> None:
    # Confidences 0.9, 0.8, 0.7, 0.6; the second is wrong.
    p = np.array([[0.7, 0.3], [0.1, 0.9], [0.8, 0.2], [0.4, 0.6]])
    coverage, risk = risk_coverage(np.array([0, 1, 1, 1]), p)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])


def test_ties_are_accepted_together() -> None:
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.6, 0.4]])
    coverage, risk = risk_coverage(np.array([0, 0, 0, 1]), p)
    assert coverage.tolist() == [0.25, 1.0]
    assert risk.tolist() == [0.0, 0.5]


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(2, 4), st.integers(0, 2**31))
def test_is_what_thresholds_do_and_its_area_the_metric(n: int, classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    y = generator.integers(0, classes, n)
    p = generator.dirichlet(np.ones(classes), n)[generator.integers(0, n, n)]
    coverage, risk = risk_coverage(y, p)
    confidence, wrong = p.max(axis=1), p.argmax(axis=1) != y
    accepted = [confidence >= t for t in np.unique(confidence)[::-1]]
    assert coverage == pytest.approx([a.mean() for a in accepted])
    assert risk == pytest.approx([wrong[a].mean() for a in accepted])
    assert np.diff(coverage, prepend=0.0) @ risk == pytest.approx(AURC.of(y, p), abs=1e-12)


def test_nobody() -> None:
    coverage, risk = risk_coverage(np.zeros(0, dtype=np.int64), np.zeros((0, 2)))
    assert len(coverage) == len(risk) == 0
