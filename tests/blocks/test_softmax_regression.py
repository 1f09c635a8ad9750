from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from mmcli.blocks.softmax_regression import STRENGTHS, SoftmaxRegression


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("balanced", [False, True])
def test_the_same_as_scikit_learns_cross_validated_regression(classes: int, balanced: bool) -> None:
    rng = np.random.default_rng(classes)
    x = rng.normal(2, 3, (150, 6))
    y = (x[:, 0] + 3 * rng.normal(size=150) > 2).astype(int) + (classes - 2) * (x[:, 1] > 4)
    model = SoftmaxRegression(6, classes)
    model.fit(x, y, folds=5, seed=7, balanced=balanced)
    folds = StratifiedKFold(5, shuffle=True, random_state=7)
    model_of = LogisticRegression(class_weight="balanced" if balanced else None, tol=1e-8, max_iter=10_000)
    reference = GridSearchCV(model_of, {"C": STRENGTHS}, scoring="neg_log_loss", cv=folds)
    scaler = StandardScaler().fit(x)
    reference.fit(scaler.transform(x), y)
    expected = reference.predict_proba(scaler.transform(x))
    assert np.abs(model(torch.from_numpy(x)).softmax(-1).numpy() - expected).max() < 1e-4


def test_classes_and_columns_without_anything_to_learn_from() -> None:
    model = SoftmaxRegression(2, 3)
    model.fit(np.zeros((0, 2)), np.zeros(0, np.int64), 5, 0, False)
    assert not model.fitted
    model.fit(np.ones((4, 2)), np.array([1, 1, 1, 1]), 5, 0, False)
    assert model.fitted and model(torch.zeros(1, 2)).softmax(-1)[0].tolist() == pytest.approx([1 / 7, 5 / 7, 1 / 7])
    x = np.array([[0.0, 1], [1, 1], [2, 1], [3, 1]])
    model.fit(x, np.array([0, 0, 2, 2]), 2, 0, False)
    assert (model.weight[:, 1] == 0).all() and (model.weight[1] == 0).all() and model.weight[2, 0] > 0
    model.fit(x, np.array([0, 0, 0, 2]), 5, 0, False)  # one row of a class: no inner folds, strongest penalty
    assert 0 < model.weight[2, 0] < 1e-3
