"""`mmcli store import`: features that another tool made, into a feature store."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from mmcli.cohort import BagSpec, Cohort, TableSpec, read_cohort
from mmcli.errors import RequestError, UnreadableError
from mmcli.files import canonical_json, fingerprint
from mmcli.progress import note, track
from mmcli.readers.table import read_table
from mmcli.settings import StoreImportSettings
from mmcli.stages.common import existing_request, failed_patients, failure_code, write_failures
from mmcli.stages.outcome import Outcome, is_done
from mmcli.stages.owners import Owner, Owners
from mmcli.store import BagMeta, Instances, Source, Spool, write_store
from mmcli.store.layouts import LAYOUTS
from mmcli.store.layouts.layout import Given, Layout, Piece

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+@-]*")


def run(settings: StoreImportSettings) -> Outcome:
    """Read every file of a layout; it belongs to the patient whose path column, or whose id, is its stem."""
    cohort = read_cohort(settings.cohort, settings.root, paths="ignore")
    layout, out = LAYOUTS.get(settings.layout)(), settings.out
    if not settings.folder.exists():
        raise RequestError(f"{settings.folder}: no such file or folder")
    if not NAME.fullmatch(settings.modality):
        raise RequestError(f"--modality: {settings.modality!r} cannot be a name; use letters, digits and _ . + - @")
    known = cohort.modalities.get(settings.modality)
    if isinstance(known, TableSpec):
        raise RequestError(
            f"--modality: {settings.modality!r} is a table of the cohort; give the features another name"
        )
    if layout.slides_only and isinstance(known, BagSpec) and known.kind != "slide":
        raise RequestError(f"--layout {settings.layout}: has tiles of slides, and {settings.modality} of the cohort is "
                           f"of kind {known.kind}; give another --modality")  # fmt: skip
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
            raise work.nothing()
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
        self.without_mpp: list[str] = []
        self.first: Piece | None = None
        self.fingerprints: dict[Path, str] = {}
        spec = cohort.modalities.get(settings.modality)
        self.spec = spec if isinstance(spec, BagSpec) else None
        self.owners = Owners(cohort.patients.ids, self.spec)

    def read(self, files: list[Path]) -> None:
        """Read all files. Where a file is one piece, a patient's are in memory at a time; otherwise all are."""
        if not self.layout.one_a_file:
            pieces = [piece for file in files for piece in self._pieces(file, None)]
            owned: dict[int, list[tuple[Piece, Owner]]] = {}
            for piece in pieces:
                owner = self.owners.of_name(piece.name)
                if owner is None:
                    self.strangers.append(piece.name)
                else:
                    owned.setdefault(owner.patient, []).append((piece, owner))
            for patient, own in owned.items():
                self._add(patient, own)
            return
        groups: dict[int, list[tuple[Owner, Path]]] = {}
        for file, owner in self.owners.of_files(files):
            if owner is None:
                self.strangers.append(file.stem)
            else:
                groups.setdefault(owner.patient, []).append((owner, file))
        for patient, group in track(groups.items(), len(groups), self.settings.layout, self.settings.quiet):
            # In the cohort's order of the patient's slides, so that an export that is imported gives the same rows.
            group.sort(key=lambda item: item[0].rank)
            self._add(patient, [(piece, owner) for owner, file in group for piece in self._pieces(file, owner)])

    def _pieces(self, file: Path, owner: Owner | None) -> list[Piece]:
        mpp = self.settings.mpp or (owner.mpp if owner else None)
        try:
            pieces = []
            for piece in self.layout.pieces(file, Given(mpp, self.settings.unit)):
                pieces.append(self._checked(piece))
        except UnreadableError as error:
            self._fail(file, owner.patient if owner else None, str(error))
            return []
        return pieces

    def _fail(self, file: Path, patient: int | None, reason: str) -> None:
        name = "" if patient is None else self.cohort.patients.ids[patient]
        self.failures.append(
            {"patient_id": name, "modality": self.settings.modality, "path": str(file), "reason": reason}
        )
        if patient is not None:
            self.spool.add_failed(self.settings.modality, patient, reason)

    def _checked(self, piece: Piece) -> Piece:
        """A piece that fits the first one, with its encoder's name; features are at most float32."""
        features = piece.features
        if not len(features):
            return piece  # a slide without a tile says nothing of the others
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused as such
            features = features.astype(np.float32) if features.dtype.itemsize > 4 else features
        if not np.isfinite(features).all():
            raise UnreadableError(f"{piece.file}: features of {piece.name} hold NaN or infinity")
        given = self.settings.encoder
        if given and piece.encoder not in ("", given):
            raise RequestError(f"{piece.file}: says that {piece.encoder} made it, --encoder says {given}")
        encoder = piece.encoder or given
        piece = Piece(
            piece.name, piece.file, features, piece.coords, piece.columns, encoder, piece.shared, piece.about
        )  # fmt: skip
        self.first = first = self.first or piece
        compared = [
            ("dimensions", features.shape[1], first.features.shape[1]),
            ("precision", features.dtype, first.features.dtype),
            ("encoder", encoder, first.encoder),
            ("coordinates", piece.columns, first.columns),
            *((name, piece.shared.get(name), first.shared.get(name)) for name in {**first.shared, **piece.shared}),
        ]
        for what, own, others in compared:
            if own != others:
                why = "; the MPP is known of one of them only" if what == "coordinates" and self.without_mpp else ""
                raise RequestError(
                    f"{piece.file}: other {what} ({_shown(own)}) than {first.file.name} ({_shown(others)}){why}; "
                    "import them apart"
                )
        if "x_um" in piece.columns and "x" not in piece.columns:
            self.without_mpp.append(piece.name)
        return piece

    def _add(self, patient: int, pieces: list[tuple[Piece, Owner]]) -> None:
        if (self.settings.modality, patient) in self.spool or not pieces:
            return  # another file of this patient could not be read: no bag with a part missing
        own = [(piece, owner) for piece, owner in pieces if len(piece.features)]
        if not own:
            piece = pieces[0][0]
            self._fail(piece.file, patient, f"{piece.file}: holds no tile; the tool that made it found no tissue")
            return
        parts = [piece for piece, _ in own]
        coords = [p.coords for p in parts if p.coords is not None]
        counts = [len(p.features) for p in parts]
        bag = Instances(
            sum(counts),
            np.concatenate([p.features for p in parts]),
            np.concatenate(coords) if coords else None,
            source=np.repeat(np.arange(len(parts), dtype=np.int32), counts),
            sources=tuple(self._source(piece, owner) for piece, owner in own),
        )
        self.spool.add(self.settings.modality, patient, bag)

    def _source(self, piece: Piece, owner: Owner) -> Source:
        file = piece.file
        if file not in self.fingerprints:
            self.fingerprints[file] = fingerprint(file)
        mpp, origin = (self.settings.mpp, "--mpp") if self.settings.mpp else (owner.mpp, "cohort")
        # With its folders: the features of two encoders are files of one name.
        top = self.settings.folder
        path = file.name if file == top else (Path(top.resolve().name) / file.relative_to(top)).as_posix()
        about = canonical_json(piece.about) if piece.about else ""
        return Source(
            path, file.stat().st_size, self.fingerprints[file], mpp or 0.0, origin if mpp else "none", about=about
        )

    def meta(self) -> BagMeta:
        """What holds for the whole modality, as the first piece says it."""
        assert self.first is not None
        settings = {"layout": self.settings.layout, "about": self.first.shared}
        kind = self.spec.kind if self.spec else "slide"
        return BagMeta(kind, self.first.encoder or self.settings.layout, "", settings, self.first.columns)

    def nothing(self) -> RequestError:
        """Why no patient has anything."""
        folder = self.settings.folder
        if self.failures:
            more = f" and {len(self.failures) - 1} more" if len(self.failures) > 1 else ""
            return RequestError(f"{folder}: no file of it can be taken{more and ' (the first reason of several)'}: "
                                f"{self.failures[0]['reason']}")  # fmt: skip
        ids, first = self.cohort.patients.ids, ", ".join(self.strangers[:3]) or "nothing"
        return RequestError(
            f"{folder}: nothing in it belongs to a patient of the cohort (first there: {first}; first patients: "
            f"{', '.join(ids[:3])}){self.owners.nearly(self.strangers)}"
        )

    def outcome(self) -> Outcome:
        """What was read, what failed, what belongs to nobody."""
        settings, total = self.settings, len(self.cohort.patients)
        if self.strangers:
            shown = ", ".join(self.strangers[:3]) + self.owners.nearly(self.strangers)
            note(f"{len(self.strangers)} pieces belong to no patient of the cohort ({shown}): left out", settings.quiet)
        if self.without_mpp:
            note(
                f"{len(self.without_mpp)} slides have no MPP (first: {self.without_mpp[0]}), so that their coordinates "
                "stay in micrometres; the cohort's mpp column or --mpp turns them to level-0 pixels",
                settings.quiet,
            )
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


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "not said" if value in ("", None) else str(value)
