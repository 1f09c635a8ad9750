from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from mmcli.blocks.tree_ensemble import TreeEnsemble, boosted_trees, forest_trees


def made(classes: int, holes: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(classes)
    x = rng.normal(size=(300, 6)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] + 0.5 * rng.normal(size=300) > 0).astype(int) + (classes - 2) * (x[:, 2] > 0.5)
    if holes:
        x[rng.random(x.shape) < 0.3] = np.nan
    return x, y


def test_by_hand() -> None:
    """x_0 <= 1 goes left; a NaN goes right."""
    tree = {"feature": np.array([0, -1, -1]), "threshold": np.array([1.0, 0, 0]), "left": np.array([1, 0, 0]),
            "right": np.array([2, 0, 0]), "missing_left": np.array([False] * 3),
            "value": np.array([[9.0], [2], [5]])}  # fmt: skip
    trees = TreeEnsemble(1)
    assert trees(torch.zeros(2, 1)).tolist() == [[0], [0]]
    trees.take([tree, tree | {"missing_left": np.array([True] * 3)}], np.array([100.0]))
    x = torch.tensor([[1.0], [1.5], [torch.nan]])
    assert trees(x).flatten().tolist() == [104, 110, 107]


@pytest.mark.parametrize("classes", [2, 3])
def test_a_forest_is_scikit_learns(classes: int) -> None:
    x, y = made(classes, False)
    forest = RandomForestClassifier(40, random_state=0).fit(x[:200], y[:200])
    trees = TreeEnsemble(classes + 1)  # one class more, that training had not
    trees.take(forest_trees(forest, forest.classes_, classes + 1), np.zeros(classes + 1))
    found = trees(torch.from_numpy(x)).numpy()
    assert np.abs(found[:, :-1] - forest.predict_proba(x)).max() < 1e-6 and (found[:, -1] == 0).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_boosted_trees_are_scikit_learns(classes: int) -> None:
    x, y = made(classes, True)
    model = HistGradientBoostingClassifier(max_iter=20, early_stopping=False).fit(x[:200], y[:200])
    x = np.concatenate([x, np.full((1, 6), np.nan, np.float32), np.full((1, 6), 1e30, np.float32)])
    trees = TreeEnsemble(classes)
    trees.take(*boosted_trees(model, model.classes_, classes))
    found = trees(torch.from_numpy(x)).softmax(-1).numpy()
    assert np.abs(found - model.predict_proba(x)).max() < 1e-6


def test_a_state_brings_its_own_size() -> None:
    x, y = made(2, False)
    forest = RandomForestClassifier(3, random_state=0).fit(x, y)
    trees, other = TreeEnsemble(2), torch.nn.ModuleList([TreeEnsemble(2)])
    trees.take(forest_trees(forest, forest.classes_, 2), np.zeros(2))
    other.load_state_dict({f"0.{name}": value for name, value in trees.state_dict().items()})
    assert torch.equal(other[0](torch.from_numpy(x)), trees(torch.from_numpy(x)))
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({"0.roots": trees.roots})
