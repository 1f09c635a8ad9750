"""What a method is told about the data before it builds its network. Written into each part as JSON."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BagSpec(_Shape):
    """A modality of instances: `dim` numbers each, and the shape (c, t, h, w) of the maps that the method asked for."""

    name: str
    kind: str
    dim: int
    maps: dict[str, tuple[int, ...]] = {}


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
    ("superior", "inferior" -> name); `teacher` where the method needs the teacher itself."""

    bags: list[BagSpec]
    tables: list[TableSpec]
    tasks: list[TaskSpec]
    roles: dict[str, str] = {}
    teacher: TeacherSpec | None = None

    @property
    def modalities(self) -> list[str]:
        """All names: bags, then tables."""
        return [b.name for b in self.bags] + [t.name for t in self.tables]

    @property
    def maps(self) -> dict[str, list[str]]:
        """Modality -> the stages whose maps this method, and its teacher of the same modality, reads."""
        own = {b.name: list(b.maps) for b in self.bags}
        return join_maps(own, self.teacher.spec.maps if self.teacher else {})

    def only(self, names: list[str]) -> DataSpec:
        """The same with some of the modalities."""
        return self.model_copy(
            update={
                "bags": [b for b in self.bags if b.name in names],
                "tables": [t for t in self.tables if t.name in names],
            }
        )


def join_maps(own: dict[str, list[str]], teachers: dict[str, list[str]]) -> dict[str, list[str]]:
    """The stages of a method's modalities (all of them keys of `own`), and those that its teacher reads of them."""
    return {name: list(dict.fromkeys([*stages, *teachers.get(name, [])])) for name, stages in own.items()}


class TeacherSpec(_Shape):
    """What a teacher is built from again: its method, that method's settings, and what it was told itself."""

    method: str
    settings: dict[str, Any]
    spec: DataSpec


DataSpec.model_rebuild()
