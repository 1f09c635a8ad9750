"""Every metric against scikit-learn, or a slow obvious loop, on random input with ties, absent classes and weights."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mmcli.metrics import METRICS, load_metrics, per_class, values_of
from mmcli.metrics.auc import pairs_in_order

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]
Other = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
AP = sk.average_precision_score


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Labels (n,), probabilities (n, K) with many ties, weights (3, n): counts of two resamples, and real numbers."""
    n, classes = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    used = draw(st.integers(1, classes))
    y = generator.integers(used, size=n)
    p = generator.integers(0, draw(st.sampled_from([2, 5, 1000])), size=(n, classes)) + 1e-3
    p = p / p.sum(axis=1, keepdims=True)
    counts = [np.bincount(generator.integers(n, size=n), minlength=n).astype(float) for _ in range(2)]
    real = generator.uniform(0.1, 3, size=n) * (generator.random(n) < 0.8)
    real[0] = 1.0
    return y, p, np.stack([*counts, real])


def one_hot(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    return np.eye(p.shape[1])[y]


def lacks_a_class(y: np.ndarray, p: np.ndarray) -> bool:
    return len(np.unique(y)) < p.shape[1]


def of_columns(function: Callable[..., float], average: str) -> Other:
    """A ranking metric of the probabilities' columns; the macro one of two classes is the last one's."""

    def metric(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
        if p.shape[1] == 2 and average == "macro":
            return function(y, p[:, 1], sample_weight=w)
        return function(one_hot(y, p), p, sample_weight=w, average=average)

    return metric


def average_precision(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    undefined = lacks_a_class(y, p) if p.shape[1] > 2 else not y.any()
    return math.nan if undefined else of_columns(AP, average="macro")(y, p, w)


def unless_a_class_lacks(metric: Other) -> Other:
    return lambda y, p, w: math.nan if lacks_a_class(y, p) else metric(y, p, w)


def of_decisions(function: Callable[..., float], **options: Any) -> Other:
    return lambda y, p, w: function(y, p.argmax(1), sample_weight=w, **options)


def ovo(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    """Hand and Till, pair by pair: scikit-learn's own takes no weights."""
    areas = []
    for j, k in combinations(range(p.shape[1]), 2):
        for a, b in ((j, k), (k, j)):
            pair = (y == a) | (y == b)
            areas.append(sk.roc_auc_score(y[pair] == a, p[pair, a], sample_weight=w[pair]))
            assert b in (j, k)
    return float(np.mean(areas))


def slow_auc_weighted(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    """The mean over the classes that are there: scikit-learn has none where one is not."""
    there = np.unique(y)
    if len(there) == 1:
        return math.nan
    areas = [sk.roc_auc_score(y == k, p[:, k], sample_weight=w) for k in there]
    return float(np.average(areas, weights=[w[y == k].sum() for k in there]))


def specificity_macro(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    """Of each class that is not everybody's: the share of the rest that is called something else."""
    decided = p.argmax(1)
    rests = [(k, y != k) for k in range(p.shape[1])]
    return float(np.mean([np.average(decided[r] != k, weights=w[r]) for k, r in rests if r.any()] or [math.nan]))


def accuracy_ovr(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    """One confusion matrix a class, as the tables of papers have it."""
    tables = sk.multilabel_confusion_matrix(y, p.argmax(1), labels=range(p.shape[1]), sample_weight=w)
    return float(np.mean([(t[0, 0] + t[1, 1]) / t.sum() for t in tables]))


def f1_of_macro(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    decided = p.argmax(1)
    precision = sk.precision_score(y, decided, average="macro", zero_division=0, sample_weight=w)
    recall = sk.recall_score(y, decided, average="macro", zero_division=np.nan, sample_weight=w)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def mcc(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    return sk.matthews_corrcoef(y, p.argmax(1), sample_weight=w) if len(np.unique(y)) > 1 else math.nan


def kappa(weights: str | None) -> Other:
    def metric(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
        labels = range(p.shape[1])
        return sk.cohen_kappa_score(y, p.argmax(1), labels=labels, weights=weights, sample_weight=w)

    return metric


def brier(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
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


def at_specificity(specificity: float) -> Other:
    def metric(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
        if lacks_a_class(y, p):
            return math.nan
        false, found, _ = sk.roc_curve(y, p[:, 1], sample_weight=w, drop_intermediate=False)
        return max(t for f, t in zip(false, found, strict=True) if 1 - f >= specificity - 1e-12)

    return metric


def slow_aurc(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    """Each patient's risk by looking at all others."""
    sure, wrong = p.max(1), p.argmax(1) != y
    risks = [sum(w[wrong & (sure >= s)]) / sum(w[sure >= s]) for s in sure]
    return float(np.average(risks, weights=w))


THEIRS: dict[str, Other] = {
    "auc": unless_a_class_lacks(of_columns(sk.roc_auc_score, average="macro")),
    "auc_ovo": unless_a_class_lacks(ovo),
    "auc_weighted": slow_auc_weighted,
    "auc_micro": of_columns(sk.roc_auc_score, average="micro"),
    "average_precision": average_precision,
    "average_precision_weighted": of_columns(AP, average="weighted"),
    "average_precision_micro": of_columns(AP, average="micro"),
    "accuracy": of_decisions(sk.accuracy_score),
    "accuracy_ovr": accuracy_ovr,
    "balanced_accuracy": of_decisions(sk.balanced_accuracy_score),
    "sensitivity": of_decisions(sk.recall_score, zero_division=np.nan),
    "specificity": of_decisions(sk.recall_score, pos_label=0, zero_division=np.nan),
    "precision": of_decisions(sk.precision_score, zero_division=np.nan),
    "npv": of_decisions(sk.precision_score, pos_label=0, zero_division=np.nan),
    "f1": of_decisions(sk.f1_score, zero_division=np.nan),
    "sensitivity_macro": of_decisions(sk.recall_score, average="macro", zero_division=np.nan),
    "specificity_macro": specificity_macro,
    "precision_macro": of_decisions(sk.precision_score, average="macro", zero_division=0),
    "f1_macro": of_decisions(sk.f1_score, average="macro"),
    "f1_micro": of_decisions(sk.f1_score, average="micro"),
    "f1_weighted": of_decisions(sk.f1_score, average="weighted"),
    "f1_of_macro": f1_of_macro,
    "mcc": mcc,
    "kappa": kappa(None),
    "kappa_quadratic": kappa("quadratic"),
    "ordinal_mae": of_decisions(sk.mean_absolute_error),
    "brier": brier,
    "log_loss": lambda y, p, w: sk.log_loss(y, p, sample_weight=w, labels=range(p.shape[1])),
    "ece": slow_ece,
    "sensitivity_at_90_specificity": at_specificity(0.9),
    "sensitivity_at_95_specificity": at_specificity(0.95),
    "aurc": slow_aurc,
}
ITERATED = {"calibration_slope", "calibration_intercept"}


def theirs(name: str, y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    there = w > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(THEIRS[name](y[there], p[there], w[there]))


def test_every_metric_has_something_to_be_held_against() -> None:
    assert set(THEIRS) | ITERATED == set(METRICS.names())


@pytest.mark.parametrize("name", list(THEIRS))
@settings(max_examples=25, deadline=None)
@given(sample=samples())
def test_equals_the_other_implementation(name: str, sample: Sample) -> None:
    y, p, w = sample
    metric = METRICS.get(name)
    if metric.two_classes_only:
        y, p = np.minimum(y, 1), np.stack([p[:, 0], 1 - p[:, 0]], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = metric(y, p, w)
    np.testing.assert_allclose(ours, [theirs(name, y, p, row) for row in w], rtol=0, atol=1e-12)
    assert ours.shape == (3,)


@settings(max_examples=20, deadline=None)
@given(sample=samples())
def test_weights_are_repetitions(sample: Sample) -> None:
    """A patient with weight 2 is a patient who is there twice, and who has weight 0 is not there, for every metric."""
    y, p, w = sample
    rows = np.repeat(np.arange(len(y)), w[0].astype(int))
    for metric in load_metrics(p.shape[1], ordinal=True).values():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawn, repeated, scaled = metric(y, p, w)[0], metric.of(y[rows], p[rows]), metric(y, p, 0.3 * w)[0]
        tolerance = 1e-8 if metric.name in ITERATED else 1e-12
        np.testing.assert_allclose([repeated, scaled], [drawn, drawn], rtol=tolerance, atol=tolerance)


@settings(max_examples=20, deadline=None)
@given(sample=samples())
def test_each_class_against_the_rest(sample: Sample) -> None:
    y, p, w = sample
    found = per_class(y, p, w)
    decided = p.argmax(1)
    for k in range(p.shape[1]):
        for b, row in enumerate(w):
            there = row > 0
            is_k, called, weight = y[there] == k, decided[there] == k, row[there]
            expected = {
                "auc": math.nan if is_k.all() or not is_k.any()
                else sk.roc_auc_score(is_k, p[there, k], sample_weight=weight),
                "average_precision": AP(is_k, p[there, k], sample_weight=weight) if is_k.any() else math.nan,
                "sensitivity": sk.recall_score(is_k, called, sample_weight=weight, zero_division=np.nan),
                "specificity": sk.recall_score(~is_k, ~called, sample_weight=weight, zero_division=np.nan),
                "precision": sk.precision_score(is_k, called, sample_weight=weight, zero_division=np.nan),
                "f1": sk.f1_score(is_k, called, sample_weight=weight, zero_division=np.nan),
            }  # fmt: skip
            ours = {name: values[b, k] for name, values in found.items()}
            assert ours == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_one_against_one_equals_scikit_learns_own() -> None:
    generator = np.random.default_rng(0)
    y, p = generator.integers(4, size=60), generator.integers(1, 9, size=(60, 4)).astype(float)
    p /= p.sum(axis=1, keepdims=True)
    assert METRICS.get("auc_ovo").of(y, p) == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovo"), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(sample=samples())
def test_any_score_can_be_ranked(sample: Sample) -> None:
    y, p, w = sample
    score, positive = np.round(10 * p[:, 0] - 3, 1), y == 0
    expected = [
        sk.roc_auc_score(positive[r > 0], score[r > 0], sample_weight=r[r > 0])
        if 0 < positive[r > 0].sum() < (r > 0).sum()
        else math.nan
        for r in w
    ]
    np.testing.assert_allclose(pairs_in_order(positive, score, w), expected, atol=1e-12)


@settings(max_examples=12, deadline=None)
@given(sample=samples())
def test_together_as_one_by_one(sample: Sample) -> None:
    """What is shared is right for each: also where decisions are not those of the probabilities."""
    y, p, w = sample
    metrics = list(load_metrics(p.shape[1], ordinal=True).values())
    np.testing.assert_array_equal(values_of(metrics, y, p, w), [m(y, p, w) for m in metrics])
    other = np.roll(p, 1, axis=1)
    expected = [m(y, other if m.about == "decisions" else p, w) for m in metrics]
    np.testing.assert_array_equal(values_of(metrics, y, p, w, decisions=other), expected)
