"""The contract of a layout: pieces of features that a name belongs to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from mmcli.store.join import JoinedBag


@dataclass(frozen=True)
class Piece:
    """Features of one slide or patient: `name` is a patient's id or the stem of a file that the cohort names.

    features (N, dim); coords (N, k) with `columns` and their unit, or None; `about` is the layout's own provenance.
    """

    name: str
    file: Path
    features: NDArray[Any]
    coords: NDArray[Any] | None = None
    columns: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)


class Layout(ABC):
    """One layout. Reading raises UnreadableError for a file that is not of it, RequestError for a wrong folder.

    `one_a_file`: a file holds one piece, named by the file's stem.
    """

    one_a_file: ClassVar[bool]

    @abstractmethod
    def files(self, folder: Path) -> list[Path]:
        """The files that hold features, in a fixed order."""

    @abstractmethod
    def pieces(self, file: Path, mpp: float | None) -> Iterator[Piece]:
        """The pieces of one file. `mpp` converts units where the layout counts in micrometres."""

    @abstractmethod
    def write(self, bag: JoinedBag, ids: list[str], out: Path) -> int:
        """Write a modality of a store; returns the number of patients written."""
