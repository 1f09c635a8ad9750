"""What a method is told about the data before it builds its network. Written into each part as JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BagSpec(_Shape):
    """A modality of instances: `dim` numbers each."""

    name: str
    kind: str
    dim: int


class TableSpec(_Shape):
    """A table: its columns after encoding (a categorical column has one for each category of training)."""

    name: str
    columns: list[str]


class TaskSpec(_Shape):
    """A label. `prior` (K,) is each class's share of the labelled training patients, `weights` (K,) the balanced class
    weights n / (K n_c) from the same patients."""

    name: str
    classes: list[str]
    ordinal: bool
    prior: list[float]
    weights: list[float]


class DataSpec(_Shape):
    """Modalities, tables, tasks and, where a stage gives its modalities a part to play, their `roles`
    ("superior", "inferior" -> name)."""

    bags: list[BagSpec]
    tables: list[TableSpec]
    tasks: list[TaskSpec]
    roles: dict[str, str] = {}

    @property
    def modalities(self) -> list[str]:
        """All names: bags, then tables."""
        return [b.name for b in self.bags] + [t.name for t in self.tables]

    def only(self, names: list[str]) -> DataSpec:
        """The same with some of the modalities."""
        return self.model_copy(
            update={
                "bags": [b for b in self.bags if b.name in names],
                "tables": [t for t in self.tables if t.name in names],
            }
        )
