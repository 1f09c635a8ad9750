"""Whose file it is: a file's name against the cohort's path column and its patients' ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from mmcli.cohort import BagSpec
from mmcli.errors import RequestError


@dataclass(frozen=True)
class Owner:
    """The patient (row) that a file belongs to, the slide's number among the patient's (-1: found by the patient's id),
    its MPP where the cohort has it, and whether the file's folder was what told it."""

    patient: int
    number: int = -1
    mpp: float | None = None
    by_folder: bool = False
    rank: tuple[int, str] = (-1, "")


class Owners:
    """Finds owners by the stem of a file that the cohort names, then by a patient's id; for a file whose own name
    says nothing (`<slide>/features.h5`) by its folder's name in the same way."""

    def __init__(self, ids: Sequence[str], spec: BagSpec | None) -> None:
        self._ids = list(ids)
        self._by_id = {name: Owner(i) for i, name in enumerate(ids)}
        self._named: dict[str, list[tuple[PurePath, Owner]]] = {}
        for patient, files in enumerate(spec.files if spec else []):
            mpps = {file.mpp for file in files}
            if len(mpps) == 1:  # all of a patient's slides have one MPP, so that a file named by the id has it too
                self._by_id[ids[patient]] = Owner(patient, mpp=mpps.pop())
            for number, file in enumerate(files):
                owner = Owner(patient, number, file.mpp)
                self._named.setdefault(PurePath(file.shown).stem, []).append((PurePath(file.shown), owner))

    def of_name(self, name: str) -> Owner | None:
        """The owner of a piece that has a name alone."""
        if name in self._by_id:
            return self._by_id[name]
        return self._one(self._named.get(name, []), name, None)

    def of_files(self, files: Sequence[Path]) -> Iterator[tuple[Path, Owner | None]]:
        """Each file with its owner. RequestError where two files are the same slide's, or one may be two slides'."""
        seen: dict[tuple[int, int, bool], Path] = {}
        for file in files:
            owner = self._find(file)
            if owner is not None and not (owner.number < 0 and owner.by_folder):
                twin = seen.setdefault((owner.patient, owner.number, owner.by_folder), file)
                if twin is not file:
                    raise RequestError(
                        f"{file}: is the same slide's as {twin} (patient {self._ids[owner.patient]}); take one of them "
                        "away, or give the folder of one"
                    )
            yield file, owner

    def _find(self, file: Path) -> Owner | None:
        for name, by_folder in ((file.stem, False), (file.parent.name, True)):
            if name in self._named:
                found = self._one(self._named[name], name, None if by_folder else file)
            elif name in self._by_id:
                found = self._by_id[name]
            else:
                continue
            assert found is not None
            rank = (found.number, str(file))
            return Owner(found.patient, found.number, found.mpp, by_folder, rank)
        return None

    def _one(self, found: list[tuple[PurePath, Owner]], name: str, file: Path | None) -> Owner | None:
        """The only owner, or the one whose path ends as the file's does."""
        if len(found) > 1 and file is not None:
            own = file.with_suffix("").parts
            found = [(p, o) for p, o in found if own[-len(p.parts) :] == p.with_suffix("").parts] or found
        if len(found) > 1:
            one, two = (self._ids[owner.patient] for _, owner in found[:2])
            who = f"of patient {one} and of patient {two}" if one != two else f"of patient {one} twice"
            raise RequestError(
                f"{file or name}: {name!r} is the stem of a slide {who} in the cohort, so that its owner is not clear; "
                "rename one, or keep the cohort's folders"
            )
        return found[0][1] if found else None

    def nearly(self, strangers: Sequence[str]) -> str:
        """The tail of a message: a name that differs from the cohort's by upper and lower case only."""
        known = {name.casefold(): name for name in [*self._by_id, *self._named]}
        for name in strangers:
            if near := known.get(name.casefold()):
                return f"; {name!r} differs from the cohort's {near!r} by upper and lower case only: rename it"
        return ""
