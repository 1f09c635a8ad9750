"""A modality of a store slide by slide, as the layouts of other tools have it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcli.errors import RequestError
from mmcli.store.join import JoinedBag
from mmcli.store.parts import Patients, Source


@dataclass(frozen=True)
class Target:
    """One file to write: its name without suffix, the patient's row, and the number of the source among the piece's
    sources (None: all of the patient's instances)."""

    name: str
    patient: int
    source: int | None


@dataclass(frozen=True)
class Plan:
    """What an export writes: the targets in patient order, and the patients with the fold sets that go with them."""

    patients: Patients
    targets: list[Target]


@dataclass(frozen=True)
class Slide:
    """One slide's features (N, dim) and coordinates (N, k) or None, and what the store knows of it."""

    name: str
    patient: str
    features: NDArray[Any]
    coords: NDArray[Any] | None
    columns: tuple[str, ...]
    encoder: str
    settings: dict[str, Any]
    source: Source | None

    @property
    def mpp(self) -> float | None:
        """µm per pixel of level 0, None where the store does not know it."""
        return (self.source.mpp or None) if self.source else None

    @cached_property
    def _about(self) -> dict[str, Any]:
        return json.loads(self.source.about) if self.source and self.source.about else {}

    def own(self, layout: str) -> dict[str, Any]:
        """What the file that was imported from a layout said of itself; empty for a slide that came otherwise."""
        return self._about if self._about.get("layout") == layout else {}

    @property
    def shared(self) -> dict[str, Any]:
        """What an import found to be the same in all files."""
        return dict(self.settings.get("about", {}))

    @property
    def prepared(self) -> dict[str, Any]:
        """How mmcli's preprocess cut the tiles; empty for an imported slide."""
        return dict(self.settings.get("prepared", {}))

    def column(self, name: str) -> NDArray[Any] | None:
        """One column of the coordinates, None where there is none."""
        known = self.coords is not None and name in self.columns
        return self.coords[:, self.columns.index(name)] if known else None  # type: ignore[index]

    def level_0(self, tool: str) -> NDArray[Any]:
        """(N, 2): each tile's top-left corner in level-0 pixels; RequestError where the store does not know it."""
        x, y = self.column("x"), self.column("y")
        if x is None or y is None:
            raise RequestError(
                f"slide {self.name} of patient {self.patient}: has no level-0 coordinates in the store (columns: "
                f"{', '.join(self.columns) or 'none'}), which {tool}'s layout needs; import it again with its MPP, or "
                "give --layout npz"
            )
        return np.stack([x, y], 1)

    def side(self) -> float | None:
        """A tile's side in level-0 pixels, where all tiles of the slide are squares of one size."""
        width, height = self.column("width"), self.column("height")
        if width is None or height is None or not len(width):
            return None
        return float(width[0]) if (width == width[0]).all() and (height == width[0]).all() else None


def targets(bag: JoinedBag, ids: Sequence[str], by_slide: bool) -> list[Target]:
    """One target a slide, named by the stem of its source; or one a patient, named by the id.

    By patient too where the store has no sources. RequestError where two have one name.
    """
    by_slide = by_slide and any("source" in piece.arrays for piece in bag.pieces)
    found: list[Target] = []
    for patient in np.flatnonzero(np.diff(bag.offsets)).tolist():
        if not by_slide:
            found.append(Target(ids[patient], patient, None))
            continue
        piece, _ = bag.where[patient]
        for number in dict.fromkeys(bag.rows("source", patient).tolist()):
            found.append(Target(PurePath(bag.pieces[piece].sources[number].path).stem, patient, number))
    seen: dict[str, Target] = {}
    for target in found:
        if PurePath(target.name).name != target.name or target.name in (".", "..") or "\0" in target.name:
            raise RequestError(f"patient {target.name!r} cannot be a file's name, which the layout makes of it")
        twin = seen.setdefault(target.name.casefold(), target)
        if twin is not target:
            same = "are both named" if twin.name == target.name else "differ by case only:"
            raise RequestError(
                f"{bag.name}: a slide of patient {ids[twin.patient]} and one of patient {ids[target.patient]} {same} "
                f"{target.name!r}, and a file holds one of them; --name-by patient writes a file a patient"
            )
    return found


def slides(bag: JoinedBag, plan: Plan) -> Iterator[Slide]:
    """The planned slides, one patient in memory at a time."""
    columns = tuple(bag.meta.coords)
    with_coords = bool(columns) and any("coords" in piece.arrays for piece in bag.pieces)
    held, arrays = -1, {}
    for target in plan.targets:
        patient = target.patient
        if patient != held:
            names = [
                "features",
                *(["coords"] if with_coords else []),
                *(["source"] if target.source is not None else []),
            ]
            held, arrays = patient, {name: bag.rows(name, patient) for name in names}
        source = _only_source(bag, patient)
        rows: Any = np.s_[:]
        if target.source is not None:
            source = bag.pieces[bag.where[patient, 0]].sources[target.source]
            rows = arrays["source"] == target.source
        yield Slide(
            target.name,
            plan.patients.ids[patient],
            arrays["features"][rows],
            arrays["coords"][rows] if with_coords else None,
            columns if with_coords else (),
            bag.meta.encoder,
            bag.meta.settings,
            source,
        )


def _only_source(bag: JoinedBag, patient: int) -> Source | None:
    """The source of a patient's instances, or one that has what all of them have in common."""
    own = bag.sources(patient)
    if len(own) <= 1:
        return own[0] if own else None
    mpps = {source.mpp for source in own}
    return Source("", 0, "", mpps.pop() if len(mpps) == 1 else 0.0)
