"""The contract of a layout: it reads pieces of features that a name belongs to, and writes a modality's slides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from numpy.typing import NDArray

from mmcli.store.join import JoinedBag
from mmcli.store.layouts.slides import Plan

Unit = Literal["um", "px"]


@dataclass(frozen=True)
class Given:
    """What a file may lack and the user said: MPP of level 0 in µm per pixel, unit of coordinates that name none."""

    mpp: float | None = None
    unit: Unit | None = None


@dataclass(frozen=True)
class Piece:
    """Features of one slide or patient: `name` is a patient's id or the stem of a file that the cohort names.

    features (N, dim); coords (N, k) with `columns` (x, y, width, height at level 0 where known), or None. `encoder` is
    "" where the file does not say it; `shared` is what must be the same in all files of a modality; `about` is the
    file's own, in JSON values, from which an export makes the same file again.
    """

    name: str
    file: Path
    features: NDArray[Any]
    coords: NDArray[Any] | None = None
    columns: tuple[str, ...] = ()
    encoder: str = ""
    shared: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


class Layout(ABC):
    """One layout. Reading raises UnreadableError for a file that is not of it, RequestError for a wrong folder.

    `one_a_file`: a file holds one piece, named by the file's stem. `slides_only`: it has tiles of slides and nothing
    else. `suffix`: what one exported file is called, "" for a folder of files.
    """

    one_a_file: ClassVar[bool]
    slides_only: ClassVar[bool] = False
    suffix: ClassVar[str] = ""

    @abstractmethod
    def files(self, folder: Path) -> list[Path]:
        """The files that hold features, in a fixed order."""

    @abstractmethod
    def pieces(self, file: Path, given: Given) -> Iterator[Piece]:
        """The pieces of one file."""

    @abstractmethod
    def write(self, bag: JoinedBag, plan: Plan, out: Path, about: dict[str, Any]) -> None:
        """Write the planned slides of a modality into the folder `out`, which is new, or to the file `out`.

        A layout of one file keeps `about` (JSON values: what was asked) in it, for `written_for`.
        """

    def written_for(self, file: Path) -> dict[str, Any] | None:
        """The `about` of a file that `write` made, None where it is none."""
        return None
