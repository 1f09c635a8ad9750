"""The one batch type: what the engine hands to a method."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mmcli.store.batch import PackedBag
from mmcli.training.seeds import derive


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
    stage adds, such as "teacher.<task>" (n, K) probabilities, NaN where the teacher has nothing to go by.

    `teacher`, for a method that needs the teacher itself, are the same patients as the teacher takes them, by its own
    preparation: in training with all of its modalities, at inference with the student's alone. `noise_keys` are
    there at inference: what the noise of each patient is derived from, the part and the patient.
    """

    rows: Tensor
    bags: dict[str, PackedBag]
    tables: dict[str, TableRows]
    labels: dict[str, Tensor]
    extra: dict[str, Tensor] = field(default_factory=dict)
    teacher: Batch | None = None
    noise_keys: list[tuple[object, ...]] | None = None

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
            None if self.teacher is None else self.teacher.to(device),
            self.noise_keys,
        )

    def with_noise_keys(self, keys: list[tuple[object, ...]]) -> Batch:
        """The same at inference; the teacher's noise is another one."""
        teacher = self.teacher
        if teacher is not None:
            teacher = teacher.with_noise_keys([(*key, "teacher") for key in keys])
        return replace(self, noise_keys=keys, teacher=teacher)

    def noise(self, name: str, *shape: int) -> Tensor:
        """Standard normal noise (n, *shape). At inference a patient's row depends on the part, the patient, `name` and
        the shape, and not on who else is in the batch, nor on the device; in training it comes from torch's generator
        as `torch.randn`. Noise that is asked for twice needs two names."""
        if self.noise_keys is None:
            return torch.randn(len(self), *shape, device=self.rows.device)
        rows = torch.empty(len(self), *shape)
        own = torch.Generator()
        for row, key in zip(rows, self.noise_keys, strict=True):
            row.normal_(generator=own.manual_seed(derive(*key, name)))
        return rows.to(self.rows.device)


@dataclass(frozen=True)
class Roster:
    """Who could take part in a phase, known before any instance is read: the same masks as a batch's, over all
    patients of a role; `teacher` those of the teacher's view, as in a batch."""

    present: dict[str, Tensor]
    labels: dict[str, Tensor]
    extra: dict[str, Tensor]
    teacher: Roster | None = None

    @property
    def labelled(self) -> Tensor:
        """(n,) bool: who has a label of any task."""
        return torch.stack([y >= 0 for y in self.labels.values()]).any(0)
