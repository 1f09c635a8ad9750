"""The one batch type: what the engine hands to a method."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmcli.store.batch import PackedBag


@dataclass(frozen=True)
class TableRows:
    """n patients' rows of a table after encoding.

    values (n, f) float32: standardised by the training patients, 0 (the training mean) where nothing is known;
    observed (n, f) float32, 1 where the cell was observed (an imputed cell has a value and is not observed);
    present (n,) bool. Rows of patients without the table are 0.
    """

    values: Tensor
    observed: Tensor
    present: Tensor

    def to(self, device: torch.device) -> TableRows:
        """The same on another device."""
        return TableRows(self.values.to(device), self.observed.to(device), self.present.to(device))


@dataclass(frozen=True)
class Batch:
    """n patients. `labels[task]` (n,) int64, -1 without one; `extra` holds further per-patient tensors (n, ...) that a
    stage adds, such as "teacher.<task>" (n, K) probabilities, NaN where the teacher has nothing to go by."""

    rows: Tensor
    bags: dict[str, PackedBag]
    tables: dict[str, TableRows]
    labels: dict[str, Tensor]
    extra: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def present(self) -> dict[str, Tensor]:
        """(n,) bool for each modality: bags, then tables."""
        return {n: x.present for group in (self.bags, self.tables) for n, x in group.items()}

    @property
    def labelled(self) -> Tensor:
        """(n,) bool: who has a label of any task."""
        return torch.stack([y >= 0 for y in self.labels.values()]).any(0)

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(
            self.rows.to(device),
            {n: b.to(device) for n, b in self.bags.items()},
            {n: t.to(device) for n, t in self.tables.items()},
            {n: y.to(device) for n, y in self.labels.items()},
            {n: x.to(device) for n, x in self.extra.items()},
        )


@dataclass(frozen=True)
class Roster:
    """Who could take part in a phase, known before any instance is read: the same masks as a batch's, over all
    patients of a role."""

    present: dict[str, Tensor]
    labels: dict[str, Tensor]
    extra: dict[str, Tensor]

    @property
    def labelled(self) -> Tensor:
        """(n,) bool: who has a label of any task."""
        return torch.stack([y >= 0 for y in self.labels.values()]).any(0)
