"""Holes that tell a label; groups that folds split."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from mmcli.evaluation.audit import folds, holes
from mmcli.evaluation.audit.holes import logistic, predicted

N = 200
Y = np.arange(N) % 2


def table(seed: int, share: float = 0.2, f: int = 8, n: int = N) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, f)) + Y[:n, None]
    values[rng.random(values.shape) < share] = np.nan
    return values


def test_holes_that_depend_on_the_label_warn(look: Any) -> None:
    for seed in range(5):
        values = table(seed)
        values[(Y == 1) & (np.random.default_rng(99 + seed).random(N) < 0.6), 3] = np.nan
        found = holes.check(look({"y": Y}, tables={"t": values})).findings
        assert [(f.severity, f.where) for f in found] == [("warning", "label y")]
        assert "; t.c3 missing in" in found[0].what.replace("patients; ", "; ")


def test_holes_at_random_are_silent(look: Any) -> None:
    for seed in range(20):
        assert holes.check(look({"y": Y}, tables={"t": table(seed)})).findings == []


def test_missing_modalities_count_and_a_perfect_tell_too(look: Any) -> None:
    rng = np.random.default_rng(0)
    bags = [None if y else rng.normal(size=(2, 3)) for y in Y]
    found = holes.check(look({"y": Y}, bags={"ct": bags})).findings
    assert len(found) == 1 and "modality ct missing in 100% of yes, 0% of no" in found[0].what


def test_constant_masks_say_nothing(look: Any) -> None:
    values = np.random.default_rng(0).normal(size=(N, 3))
    values[:, 1] = np.nan
    report = holes.check(look({"y": Y}, tables={"t": values}))
    assert report.findings == [] and report.skipped == ["holes: y: nothing is missing"]


def test_predictions_are_of_patients_who_were_left_out() -> None:
    """A mask of its own for each patient tells nothing about anybody else."""
    assert np.abs(predicted(np.eye(N), Y, 0)[:, 1] - 0.5).max() < 1e-6


def test_logistic_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.random((150, 12)) < 0.2).astype(float), rng.integers(0, 2, 150)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(x, y)
    np.testing.assert_allclose(logistic(x, y.astype(float)), [*theirs.intercept_, *theirs.coef_[0]], atol=1e-6)


def test_three_classes(look: Any) -> None:
    y = np.arange(150) % 3
    values = np.random.default_rng(0).normal(size=(150, 4))
    values[(y == 2) & (np.arange(150) % 4 > 0), 0] = np.nan
    found = holes.check(look({"y": y}, tables={"t": values}, classes=["a", "b", "c"])).findings
    assert len(found) == 1 and "t.c0 missing in 76% of c, 0% of a" in found[0].what


def test_a_group_on_both_sides_of_a_fold(look: Any) -> None:
    roles = np.array([[1, 1], [1, 3], [2, 2], [3, 1], [1, 1], [3, 3]], np.int8)
    tables = {"t": np.arange(6.0)[:, None]}
    made = {"labels": {"y": [0, 1] * 3}, "tables": tables, "roles": roles}

    def found(group: list[str]) -> list[tuple[str, str]]:
        return [(f.severity, f.what) for f in folds.check(look(**made, group=group)).findings]

    assert found(["a", "b", "c", "d", "a", "e"]) == []
    assert found(["a", "b", "c", "d", "", ""]) == []
    [(severity, what)] = found(["a", "a", "c", "d", "e", "f"])  # p0 trains, p1 tests, in fold 1
    assert severity == "finding" and what.startswith("1 group with patients in training or validation and test")
    [(severity, what)] = found(["a", "b", "a", "d", "e", "f"])
    assert severity == "warning" and "training and validation" in what
    assert folds.check(look(**made)).skipped == ["folds: the stores have no group, so that no fold can split one"]
