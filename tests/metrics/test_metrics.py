"""Every metric against scikit-learn, on random input with ties, absent classes and weights."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mmcli.errors import RequestError
from mmcli.metrics import METRICS, load_metrics
from mmcli.metrics.auc import pairs_in_order

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Labels (n,), probabilities (n, K) with many ties, and the counts (4, n) of four resamples."""
    n, classes = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    used = draw(st.integers(1, classes))
    y = generator.integers(used, size=n)
    p = generator.integers(0, draw(st.sampled_from([2, 5, 1000])), size=(n, classes)) + 1e-3
    drawn = generator.integers(n, size=(4, n))
    w = np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(float)
    return y, p / p.sum(axis=1, keepdims=True), w


def sk_auc(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    drawn = np.unique(y[w > 0])
    if len(drawn) < p.shape[1]:
        return math.nan
    score = p[:, 1] if p.shape[1] == 2 else p
    return sk.roc_auc_score(y, score, sample_weight=w, multi_class="ovr", average="macro")


def sk_specificity(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    """By scikit-learn's one-against-rest confusion matrices."""
    tables = sk.multilabel_confusion_matrix(y, p.argmax(1), labels=range(p.shape[1]), sample_weight=w)
    return float(np.mean([t[0, 0] / t[0].sum() for t in tables if t[0].sum() > 0] or [math.nan]))


def on_drawn_rows(function: Callable[..., float], **options: object) -> Callable[..., float]:
    """A metric of decisions on the rows that the counts stand for, as people write it."""

    def metric(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
        rows = np.repeat(np.arange(len(y)), w.astype(int))
        return function(y[rows], p.argmax(1)[rows], **options)

    return metric


def sk_brier(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    return sk.brier_score_loss(y, p[:, 1] if p.shape[1] == 2 else p, sample_weight=w, labels=range(p.shape[1]))


def slow_ece(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    """Equation 3 of Guo et al. (2017), bin by bin."""
    total = 0.0
    for m in range(10):
        inside = [i for i in range(len(y)) if m / 10 < p[i].max() <= (m + 1) / 10]
        weight = sum(w[i] for i in inside)
        if weight:
            right = sum(w[i] * (p[i].argmax() == y[i]) for i in inside) / weight
            sure = sum(w[i] * p[i].max() for i in inside) / weight
            total += weight / w.sum() * abs(right - sure)
    return total


THEIRS: dict[str, Callable[..., float]] = {
    "auc": sk_auc,
    "accuracy": on_drawn_rows(sk.accuracy_score),
    "balanced_accuracy": on_drawn_rows(sk.balanced_accuracy_score),
    "sensitivity": on_drawn_rows(sk.recall_score, zero_division=np.nan),
    "specificity": on_drawn_rows(sk.recall_score, pos_label=0, zero_division=np.nan),
    "sensitivity_macro": on_drawn_rows(sk.recall_score, average="macro", zero_division=np.nan),
    "specificity_macro": sk_specificity,
    "f1_macro": on_drawn_rows(sk.f1_score, average="macro"),
    "f1_micro": on_drawn_rows(sk.f1_score, average="micro"),
    "brier": sk_brier,
    "log_loss": lambda y, p, w: sk.log_loss(y, p, sample_weight=w, labels=range(p.shape[1])),
    "ece": slow_ece,
}


def test_every_metric_has_something_to_be_held_against() -> None:
    assert set(THEIRS) == set(METRICS.names())


@pytest.mark.parametrize("name", list(THEIRS))
@settings(max_examples=40, deadline=None)
@given(sample=samples())
def test_equals_the_other_implementation(name: str, sample: Sample) -> None:
    y, p, w = sample
    metric = METRICS.get(name)
    if not metric.applies(p.shape[1]):
        y, p = np.minimum(y, 1), np.stack([p[:, 0], 1 - p[:, 0]], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [THEIRS[name](y, p, row) for row in w]
    np.testing.assert_allclose(metric(y, p, w), expected, rtol=0, atol=1e-12)
    assert metric(y, p, w).shape == (4,)


@settings(max_examples=40, deadline=None)
@given(sample=samples())
def test_weights_are_repetitions(sample: Sample) -> None:
    """A patient with weight 2 is a patient who is there twice, for every metric."""
    y, p, w = sample
    rows = np.repeat(np.arange(len(y)), w[0].astype(int))
    for metric in load_metrics(p.shape[1]).values():
        np.testing.assert_allclose(metric(y, p, w)[0], metric.of(y[rows], p[rows]), atol=1e-12)


def test_auc_by_hand() -> None:
    """Of 2 x 3 pairs: 0.9 beats all three, 0.4 beats 0.1, ties with 0.4, loses to 0.5: 4.5 of 6."""
    positive = np.array([True, True, False, False, False])
    score = np.array([0.9, 0.4, 0.1, 0.4, 0.5])
    assert pairs_in_order(positive, score, np.ones((1, 5)))[0] == pytest.approx(4.5 / 6)


def test_confusion_metrics_by_hand() -> None:
    """Labels 0 0 0 1 1 2, decisions 0 0 1 1 0 2."""
    y = np.array([0, 0, 0, 1, 1, 2])
    p = np.eye(3)[[0, 0, 1, 1, 0, 2]]
    values = {name: metric.of(y, p) for name, metric in load_metrics(3).items()}
    assert values["accuracy"] == pytest.approx(4 / 6)
    assert values["sensitivity_macro"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert values["specificity_macro"] == pytest.approx((2 / 3 + 3 / 4 + 1) / 3)
    assert values["f1_macro"] == pytest.approx((4 / 6 + 2 / 4 + 1) / 3)
    assert values["brier"] == pytest.approx(2 * 2 / 6)
    assert "sensitivity" not in values


def test_one_class_only_leaves_the_auc_undefined_and_not_the_accuracy() -> None:
    y, p = np.zeros(3, dtype=int), np.full((3, 2), 0.5)
    metrics = load_metrics(2)
    assert math.isnan(metrics["auc"].of(y, p))
    assert math.isnan(metrics["sensitivity"].of(y, p))
    assert metrics["accuracy"].of(y, p) == 1.0


def test_nobody_gives_no_figure() -> None:
    for metric in load_metrics(2).values():
        assert math.isnan(metric.of(np.zeros(0, dtype=int), np.zeros((0, 2))))


def test_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(RequestError, match="did you mean 'accuracy'"):
        METRICS.get("acuracy")
