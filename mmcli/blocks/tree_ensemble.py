"""Decision trees as tensors: all trees of a forest or of a boosted ensemble descended at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

FIELDS = ("feature", "threshold", "left", "right", "missing_left", "value", "roots")
Arrays = Mapping[str, NDArray[Any]]


class TreeEnsemble(nn.Module):
    """T trees of N nodes altogether: the sum of their leaves' values for each row, plus a start.

    Buffers: feature (N,), -1 at a leaf; threshold (N,), a row goes left where its feature is at most that; left, right
    (N,); missing_left (N,), where a NaN goes; value (N, K); roots (T,); start (K,). Their sizes are those of the trees
    that were grown, so that loading a state takes them over.
    """

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    missing_left: Tensor
    value: Tensor
    roots: Tensor
    start: Tensor

    def __init__(self, outputs: int) -> None:
        """An ensemble without a tree, which answers 0 for each of `outputs`."""
        super().__init__()
        self.take([], np.zeros(outputs))

    def take(self, trees: Sequence[Arrays], start: NDArray[np.float64]) -> None:
        """Take over trees, each with the arrays of FIELDS but `roots`, its own root first; `start` (K,)."""
        first = np.cumsum([0] + [len(t["feature"]) for t in trees])
        empty = {"value": np.zeros((0, len(start))), "threshold": np.zeros(0), "missing_left": np.zeros(0, bool)}
        for name in FIELDS[:-1]:
            shifts = first if name in ("left", "right") else np.zeros_like(first)
            parts = [t[name] + shift if shift else t[name] for t, shift in zip(trees, shifts, strict=False)]
            array = np.concatenate(parts) if parts else empty.get(name, np.zeros(0))
            kind = {"value": np.float64, "threshold": np.float64, "missing_left": np.bool_}.get(name, np.int32)
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array, kind)))
        self.register_buffer("roots", torch.from_numpy(first[:-1].astype(np.int32)))
        self.register_buffer("start", torch.from_numpy(np.asarray(start, np.float64)))

    def leaves(self, x: Tensor) -> Tensor:
        """(n, T) the leaf that each row (n, p) reaches in each tree."""
        at = self.roots.long().expand(len(x), -1)
        x = x.double()
        while True:
            feature = self.feature[at].long()
            if not bool((feature >= 0).any()):
                return at
            cell = x.gather(1, feature.clamp(min=0))
            goes_left = torch.where(cell.isnan(), self.missing_left[at], cell <= self.threshold[at])
            below = torch.where(goes_left, self.left[at], self.right[at]).long()
            at = torch.where(feature >= 0, below, at)

    def forward(self, x: Tensor) -> Tensor:
        """(n, p), NaN where a cell is not known, to (n, K), float64."""
        if not len(self.roots):
            return self.start.expand(len(x), -1)
        return self.value[self.leaves(x)].sum(1) + self.start

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self._buffers:
            if prefix + name in state_dict:
                self.register_buffer(name, torch.empty_like(state_dict[prefix + name], device=self.start.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def forest_trees(forest: Any, columns: NDArray[np.int64], classes: int) -> list[Arrays]:
    """The trees of scikit-learn's RandomForestClassifier, each leaf's class shares divided by the number of trees;
    `columns[i]` is the class (of `classes`) of its i-th one. Rows must be float32, as the forest sees them."""
    trees: list[Arrays] = []
    for estimator in forest.estimators_:
        tree = estimator.tree_
        shares = tree.value[:, 0, :]
        value = np.zeros((tree.node_count, classes))
        value[:, columns] = shares / shares.sum(1, keepdims=True) / len(forest.estimators_)
        trees.append({
            "feature": np.where(tree.children_left < 0, -1, tree.feature), "threshold": tree.threshold,
            "left": np.maximum(tree.children_left, 0), "right": np.maximum(tree.children_right, 0),
            "missing_left": tree.missing_go_to_left.astype(bool), "value": value,
        })  # fmt: skip
    return trees


def boosted_trees(model: Any, columns: NDArray[np.int64], classes: int) -> tuple[list[Arrays], NDArray[np.float64]]:
    """The trees of scikit-learn's HistGradientBoostingClassifier and its start, as logits: of two classes the first
    one's is 0. scikit-learn has no public name for them (checked against its predictions by the tests)."""
    own = columns[1:] if len(columns) == 2 else columns
    start: NDArray[np.float64] = np.zeros(classes)
    start[own] = np.ravel(model._baseline_prediction).astype(float)
    trees: list[Arrays] = []
    for round_ in model._predictors:
        for column, predictor in zip(own, round_, strict=True):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(bool)
            value = np.zeros((len(nodes), classes))
            value[:, column] = np.where(leaf, nodes["value"], 0)
            trees.append({
                "feature": np.where(leaf, -1, nodes["feature_idx"].astype(np.int64)),
                "threshold": nodes["num_threshold"], "left": nodes["left"].astype(np.int64),
                "right": nodes["right"].astype(np.int64), "missing_left": nodes["missing_go_to_left"].astype(bool),
                "value": value,
            })  # fmt: skip
    return trees, start
