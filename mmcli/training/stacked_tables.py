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
        tables = [[(x.values, x.observed) for x in view.tables.values()] for view in views.values()]
        cells = [torch.cat([x for pair in of for x in pair], 1) for of in tables]
        present = [torch.stack([x.present for x in view.tables.values()], 1) for view in views.values()]
        self.cells, self.present = (torch.cat([_one_more(x, 0) for x in of]) for of in (cells, present))
        self.names, self.widths = list(first.tables), [x.shape[1] for pair in tables[0] for x in pair]
        self.labels = _one_more(torch.stack(list(first.labels.values()), 1), -1)
        self.tasks = list(first.labels)
        tasks = [t.name for t in trainers[0].method.spec.tasks]
        self.weights = {
            name: torch.tensor([t.method.spec.tasks[i].weights for t in trainers], dtype=torch.float32)
            for i, name in enumerate(tasks)
        }

    def keep(self, parts: list[int]) -> None:
        """Go on with these parts alone."""
        self.offsets = self.offsets[parts]
        self.weights = {name: x[parts] for name, x in self.weights.items()}

    def inputs(self, chosen: Sequence[Ints], width: int) -> Inputs:
        """The patients of each part (K, width), filled up with nobody."""
        rows = np.full((len(chosen), width), self.nobody)
        for k, own in enumerate(chosen):
            rows[k, : len(own)] = own
        index = torch.from_numpy(rows)
        at = torch.from_numpy(rows + self.offsets[:, None]).flatten()
        cells = self.cells.index_select(0, at).view(*rows.shape, -1).split_with_sizes(self.widths, -1)
        present = self.present.index_select(0, at).view(*rows.shape, -1).unbind(-1)
        labels = self.labels.index_select(0, index.flatten()).view(*rows.shape, -1).unbind(-1)
        return {
            "rows": index,
            "labels": dict(zip(self.tasks, labels, strict=True)),
            "weights": self.weights,
            "values": dict(zip(self.names, cells[::2], strict=True)),
            "observed": dict(zip(self.names, cells[1::2], strict=True)),
            "present": dict(zip(self.names, present, strict=True)),
        }


def _one_more(x: Tensor, value: float) -> Tensor:
    return torch.cat([x, x.new_full((1, *x.shape[1:]), value)])
