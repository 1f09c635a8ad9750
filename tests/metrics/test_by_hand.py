"""Numbers worked by hand, and what each metric says where there is nothing to say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mmcli.metrics import METRICS, load_metrics
from mmcli.metrics.auc import pairs_in_order


def two(p: list[float]) -> np.ndarray:
    return np.stack([1 - np.array(p), np.array(p)], axis=1)


def test_auc() -> None:
    """Of 2 x 3 pairs: 0.9 beats all three, 0.4 beats 0.1, ties with 0.4, loses to 0.5: 4.5 of 6."""
    positive = np.array([True, True, False, False, False])
    score = np.array([0.9, 0.4, 0.1, 0.4, 0.5])
    assert pairs_in_order(positive, score, np.ones((1, 5)))[0] == pytest.approx(4.5 / 6)


def test_average_precision() -> None:
    """At 0.9 one of one, at 0.4 two of four (the tie counts as called)."""
    value = METRICS.get("average_precision").of(np.array([1, 1, 0, 0, 0]), two([0.9, 0.4, 0.1, 0.4, 0.5]))
    assert value == pytest.approx((1 + 2 / 4) / 2)


def test_decisions() -> None:
    """Labels 0 0 0 1 1 2, decisions 0 0 1 1 0 2."""
    y = np.array([0, 0, 0, 1, 1, 2])
    p = np.eye(3)[[0, 0, 1, 1, 0, 2]]
    values = {name: metric.of(y, p) for name, metric in load_metrics(3, ordinal=True).items()}
    expected = {
        "accuracy": 4 / 6,
        "accuracy_ovr": (4 / 6 + 4 / 6 + 6 / 6) / 3,
        "balanced_accuracy": (2 / 3 + 1 / 2 + 1) / 3,
        "sensitivity_macro": (2 / 3 + 1 / 2 + 1) / 3,
        "specificity_macro": (2 / 3 + 3 / 4 + 1) / 3,
        "precision_macro": (2 / 3 + 1 / 2 + 1) / 3,
        "f1_macro": (4 / 6 + 2 / 4 + 1) / 3,
        "f1_weighted": (3 * 4 / 6 + 2 * 2 / 4 + 1) / 6,
        "f1_of_macro": (2 / 3 + 1 / 2 + 1) / 3,
        "kappa": (4 / 6 - 14 / 36) / (1 - 14 / 36),
        "mcc": (4 * 6 - 14) / (36 - 14),
        "ordinal_mae": 2 / 6,
        "brier": 2 * 2 / 6,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_quadratic_kappa() -> None:
    """Labels 001122, decisions 011220: sum(D O) = 1 + 1 + 4 = 6; margins are 2, 2, 2, so sum(D E) = 48 / 6 = 8."""
    value = METRICS.get("kappa_quadratic").of(np.array([0, 0, 1, 1, 2, 2]), np.eye(3)[[0, 1, 1, 2, 2, 0]])
    assert value == pytest.approx(0.25)


def test_the_accuracy_of_mdfns_table() -> None:
    """0.863 there, for five classes, is 0.6575 of the patients: 263 of 400."""
    y = np.zeros(400, dtype=int)
    p = np.eye(5)[np.repeat([0, 1], [263, 137])]
    assert METRICS.get("accuracy").of(y, p) == pytest.approx(0.6575)
    assert METRICS.get("accuracy_ovr").of(y, p) == pytest.approx(0.863)


def test_a_class_that_is_never_called_has_no_precision_and_costs_macro_precision() -> None:
    """All four are called 0 and three are: precision 3/4 and 0, recall 1 and 0."""
    y, p = np.array([0, 0, 0, 1]), two([0.1] * 4)
    values = {name: metric.of(y, p) for name, metric in load_metrics(2).items()}
    assert math.isnan(values["precision"])
    assert values["npv"] == 0.75
    assert values["f1"] == 0
    assert values["precision_macro"] == 0.375
    assert values["f1_of_macro"] == pytest.approx(2 * 0.375 * 0.5 / 0.875)
    assert values["mcc"] == values["kappa"] == 0


def test_all_decisions_wrong_is_zero_and_not_undefined() -> None:
    assert METRICS.get("f1_of_macro").of(np.array([0, 1]), two([0.9, 0.1])) == 0


def test_one_class_only() -> None:
    """What compares classes is undefined; the share that is right is not."""
    y, p = np.zeros(3, dtype=int), np.full((3, 2), 0.5)
    values = {name: metric.of(y, p) for name, metric in load_metrics(2).items()}
    undefined = {name for name, value in values.items() if math.isnan(value)}
    assert undefined == {
        "auc", "average_precision", "sensitivity", "precision", "f1", "mcc", "kappa", "calibration_slope",
        "calibration_intercept", "sensitivity_at_90_specificity", "sensitivity_at_95_specificity",
    }  # fmt: skip
    assert values["accuracy"] == 1.0


def test_all_get_the_same_class_with_a_perfect_auc() -> None:
    """The default table's reason to show decisions and calibration beside the AUC."""
    y, p = np.array([0, 0, 1, 1]), two([0.01, 0.02, 0.03, 0.04])
    assert METRICS.get("auc").of(y, p) == 1.0
    assert METRICS.get("balanced_accuracy").of(y, p) == 0.5
    assert METRICS.get("sensitivity").of(y, p) == 0.0


def test_sensitivity_at_a_specificity() -> None:
    """Of ten negatives one may score as high: the two positives above the second negative are found, of four."""
    p = [0.9, 0.6, 0.5, 0.1, 0.7, 0.5, 0.4, 0.3, 0.3, 0.3, 0.2, 0.2, 0.2, 0.2]
    y = np.array([1] * 4 + [0] * 10)
    assert METRICS.get("sensitivity_at_90_specificity").of(y, two(p)) == 2 / 4
    assert METRICS.get("sensitivity_at_95_specificity").of(y, two(p)) == 1 / 4


def test_risk_and_coverage() -> None:
    """Confidences .9 .8 .8 .6, the second and the last wrong: risks 0, 1/3, 1/3, 2/4."""
    p = two([0.9, 0.8, 0.2, 0.6])
    y = np.array([1, 0, 0, 0])
    assert METRICS.get("aurc").of(y, p) == pytest.approx((0 + 1 / 3 + 1 / 3 + 1 / 2) / 4)


def test_an_unsure_model_has_its_error_rate_as_area() -> None:
    assert METRICS.get("aurc").of(np.array([0, 0, 1, 1]), two([0.3] * 4)) == pytest.approx(0.5)


def test_classes_without_patients_leave_weighted_means_alone() -> None:
    """Nobody has class 2: the AUCs of 0 and 1 against the rest, each half of the patients."""
    y = np.array([0, 0, 1, 1])
    p = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.6, 0.1], [0.4, 0.4, 0.2]])
    assert METRICS.get("auc_weighted").of(y, p) == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert math.isnan(METRICS.get("auc").of(y, p))
    assert math.isnan(METRICS.get("auc_ovo").of(y, p))
