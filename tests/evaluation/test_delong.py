"""DeLong against its published example, an obvious slow implementation, and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcli.evaluation.delong import Delong, delong
from mmcli.metrics.auc import auc
from mmcli.metrics.metric import Floats, Ints

# Albumin, total protein, Krebs-Goplerud score, benefit from surgery: the 43 complete patients of DeLong, DeLong and
# Clarke-Pearson (1988), as the SAS/STAT User's Guide prints them under "Comparing Receiver Operating Characteristic
# Curves"; the expected figures are its output.
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1   3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0   3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1   3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0   2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


def of_scores(y: Ints, *scores: Floats, clusters: np.ndarray | None = None) -> Delong:
    return delong(y, [np.stack([-s, s], axis=1) for s in scores], clusters)


def ovarian() -> tuple[Ints, Floats, Floats, Floats]:
    table = np.array(OVARIAN.split(), dtype=float).reshape(43, 4)
    return table[:, 3].astype(np.int64), table[:, 0], table[:, 1], 10 - table[:, 2]


def obvious(positive: np.ndarray, scores: Floats, unit: np.ndarray) -> tuple[Floats, Floats]:
    """AUCs (R,) and Obuchowski's covariance (R, R), written pair by pair; DeLong's where each row is a unit."""
    runs = len(scores)
    own, rest = np.flatnonzero(positive), np.flatnonzero(~positive)
    psi = np.array(
        [[[1.0 if s[i] > s[j] else 0.5 if s[i] == s[j] else 0.0 for j in rest] for i in own] for s in scores]
    )
    areas = psi.mean(axis=(1, 2))
    units = sorted(set(unit))
    a = np.array([[sum(psi[r, x].mean() - areas[r] for x, i in enumerate(own) if unit[i] == u) for u in units]
                  for r in range(runs)])  # fmt: skip
    b = np.array([[sum(psi[r, :, x].mean() - areas[r] for x, j in enumerate(rest) if unit[j] == u) for u in units]
                  for r in range(runs)])  # fmt: skip
    m, n = len(own), len(rest)
    with_own, with_rest, every = len(set(unit[own])), len(set(unit[rest])), len(units)
    found = np.empty((runs, runs))
    for r in range(runs):
        for s in range(runs):
            s10 = with_own / ((with_own - 1) * m) * sum(a[r] * a[s])
            s01 = with_rest / ((with_rest - 1) * n) * sum(b[r] * b[s])
            s11 = every / (every - 1) * sum(a[r] * b[s]), every / (every - 1) * sum(a[s] * b[r])
            found[r, s] = s10 / m + s01 / n + sum(s11) / (m * n)
    return areas, found


def test_published_example() -> None:
    y, albumin, protein, score = ovarian()
    found = of_scores(y, albumin, score, protein)
    assert found.auc == pytest.approx([0.7366, 0.7258, 0.6478], abs=5e-5)
    assert np.sqrt(np.diag(found.covariance)) == pytest.approx([0.0927, 0.1028, 0.1000], abs=5e-5)
    assert found.interval(0.95, 0, logit=False) == pytest.approx((0.5549, 0.9182), abs=5e-5)
    assert found.interval(0.95, 1, logit=False) == pytest.approx((0.5243, 0.9273), abs=5e-5)
    assert found.interval(0.95, 2, logit=False) == pytest.approx((0.4518, 0.8439), abs=5e-5)
    d = found.difference(2, 1)
    assert (d.value, d.se, d.low, d.high) == pytest.approx((-0.0780, 0.1046, -0.2830, 0.1271), abs=5e-5)
    assert (d.z**2, d.p) == pytest.approx((0.5554, 0.4561), abs=5e-5)
    assert found.difference(0, 1).p == pytest.approx(0.9102, abs=5e-5)
    contrast = np.array([[1.0, -1.0, 0.0], [0.0, -1.0, 1.0]])
    value = contrast @ found.auc
    chi2 = value @ np.linalg.solve(contrast @ found.covariance @ contrast.T, value)
    assert chi2 == pytest.approx(2.5340, abs=5e-5)


@st.composite
def studies(draw: st.DrawFn) -> tuple[Ints, Floats, np.ndarray]:
    """Labels, scores of three runs with many ties, and clusters that may hold both classes."""
    n = draw(st.integers(6, 24))
    seed = draw(st.integers(0, 2**31))
    generator = np.random.default_rng(seed)
    y = np.append([0, 0, 1, 1], generator.integers(0, 2, n - 4)).astype(np.int64)
    scores = generator.integers(0, draw(st.integers(1, 30)), (3, n)) / 30
    # The first four rows are of four units, so that each class has two.
    unit = np.append(np.arange(4), generator.integers(0, draw(st.integers(4, 9)), n - 4))
    return y, scores, unit


@settings(deadline=None)
@given(studies())
def test_equals_the_obvious(study: tuple[Ints, Floats, np.ndarray]) -> None:
    y, scores, unit = study
    for clusters, own in ((None, np.arange(len(y))), (np.array([f"p{u}" for u in unit], dtype=object), unit)):
        found = of_scores(y, *scores, clusters=clusters)
        areas, covariance = obvious(y == 1, scores, own)
        assert found.auc == pytest.approx(areas, abs=1e-12)
        assert found.covariance == pytest.approx(covariance, abs=1e-12)


@settings(deadline=None)
@given(studies())
def test_classes_are_the_obvious_ones_and_their_mean_is_the_metric(study: tuple[Ints, Floats, np.ndarray]) -> None:
    y, _, unit = study
    y = np.append(y, [2, 2])
    unit = np.append(unit, [0, 1])
    generator = np.random.default_rng(int(unit.sum()))
    p = [generator.integers(0, 6, (len(y), 3)) / 6 for _ in range(2)]
    for clusters, own in ((None, np.arange(len(y))), (unit, unit)):
        found = delong(y, p, clusters)
        for k in range(3):
            areas, covariance = obvious(y == k, np.stack([q[:, k] for q in p]), own)
            assert found.per_class_auc[:, k] == pytest.approx(areas, abs=1e-12)
            assert found.per_class_covariance[k] == pytest.approx(covariance, abs=1e-12)
    ones = np.ones((1, len(y)))
    assert found.auc == pytest.approx([auc(y, q, ones)[0] for q in p], abs=1e-12)


def test_two_classes_are_two_views_of_one_question() -> None:
    generator = np.random.default_rng(5)
    y = generator.integers(0, 2, 50)
    p = generator.random(50)
    found = delong(y, [np.stack([1 - p, p], axis=1)])
    assert found.per_class_auc[0, 0] == pytest.approx(found.per_class_auc[0, 1], abs=1e-14)
    assert found.per_class_covariance[0] == pytest.approx(found.per_class_covariance[1], abs=1e-14)
    assert found.auc[0] == found.per_class_auc[0, 1]


def test_each_row_a_cluster_is_no_clusters() -> None:
    generator = np.random.default_rng(6)
    y, p = generator.integers(0, 4, 60), generator.random((2, 60, 4))
    plain, clustered = delong(y, list(p)), delong(y, list(p), np.arange(60)[::-1])
    assert clustered.covariance == pytest.approx(plain.covariance, rel=1e-12)
    assert clustered.per_class_covariance == pytest.approx(plain.per_class_covariance, rel=1e-12)


def test_copies_of_each_patient_add_no_knowledge() -> None:
    y, albumin, _, score = ovarian()
    once = of_scores(y, albumin, score)
    twice = of_scores(np.tile(y, 2), np.tile(albumin, 2), np.tile(score, 2), clusters=np.tile(np.arange(43), 2))
    assert twice.covariance == pytest.approx(once.covariance, rel=1e-12)


def simulated(generator: np.random.Generator, n: int) -> tuple[Ints, list[Floats]]:
    """Patients of four classes, unequally many, and two correlated runs."""
    y = generator.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
    shared = np.eye(4)[y] * 1.2 + generator.normal(size=(n, 4))
    runs = [np.exp(shared + generator.normal(size=(n, 4)) * s) for s in (0.5, 1.0)]
    return y, [r / r.sum(axis=1, keepdims=True) for r in runs]


def test_macro_variance_is_that_of_repeated_studies() -> None:
    """The variance of the macro AUC, and of the difference of two, over 1500 studies is what each study estimates."""
    generator = np.random.default_rng(7)
    each = [delong(*simulated(generator, 150)) for _ in range(1500)]
    areas = np.array([d.auc for d in each])
    observed = np.cov(areas.T)
    estimated = np.mean([d.covariance for d in each], axis=0)
    # A variance from 1500 studies has a relative standard error of 3.7 %.
    assert estimated == pytest.approx(observed, rel=0.12)
    differences = [d.difference(0, 1) for d in each]
    truth = areas.mean(axis=0) @ [1, -1]
    held = np.mean([d.low <= truth <= d.high for d in differences])
    assert held == pytest.approx(0.95, abs=0.02)


def test_clustered_interval_holds_where_the_plain_one_does_not() -> None:
    generator = np.random.default_rng(8)
    held = {True: 0, False: 0}
    for _ in range(600):
        patient = np.repeat(np.arange(60), 4)
        y = np.repeat(generator.integers(0, 2, 60), 4)
        score = y + np.repeat(generator.normal(size=60), 4) + 0.5 * generator.normal(size=240)
        for clustered in held:
            low, high = of_scores(y, score, clusters=patient if clustered else None).interval(0.95)
            # P(N(1, 2 * 1.25) > 0)
            held[clustered] += low <= 0.7365 <= high
    assert held[True] / 600 == pytest.approx(0.95, abs=0.03)
    assert held[False] / 600 < 0.8


def test_limits_on_both_scales_by_hand() -> None:
    found = Delong(np.array([0.9]), np.array([[0.0016]]), np.array([[0.9, 0.9]]), np.full((2, 1, 1), 0.0016))
    assert found.interval(0.95, logit=False) == pytest.approx((0.9 - 0.0783986, 0.9 + 0.0783986), abs=1e-7)
    # logit(0.9) = ln 9, its standard error 0.04 / 0.09.
    low, high = math.log(9) - 0.871095, math.log(9) + 0.871095
    expected = 1 / (1 + math.exp(-low)), 1 / (1 + math.exp(-high))
    assert found.interval(0.95) == pytest.approx(expected, abs=1e-6)
    assert found.class_interval(0, 0.95) == found.interval(0.95)
    wide = Delong(np.array([0.9]), np.array([[0.01]]), np.array([[0.9, 0.9]]), np.full((2, 1, 1), 0.01))
    assert wide.interval(0.95, logit=False)[1] == 1.0


@pytest.mark.filterwarnings("error")
def test_what_the_formula_cannot_say_is_nan() -> None:
    y = np.array([0, 0, 0, 1, 1])
    perfect, constant = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.full(5, 0.3)
    found = of_scores(y, perfect, perfect**2, constant)
    assert found.auc.tolist() == [1.0, 1.0, 0.5]
    for i in range(3):
        assert np.isnan(found.interval(0.95, i)).all()
        assert np.isnan(found.interval(0.95, i, logit=False)).all()
    same = found.difference(0, 1)
    assert (same.value, same.se, same.z, same.p) == (0.0, 0.0, 0.0, 1.0)
    assert math.isnan(same.low)
    assert math.isnan(found.difference(0, 2).p)
    for few in (np.array([0, 0, 0, 0, 1]), np.zeros(5, dtype=np.int64)):
        found = of_scores(few, perfect, constant)
        assert np.isnan(found.covariance).all()
        assert np.isnan(found.interval()).all()
        assert math.isnan(found.difference(0, 1).p)
    assert of_scores(np.array([0, 0, 0, 0, 1]), perfect).auc[0] == 1.0
    assert np.isnan(of_scores(np.zeros(0, dtype=np.int64), np.zeros(0)).auc).all()
    missing = delong(np.array([0, 1, 0, 1]), [np.full((4, 3), 1 / 3)], np.arange(4))
    assert np.isnan(missing.auc).all()
    assert missing.per_class_auc[0, 0] == 0.5


def test_equal_runs_differ_by_nothing() -> None:
    generator = np.random.default_rng(9)
    y, p = generator.integers(0, 3, 2000), generator.random((2000, 3))
    # The same order by another route: roots do not change it.
    d = delong(y, [p, np.sqrt(p)]).difference(0, 1)
    assert (d.value, d.se, d.p) == (0.0, 0.0, 1.0)
    assert math.isnan(d.low)
