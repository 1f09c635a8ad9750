"""`mmcli store import`: features that another tool made, into a feature store."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from mmcli.cohort import BagSpec, Cohort, TableSpec, read_cohort
from mmcli.errors import RequestError, UnreadableError
from mmcli.files import fingerprint
from mmcli.progress import note, track
from mmcli.readers.table import read_table
from mmcli.settings import StoreImportSettings
from mmcli.stages.common import existing_request, failed_patients, failure_code, write_failures
from mmcli.stages.outcome import Outcome, is_done
from mmcli.store import BagMeta, Instances, Source, Spool, write_store
from mmcli.store.layouts import LAYOUTS
from mmcli.store.layouts.layout import Layout, Piece

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+@-]*")


def run(settings: StoreImportSettings) -> Outcome:
    """Read every file of a layout; it belongs to the patient whose path column, or whose id, is its stem."""
    cohort = read_cohort(settings.cohort, settings.root, paths="ignore")
    layout, out = LAYOUTS.get(settings.layout)(), settings.out
    if not settings.folder.exists():
        raise RequestError(f"{settings.folder}: no such file or folder")
    if not NAME.fullmatch(settings.modality):
        raise RequestError(f"--modality: {settings.modality!r} cannot be a name; use letters, digits and _ . + - @")
    if settings.folder.is_dir() and out.resolve().is_relative_to(settings.folder.resolve()):
        raise RequestError(f"--out {out} lies in the folder that is read; give another --out")
    files = layout.files(settings.folder)
    inputs = hashlib.sha256("".join(fingerprint(f) for f in [*cohort.files, *files]).encode()).hexdigest()
    request = {**settings.request(), "command": "store import", "inputs": inputs}
    if is_done(out, request, existing_request(out, files, settings.force), settings.force):
        failed = failed_patients(out)
        return Outcome(
            f"{out} holds this already: nothing to do", exit_code=failure_code(failed, settings.allow_failures)
        )
    if settings.dry_run:
        return Outcome(f"would read {len(files)} files and write {out}")
    with Spool(out, request, fresh=True) as spool:
        work = _Import(settings, cohort, layout, spool)
        work.read(files)
        ids = cohort.patients.ids
        if not any(entry.present for entry in spool.entries.values()):
            first = ", ".join(work.strangers[:3]) or next((f["reason"] for f in work.failures), "nothing")
            raise RequestError(
                f"{settings.folder}: nothing in it belongs to a patient of the cohort (first there: {first}; "
                f"first patients: {', '.join(ids[:3])})"
            )
        tables = {n: read_table(m) for n, m in cohort.modalities.items() if isinstance(m, TableSpec)}
        data = {settings.modality: spool.bag_data(settings.modality, work.meta(), len(ids))}
        write_store(out, request, cohort.patients, tables, data, compression=settings.compression)
        spool.discard()
    return work.outcome()


class _Import:
    """One import: which piece belongs to whom, what could not be read, what the first piece was like."""

    def __init__(self, settings: StoreImportSettings, cohort: Cohort, layout: Layout, spool: Spool) -> None:
        self.settings, self.cohort, self.layout, self.spool = settings, cohort, layout, spool
        self.failures: list[dict[str, str]] = []
        self.strangers: list[str] = []
        self.first: Piece | None = None
        self.fingerprints: dict[Path, str] = {}
        spec = cohort.modalities.get(settings.modality)
        self.spec = spec if isinstance(spec, BagSpec) else None
        named = [(f, i) for i, files in enumerate(self.spec.files) for f in files] if self.spec else []
        self.owners = {Path(f.shown).stem: i for f, i in named} or {p: i for i, p in enumerate(cohort.patients.ids)}
        self.mpps = {Path(f.shown).stem: f.mpp for f, _ in named}

    def read(self, files: list[Path]) -> None:
        """Read all files. Where a file is one piece, a patient's are in memory at a time; otherwise all are."""
        if not self.layout.one_a_file:
            self._add([piece for file in files for piece in self._pieces(file)])
            return
        groups: dict[str, list[Path]] = {}
        for file in files:
            owner = self.owners.get(file.stem)
            groups.setdefault(f"stranger {file.stem}" if owner is None else str(owner), []).append(file)
        for group in track(groups.values(), len(groups), self.settings.layout, self.settings.quiet):
            if group[0].stem not in self.owners:
                self.strangers.append(group[0].stem)
            else:
                self._add([piece for file in group for piece in self._pieces(file)])

    def _pieces(self, file: Path) -> list[Piece]:
        try:
            pieces = list(self.layout.pieces(file, self.settings.mpp or self.mpps.get(file.stem)))
            for piece in pieces:
                self._check(piece)
        except UnreadableError as error:
            owner = self.owners.get(file.stem)
            patient = self.cohort.patients.ids[owner] if owner is not None else ""
            self.failures.append(
                {"patient_id": patient, "modality": self.settings.modality, "path": str(file), "reason": str(error)}
            )
            if owner is not None:
                self.spool.add_failed(self.settings.modality, owner, str(error))
            return []
        return pieces

    def _check(self, piece: Piece) -> None:
        if not np.isfinite(piece.features).all():
            raise UnreadableError(f"{piece.file}: features of {piece.name} hold NaN or infinity")
        self.first = self.first or piece
        for what, own, first in (
            ("dimensions", piece.features.shape[1], self.first.features.shape[1]),
            ("precision", piece.features.dtype, self.first.features.dtype),
            ("coordinates", piece.columns, self.first.columns),
            ("extractor", piece.about.get("extractor"), self.first.about.get("extractor")),
        ):
            if own != first:
                raise RequestError(
                    f"{piece.file}: other {what} ({own}) than {self.first.file.name} ({first}); import them apart"
                )

    def _add(self, pieces: list[Piece]) -> None:
        own: dict[int, list[Piece]] = {}
        for piece in pieces:
            owner = self.owners.get(piece.name)
            if owner is None:
                self.strangers.append(piece.name)
            else:
                own.setdefault(owner, []).append(piece)
        for patient, parts in own.items():
            if (self.settings.modality, patient) in self.spool:
                continue  # another file of this patient could not be read: no bag with a part missing
            coords = [p.coords for p in parts if p.coords is not None]
            sources = tuple(self._source(p) for p in parts)
            counts = [len(p.features) for p in parts]
            bag = Instances(
                sum(counts),
                np.concatenate([p.features for p in parts]),
                np.concatenate(coords) if coords else None,
                source=np.repeat(np.arange(len(parts), dtype=np.int32), counts),
                sources=sources,
            )
            self.spool.add(self.settings.modality, patient, bag)

    def _source(self, piece: Piece) -> Source:
        file = piece.file
        if file not in self.fingerprints:
            self.fingerprints[file] = fingerprint(file)
        mpp = self.settings.mpp or self.mpps.get(file.stem) or 0.0
        return Source(file.name, file.stat().st_size, self.fingerprints[file], mpp)

    def meta(self) -> BagMeta:
        """What holds for the whole modality, as the first piece says it."""
        assert self.first is not None
        about = self.first.about
        settings = {"layout": self.settings.layout, "about": about}
        kind = self.spec.kind if self.spec else "slide"
        return BagMeta(kind, str(about.get("extractor", self.settings.layout)), "", settings, self.first.columns)

    def outcome(self) -> Outcome:
        """What was read, what failed, what belongs to nobody."""
        settings, total = self.settings, len(self.cohort.patients)
        if self.strangers:
            shown = ", ".join(self.strangers[:3])
            note(f"{len(self.strangers)} pieces belong to no patient of the cohort ({shown}): left out", settings.quiet)
        count = sum(entry.present for entry in self.spool.entries.values())
        listed = write_failures(settings.out, self.failures)
        message = f"{settings.out}: {settings.modality} of {count} of {total} patients"
        message += f"; {len(self.failures)} files failed, listed in {listed}" if listed else ""
        data = {
            "out": str(settings.out),
            "patients": count,
            "failed": len(self.failures),
            "left_out": len(self.strangers),
        }
        return Outcome(message, data, exit_code=failure_code(len(self.failures), settings.allow_failures))
