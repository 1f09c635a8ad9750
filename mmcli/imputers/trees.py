"""Extremely randomised trees as plain arrays, all trees of a forest grown at once, level by level.

Geurts, Ernst and Wehenkel, Extremely randomized trees, Machine Learning 63 (2006) 3-42: every tree sees all rows; a
node draws some features and one uniform threshold for each, and takes the split that leaves the least squared error
(for indicators of categories that is the Gini index). Departure: the features of a node are drawn with replacement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Forest:
    """Trees of N nodes altogether. feature (N,), -1 at a leaf; threshold (N,), a row goes left where its feature is at
    most that; left (N,), the right child is left + 1; value (N, q), the mean target of the node's rows; roots (T,)."""

    feature: Ints
    threshold: Floats
    left: Ints
    value: Floats
    roots: Ints

    def leaves(self, x: Floats) -> NDArray[np.int64]:
        """(n, T) the leaf that each row (n, p) reaches in each tree."""
        at = np.repeat(self.roots[None].astype(np.int64), len(x), 0)
        rows = np.arange(len(x))[:, None]
        while True:
            feature = self.feature[at]
            inner = feature >= 0
            if not inner.any():
                return at
            right = x[rows, np.maximum(feature, 0)] > self.threshold[at]
            at = np.where(inner, self.left[at] + right, at)

    def predict(self, x: Floats) -> Floats:
        """(n, q) mean over the trees for rows (n, p)."""
        predicted: Floats = self.value[self.leaves(x)].mean(1)
        return predicted

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """The forest as arrays named `name`-..., for `from_arrays`."""
        return {f"{name}-{field}": getattr(self, field) for field in FIELDS}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, NDArray[Any]]) -> Forest:
        """The forest that `arrays` gave."""
        return cls(*(arrays[f"{name}-{field}"] for field in FIELDS))


def join(forests: Sequence[Forest]) -> Forest:
    """One forest of all trees."""
    first = np.cumsum([0] + [len(f.feature) for f in forests[:-1]])
    shifted = [np.where(f.feature >= 0, f.left + n, 0).astype(np.int32) for f, n in zip(forests, first, strict=True)]
    return Forest(
        np.concatenate([f.feature for f in forests]), np.concatenate([f.threshold for f in forests]),
        np.concatenate(shifted), np.concatenate([f.value for f in forests]),
        np.concatenate([f.roots + n for f, n in zip(forests, first, strict=True)]).astype(np.int32),
    )  # fmt: skip


FIELDS = ("feature", "threshold", "left", "value", "roots")


def grow(x: Floats, y: Floats, rng: np.random.Generator, *, trees: int, leaf: int, features: int) -> Forest:
    """A forest on rows `x` (n, p) and targets `y` (n, q): no leaf with fewer than `leaf` rows (unless n is), and
    `features` draws of a feature at each node."""
    n, p = x.shape
    rows = np.tile(np.arange(n), trees)  # the rows of all open nodes, node after node
    sizes = np.full(trees, n)
    feature, threshold, left, value = [], [], [], []
    first, total = 0, trees
    while len(sizes):
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        target = y[rows]
        sums = np.add.reduceat(target, starts, 0)
        value.append(sums / sizes[:, None])
        draws = rng.integers(0, p, (len(sizes), features))
        cells = x[rows[:, None], np.repeat(draws, sizes, 0)]
        low, high = np.minimum.reduceat(cells, starts, 0), np.maximum.reduceat(cells, starts, 0)
        cut = low + (high - low) * rng.random(low.shape)
        goes = cells > np.repeat(cut, sizes, 0)
        above = np.add.reduceat(goes, starts, 0, dtype=np.int64)
        score = np.zeros(low.shape)
        for q in range(y.shape[1]):
            upper = np.add.reduceat(np.where(goes, target[:, q, None], 0), starts, 0)
            score += upper**2 / np.maximum(above, 1)
            score += (sums[:, q, None] - upper) ** 2 / np.maximum(sizes[:, None] - above, 1)
        score[(above < leaf) | (sizes[:, None] - above < leaf)] = -np.inf
        best = score.argmax(1)
        nodes = np.arange(len(sizes))
        gain = score[nodes, best] - (sums**2).sum(1) / sizes
        # A node whose targets are equal has nothing to gain but rounding.
        split = gain > 1e-12 * np.add.reduceat((target**2).sum(1), starts)
        feature.append(np.where(split, draws[nodes, best], -1))
        threshold.append(np.where(split, cut[nodes, best], 0))
        children = first + len(sizes) + 2 * (np.cumsum(split) - 1)
        left.append(np.where(split, children, 0))
        first += len(sizes)
        total += 2 * int(split.sum())
        kept = np.repeat(split, sizes)
        node = np.repeat(nodes, sizes)[kept]
        side = goes[np.arange(len(rows)), best[np.repeat(nodes, sizes)]][kept]
        child = 2 * (np.cumsum(split) - 1)[node] + side
        order = np.argsort(child, kind="stable")
        rows = rows[kept][order]
        sizes = np.bincount(child, minlength=2 * int(split.sum())) if len(child) else np.zeros(0, np.int64)
    return Forest(
        np.concatenate(feature).astype(np.int32), np.concatenate(threshold), np.concatenate(left).astype(np.int32),
        np.concatenate(value), np.arange(trees, dtype=np.int32),
    )  # fmt: skip
