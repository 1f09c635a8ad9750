"""The patients of a stack: for each part a batch of the same width, filled up with somebody who has nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmcli.training.engine import Trainer
from mmcli.training.stacked_program import Inputs

Ints = NDArray[np.int64]


class StackedTables:
    """The encoded tables of all patients, once for each fold, and a patient more who has nothing."""

    def __init__(self, trainers: list[Trainer]) -> None:
        views = {id(t.data): t.data for t in trainers}
        first = trainers[0].data
        self.nobody = len(first.data)
        self.offsets = np.array([list(views).index(id(t.data)) for t in trainers]) * (self.nobody + 1)
        self.values, self.observed, self.present = (
            {n: torch.cat([_one_more(getattr(v.tables[n], what), 0) for v in views.values()]) for n in first.tables}
            for what in ("values", "observed", "present")
        )
        self.labels = {task: _one_more(y, -1) for task, y in first.labels.items()}
        tasks = [t.name for t in trainers[0].method.spec.tasks]
        self.weights = {
            name: torch.tensor([t.method.spec.tasks[i].weights for t in trainers], dtype=torch.float32)
            for i, name in enumerate(tasks)
        }

    def inputs(self, chosen: Sequence[Ints], width: int) -> Inputs:
        """The patients of each part (K, width), filled up with nobody."""
        rows = np.full((len(chosen), width), self.nobody)
        for k, own in enumerate(chosen):
            rows[k, : len(own)] = own
        index = torch.from_numpy(rows)
        at = torch.from_numpy(rows + self.offsets[:, None]).flatten()
        shown = {
            what: {n: x.index_select(0, at).view(*index.shape, *x.shape[1:]) for n, x in of.items()}
            for what, of in (("values", self.values), ("observed", self.observed), ("present", self.present))
        }
        labels = {task: y[index] for task, y in self.labels.items()}
        return {"rows": index, "labels": labels, "weights": self.weights, **shown}


def _one_more(x: Tensor, value: float) -> Tensor:
    return torch.cat([x, x.new_full((1, *x.shape[1:]), value)])
